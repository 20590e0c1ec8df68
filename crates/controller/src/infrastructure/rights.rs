//! What the controller must be allowed to do for data planes: the one table from which roles are made and against which they are tested;
//! and what it may not do although its role allows it, for a ValidatingAdmissionPolicy.

use portcullis_cluster::{Place, Right};

use super::kind::Kind;

/// Objects are found (list), read before they are touched for the first time (get), applied (create and patch), and deleted.
const VERBS: &[&str] = &["create", "delete", "get", "list", "patch"];

/// Every right beyond those of reading a cluster ([`portcullis_cluster::rights`]), in the order of the kinds. Where the controller serves only
/// listed namespaces they are needed there alone.
pub const RIGHTS: &[Right] = &{
    let mut rights =
        [Right { group: "", resource: "", verbs: VERBS, place: Place::Namespaces, owned: false }; Kind::ALL.len()];
    let mut index = 0;
    while index < Kind::ALL.len() {
        rights[index].group = Kind::ALL[index].group();
        rights[index].resource = Kind::ALL[index].resource();
        index += 1;
    }
    rights
};

/// One rule of a ValidatingAdmissionPolicy for what the controller's ServiceAccount creates or updates.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Confinement {
    /// The resources, as `apps/deployments`; the core group has no name: `services`.
    pub resources: &'static [&'static str],
    /// CEL. `variables.image` is the image of data planes, which the policy's author defines.
    pub expression: &'static str,
    /// What is said when it does not hold.
    pub message: &'static str,
}

const ALL: &[&str] = &[
    "serviceaccounts",
    "configmaps",
    "services",
    "networking.k8s.io/networkpolicies",
    "policy/poddisruptionbudgets",
    "apps/deployments",
    "autoscaling/horizontalpodautoscalers",
];

/// What holds for everything that the controller creates or updates of these kinds. Deletion is confined by `managed-by` on the old object.
pub const CONFINEMENT: &[Confinement] = &[
    Confinement {
        resources: ALL,
        expression: "has(object.metadata.ownerReferences) && object.metadata.ownerReferences.exists_one(owner, \
                     has(owner.controller) && owner.controller && owner.kind == 'Gateway' && \
                     owner.apiVersion.startsWith('gateway.networking.k8s.io/'))",
        message: "the controller makes only what a Gateway owns",
    },
    Confinement {
        resources: ALL,
        expression: "has(object.metadata.labels) && 'app.kubernetes.io/managed-by' in object.metadata.labels && \
                     object.metadata.labels['app.kubernetes.io/managed-by'] == 'portcullis'",
        message: "the controller makes only what is labelled as its own",
    },
    Confinement {
        resources: ALL,
        expression: "oldObject == null || (has(oldObject.metadata.labels) && \
                     'app.kubernetes.io/managed-by' in oldObject.metadata.labels && \
                     oldObject.metadata.labels['app.kubernetes.io/managed-by'] == 'portcullis')",
        message: "the controller changes only what is its own",
    },
    Confinement {
        resources: &["serviceaccounts"],
        expression: "has(object.automountServiceAccountToken) && !object.automountServiceAccountToken",
        message: "the ServiceAccount of a data plane gives no access to the API server",
    },
    Confinement {
        resources: &["configmaps"],
        expression: "has(object.data) && object.data.all(key, key == 'ca.crt') && !has(object.binaryData)",
        message: "the ConfigMap of a data plane holds the controller's CA and nothing else",
    },
    Confinement {
        resources: &["services"],
        expression: "object.spec.type in ['LoadBalancer', 'NodePort', 'ClusterIP'] && \
                     (!has(object.spec.externalIPs) || object.spec.externalIPs.size() == 0)",
        message: "the Service of a data plane takes no addresses of others",
    },
    Confinement {
        resources: &["apps/deployments"],
        expression: "object.spec.template.spec.containers.all(container, container.image == variables.image) && \
                     object.spec.template.spec.containers.size() == 1 && \
                     !has(object.spec.template.spec.initContainers) && \
                     !has(object.spec.template.spec.containers[0].command)",
        message: "a data plane runs one container, of the data planes' image",
    },
    Confinement {
        resources: &["apps/deployments"],
        expression: "has(object.spec.template.spec.serviceAccountName) && \
                     object.spec.template.spec.serviceAccountName == object.metadata.name && \
                     has(object.spec.template.spec.automountServiceAccountToken) && \
                     !object.spec.template.spec.automountServiceAccountToken",
        message: "a data plane runs as its own ServiceAccount, without a token for the API server",
    },
    Confinement {
        resources: &["apps/deployments"],
        expression: "(!has(object.spec.template.spec.hostNetwork) || !object.spec.template.spec.hostNetwork) && \
                     (!has(object.spec.template.spec.hostPID) || !object.spec.template.spec.hostPID) && \
                     (!has(object.spec.template.spec.hostIPC) || !object.spec.template.spec.hostIPC) && \
                     (!has(object.spec.template.spec.volumes) || object.spec.template.spec.volumes.all(volume, \
                     has(volume.configMap) || has(volume.csi) || has(volume.downwardAPI) || has(volume.emptyDir) || \
                     has(volume.ephemeral) || has(volume.persistentVolumeClaim) || has(volume.projected) || \
                     has(volume.secret)))",
        message: "a data plane has nothing of its node (restricted Pod Security)",
    },
    Confinement {
        resources: &["apps/deployments"],
        expression: "has(object.spec.template.spec.securityContext) && \
                     has(object.spec.template.spec.securityContext.runAsNonRoot) && \
                     object.spec.template.spec.securityContext.runAsNonRoot && \
                     has(object.spec.template.spec.securityContext.seccompProfile) && \
                     object.spec.template.spec.securityContext.seccompProfile.type in ['RuntimeDefault', 'Localhost'] && \
                     object.spec.template.spec.containers.all(container, has(container.securityContext) && \
                     (!has(container.securityContext.privileged) || !container.securityContext.privileged) && \
                     (!has(container.securityContext.runAsNonRoot) || container.securityContext.runAsNonRoot) && \
                     (!has(container.securityContext.runAsUser) || container.securityContext.runAsUser > 0) && \
                     (!has(container.securityContext.seccompProfile) || \
                     container.securityContext.seccompProfile.type in ['RuntimeDefault', 'Localhost']) && \
                     has(container.securityContext.allowPrivilegeEscalation) && \
                     !container.securityContext.allowPrivilegeEscalation && \
                     has(container.securityContext.readOnlyRootFilesystem) && \
                     container.securityContext.readOnlyRootFilesystem && \
                     has(container.securityContext.capabilities) && \
                     !has(container.securityContext.capabilities.add) && \
                     has(container.securityContext.capabilities.drop) && \
                     container.securityContext.capabilities.drop.exists(capability, capability == 'ALL'))",
        message: "a data plane fits the restricted profile of the Pod Security Standards, on a read-only root",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_rights_and_its_rules() {
        assert_eq!(RIGHTS.len(), Kind::ALL.len());
        for (kind, right) in Kind::ALL.iter().zip(RIGHTS) {
            assert_eq!((right.group, right.resource), (kind.group(), kind.resource()));
            let resource = if kind.group().is_empty() {
                kind.resource().to_owned()
            } else {
                format!("{}/{}", kind.group(), kind.resource())
            };
            assert!(ALL.contains(&resource.as_str()), "{resource}");
        }
        assert_eq!(ALL.len(), Kind::ALL.len());
    }
}
