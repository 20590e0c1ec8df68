//! The kinds that are read, and how; and which of the versions that an API server serves is read.

use std::fmt;

use portcullis_api::object::KNOWN_TYPES;
use portcullis_api::{EXPERIMENTAL_GATEWAY_GROUP, GATEWAY_GROUP, ObjectKey};

/// The group of our own kinds.
pub(crate) const OWN_GROUP: &str = "portcullis.dev";

/// A kind that is read here, without its version: `HTTPRoute.gateway.networking.k8s.io`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KindId {
    /// The API group; empty is the core group.
    pub group: &'static str,
    /// The kind.
    pub kind: &'static str,
}

impl KindId {
    /// Secret.
    pub const SECRET: Self = Self::new("", "Secret");
    /// ConfigMap.
    pub const CONFIG_MAP: Self = Self::new("", "ConfigMap");
    /// Namespace.
    pub const NAMESPACE: Self = Self::new("", "Namespace");
    /// Node.
    pub const NODE: Self = Self::new("", "Node");
    /// Service.
    pub const SERVICE: Self = Self::new("", "Service");
    /// Pod.
    pub const POD: Self = Self::new("", "Pod");
    /// Deployment.
    pub const DEPLOYMENT: Self = Self::new("apps", "Deployment");
    /// CustomResourceDefinition: only its metadata are read.
    pub const DEFINITION: Self = Self::new("apiextensions.k8s.io", "CustomResourceDefinition");

    const fn new(group: &'static str, kind: &'static str) -> Self {
        Self { group, kind }
    }

    /// The resource, as in a URL and in rights.
    pub fn resource(self) -> &'static str {
        WATCHED.iter().find(|watched| watched.id == self).map_or("", |watched| watched.resource)
    }

    pub(crate) fn key(self, namespace: &str, name: &str) -> ObjectKey {
        ObjectKey::new(self.group, self.kind, namespace, name)
    }
}

impl fmt::Display for KindId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            "" => f.write_str(self.kind),
            group => write!(f, "{}.{group}", self.kind),
        }
    }
}

/// The kinds of what a controller made for its Gateways and watches for its own sake.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum OwnedKind {
    /// A Deployment.
    Deployment,
    /// A Pod.
    Pod,
}

/// One kind to read.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) id: KindId,
    /// The resource, as in a URL.
    pub(crate) resource: &'static str,
    pub(crate) reach: Reach,
    pub(crate) content: Content,
}

/// Where the objects of a kind lie, and from which of these places they are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reach {
    /// In the cluster.
    Cluster,
    /// In namespaces: all, or those that are listed.
    Namespaces,
    /// In those namespaces in which Secrets may be read.
    SecretNamespaces,
}

/// What is read of the objects of a kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// Everything.
    Objects,
    /// Metadata, and of those that are wanted everything.
    Bodies,
    /// What the data planes' own objects say about them, only of those that are labelled as ours.
    Owned(OwnedKind),
    /// Metadata, for what they say about releases.
    Definitions,
}

const fn objects(group: &'static str, kind: &'static str, resource: &'static str, reach: Reach) -> Watched {
    Watched { id: KindId::new(group, kind), resource, reach, content: Content::Objects }
}

