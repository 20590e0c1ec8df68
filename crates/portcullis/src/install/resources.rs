//! The kinds that are installed and removed, and where an API server has them.

use serde_json::Value;

/// By which GatewayClasses choose this controller.
pub(crate) const CONTROLLER_NAME: &str = "portcullis.dev/gateway-controller";

/// A kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) api_version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    namespaced: bool,
}

const fn cluster(api_version: &'static str, kind: &'static str, plural: &'static str) -> Resource {
    Resource { api_version, kind, plural, namespaced: false }
}

const fn namespaced(api_version: &'static str, kind: &'static str, plural: &'static str) -> Resource {
    Resource { api_version, kind, plural, namespaced: true }
}

pub(crate) const DEFINITIONS: Resource =
    cluster("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions");
pub(crate) const GATEWAY_CLASSES: Resource = cluster("gateway.networking.k8s.io/v1", "GatewayClass", "gatewayclasses");
pub(crate) const GATEWAYS: Resource = namespaced("gateway.networking.k8s.io/v1", "Gateway", "gateways");

pub(crate) const DEPLOYMENTS: Resource = namespaced("apps/v1", "Deployment", "deployments");
pub(crate) const PODS: Resource = namespaced("v1", "Pod", "pods");

/// Where Helm keeps its releases.
pub(crate) const HELM_STORES: &[Resource] =
    &[namespaced("v1", "Secret", "secrets"), namespaced("v1", "ConfigMap", "configmaps")];

/// Every kind that is installed.
const INSTALLED: &[Resource] = &[
    cluster("v1", "Namespace", "namespaces"),
    namespaced("v1", "Service", "services"),
    namespaced("v1", "ServiceAccount", "serviceaccounts"),
    namespaced("v1", "Secret", "secrets"),
    DEPLOYMENTS,
    namespaced("coordination.k8s.io/v1", "Lease", "leases"),
    namespaced("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    namespaced("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    namespaced("rbac.authorization.k8s.io/v1", "Role", "roles"),
    namespaced("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    cluster("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles"),
    cluster("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings"),
    cluster("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
    cluster("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
    DEFINITIONS,
    GATEWAY_CLASSES,
];

/// Kinds of which a namespace that somebody uses has objects, beside ours.
pub(crate) const IN_USE: &[Resource] = &[
    namespaced("v1", "ConfigMap", "configmaps"),
    namespaced("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    PODS,
    namespaced("v1", "Secret", "secrets"),
    namespaced("v1", "Service", "services"),
    namespaced("v1", "ServiceAccount", "serviceaccounts"),
    namespaced("apps/v1", "DaemonSet", "daemonsets"),
    DEPLOYMENTS,
    namespaced("apps/v1", "StatefulSet", "statefulsets"),
    namespaced("batch/v1", "CronJob", "cronjobs"),
    namespaced("batch/v1", "Job", "jobs"),
    namespaced("rbac.authorization.k8s.io/v1", "Role", "roles"),
    namespaced("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    GATEWAYS,
    namespaced("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    namespaced("portcullis.dev/v1alpha1", "GatewayParameters", "gatewayparameters"),
];

impl Resource {
    /// The kind of an object.
    pub(crate) fn of(object: &Value) -> Option<&'static Self> {
        INSTALLED
            .iter()
            .find(|resource| object["apiVersion"] == resource.api_version && object["kind"] == resource.kind)
    }

    /// Where the objects of the kind, or one of them, are.
    pub(crate) fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut path = match self.api_version {
            "v1" => "/api/v1".to_owned(),
            api_version => format!("/apis/{api_version}"),
        };
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(self.plural);
        if let Some(name) = name {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

/// The name of an object.
pub(crate) fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// `Deployment portcullis-system/portcullis-controller`
pub(crate) fn display(object: &Value) -> String {
    let kind = object["kind"].as_str().unwrap_or_default();
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{}", name(object)),
        None => format!("{kind} {}", name(object)),
    }
}

pub(crate) fn is_definition(object: &Value) -> bool {
    object["kind"] == DEFINITIONS.kind
}

/// The release that an object belongs to, if Helm made it, and the namespace of the release.
pub(crate) fn helm_release(object: &Value) -> Option<(&str, &str)> {
    let annotations = &object["metadata"]["annotations"];
    let says = |name: &str| annotations[name].as_str();
    Some((says("meta.helm.sh/release-name")?, says("meta.helm.sh/release-namespace").unwrap_or_default()))
}

/// The status of a condition.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_has_one_name() {
        assert_eq!(portcullis_compile::Options::default().controller_name, CONTROLLER_NAME);
    }

    #[test]
    fn paths_are_those_of_the_api_server() {
        for (resource, namespace, name, path) in [
            (&INSTALLED[0], None, Some("a"), "/api/v1/namespaces/a"),
            (&INSTALLED[4], Some("a"), Some("b"), "/apis/apps/v1/namespaces/a/deployments/b"),
            (&GATEWAYS, None, None, "/apis/gateway.networking.k8s.io/v1/gateways"),
            (&GATEWAY_CLASSES, Some("a"), None, "/apis/gateway.networking.k8s.io/v1/gatewayclasses"),
        ] {
            assert_eq!(resource.path(namespace, name), path);
        }
    }
}