/// Every kind that is read.
pub(crate) const WATCHED: &[Watched] = &[
    Watched {
        id: KindId::DEFINITION,
        resource: "customresourcedefinitions",
        reach: Reach::Cluster,
        content: Content::Definitions,
    },
    objects(GATEWAY_GROUP, "GatewayClass", "gatewayclasses", Reach::Cluster),
    objects(GATEWAY_GROUP, "Gateway", "gateways", Reach::Namespaces),
    objects(GATEWAY_GROUP, "ListenerSet", "listenersets", Reach::Namespaces),
    objects(GATEWAY_GROUP, "HTTPRoute", "httproutes", Reach::Namespaces),
    objects(GATEWAY_GROUP, "GRPCRoute", "grpcroutes", Reach::Namespaces),
    objects(GATEWAY_GROUP, "TLSRoute", "tlsroutes", Reach::Namespaces),
    objects(GATEWAY_GROUP, "TCPRoute", "tcproutes", Reach::Namespaces),
    objects(GATEWAY_GROUP, "UDPRoute", "udproutes", Reach::Namespaces),
    objects(GATEWAY_GROUP, "ReferenceGrant", "referencegrants", Reach::Namespaces),
    objects(GATEWAY_GROUP, "BackendTLSPolicy", "backendtlspolicies", Reach::Namespaces),
    objects(EXPERIMENTAL_GATEWAY_GROUP, "XListenerSet", "xlistenersets", Reach::Namespaces),
    objects(EXPERIMENTAL_GATEWAY_GROUP, "XBackend", "xbackends", Reach::Namespaces),
    objects(EXPERIMENTAL_GATEWAY_GROUP, "XBackendTrafficPolicy", "xbackendtrafficpolicies", Reach::Namespaces),
    objects(EXPERIMENTAL_GATEWAY_GROUP, "XTelemetryPolicy", "xtelemetrypolicies", Reach::Namespaces),
    objects(OWN_GROUP, "GatewayParameters", "gatewayparameters", Reach::Namespaces),
    objects("", "Namespace", "namespaces", Reach::Cluster),
    objects("", "Node", "nodes", Reach::Cluster),
    objects("", "Service", "services", Reach::Namespaces),
    objects("discovery.k8s.io", "EndpointSlice", "endpointslices", Reach::Namespaces),
    Watched { id: KindId::SECRET, resource: "secrets", reach: Reach::SecretNamespaces, content: Content::Bodies },
    Watched { id: KindId::CONFIG_MAP, resource: "configmaps", reach: Reach::Namespaces, content: Content::Bodies },
    Watched {
        id: KindId::DEPLOYMENT,
        resource: "deployments",
        reach: Reach::Namespaces,
        content: Content::Owned(OwnedKind::Deployment),
    },
    Watched { id: KindId::POD, resource: "pods", reach: Reach::Namespaces, content: Content::Owned(OwnedKind::Pod) },
];

impl Watched {
    /// Whether the kind comes from a CustomResourceDefinition, and so may be missing.
    pub(crate) fn is_custom(&self) -> bool {
        CUSTOM_GROUPS.contains(&self.id.group)
    }

    /// Whether nothing may be published before the kind has been listed.
    pub(crate) fn is_essential(&self) -> bool {
        !matches!(self.content, Content::Owned(_) | Content::Definitions)
    }
}

/// The groups whose kinds come from CustomResourceDefinitions.
pub(crate) const CUSTOM_GROUPS: &[&str] = &[GATEWAY_GROUP, EXPERIMENTAL_GATEWAY_GROUP, OWN_GROUP];

/// The version of a kind to read: the highest of those that are served which has a type, or, of a kind without any type,
/// the highest that is served. None if the kind has types, but for other versions.
pub(crate) fn choose_version<'a>(id: KindId, served: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let mut served: Vec<_> = served.into_iter().collect();
    served.sort_by_key(|version| std::cmp::Reverse(priority(version)));
    let known: Vec<_> = KNOWN_TYPES
        .iter()
        .filter(|(api_version, kind, _)| *kind == id.kind && split_api_version(api_version).0 == id.group)
        .map(|(api_version, _, _)| split_api_version(api_version).1)
        .collect();
    served.into_iter().find(|version| known.is_empty() || known.contains(version))
}

/// Group and version.
fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// By what versions are ordered: stable ones over betas over alphas, then by number; others last.
/// <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#version-priority>
pub(crate) fn priority(version: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let (stage, major, minor) = if let Some((major, minor)) = rest.split_once("alpha") {
            (1, major, minor)
        } else if let Some((major, minor)) = rest.split_once("beta") {
            (2, major, minor)
        } else {
            (3, rest, "0")
        };
        Some((stage, major.parse().ok()?, minor.parse().ok()?))
    };
    parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_with_a_type_is_read() {
        let id = |kind| WATCHED.iter().find(|watched| watched.id.kind == kind).unwrap().id;
        for (kind, served, expected) in [
            ("HTTPRoute", &["v1beta1", "v1"][..], Some("v1")),
            ("HTTPRoute", &["v2", "v1beta1"], Some("v1beta1")),
            ("HTTPRoute", &["v2"], None),
            ("HTTPRoute", &[], None),
            ("TLSRoute", &["v1alpha2", "v1alpha3"], Some("v1alpha3")),
            ("ReferenceGrant", &["v1beta1"], Some("v1beta1")),
            ("Deployment", &["v1beta2", "v1", "v1beta1"], Some("v1")),
            ("Pod", &["odd", "v1alpha10", "v1alpha9"], Some("v1alpha10")),
        ] {
            assert_eq!(choose_version(id(kind), served.iter().copied()), expected, "{kind} {served:?}");
        }
    }

    #[test]
    fn versions_are_ordered_as_by_an_api_server() {
        let ordered = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1"];
        assert!(ordered.is_sorted_by_key(|version| std::cmp::Reverse(priority(version))));
    }
}
