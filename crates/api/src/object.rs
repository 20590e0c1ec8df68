//! Any object: from JSON to the type of its kind and back, and the key by which it is known.
//!
//! In flows one JSON value per object (a YAML document, an item of a list, an event of a watch). Out flows an
//! [`Object`], or an [`ObjectError`] that names the object as far as it could be read; one bad object never harms
//! another.
//!
//! The way back gives the same JSON, with unknown fields and values, except that `null`, an empty optional list or map
//! and an explicit zero where zero means absent are left out, and that the values of a Secret are redacted.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::backend::XBackend;
use crate::backend_tls_policy::{BackendTlsPolicy, BackendTlsPolicyV1Alpha2};
use crate::backend_traffic_policy::XBackendTrafficPolicy;
use crate::cluster_trust_bundle::ClusterTrustBundle;
use crate::config_map::ConfigMap;
use crate::decode::{DecodeError, decode};
use crate::endpoint_slice::EndpointSlice;
use crate::gateway::Gateway;
use crate::gateway_class::GatewayClass;
use crate::gateway_parameters::GatewayParameters;
use crate::grpc_route::GrpcRoute;
use crate::http_route::HttpRoute;
use crate::listener_set::ListenerSet;
use crate::mesh::XMesh;
use crate::meta::{ApiVersion, KindName, ObjectMeta};
use crate::namespace::Namespace;
use crate::node::Node;
use crate::reference_grant::ReferenceGrant;
use crate::secret::Secret;
use crate::service::Service;
use crate::tcp_route::TcpRoute;
use crate::telemetry_policy::XTelemetryPolicy;
use crate::text::Foreign;
use crate::tls_route::TlsRoute;
use crate::udp_route::UdpRoute;

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scope {
    /// In the cluster: the namespace is empty.
    Cluster,
    /// In a namespace.
    Namespaced,
}

/// What every kind with a type here has.
pub trait Resource {
    /// The API version that the object was read from.
    fn api_version(&self) -> ApiVersion;
    /// The kind, as the object spells it.
    fn kind(&self) -> KindName;
    /// Name, namespace and labels.
    fn metadata(&self) -> &ObjectMeta;
    /// Where objects of this kind live.
    fn scope(&self) -> Scope;

    /// The key of the object.
    fn key(&self) -> ObjectKey {
        let namespace = match self.scope() {
            Scope::Cluster => "",
            Scope::Namespaced => self.metadata().namespace.as_deref().unwrap_or_default(),
        };
        ObjectKey(Arc::new(KeyParts {
            group: Cow::Borrowed(self.api_version().group()),
            kind: Cow::Borrowed(self.kind().as_str()),
            namespace: namespace.into(),
            name: self.metadata().name.as_str().into(),
        }))
    }
}

/// The kinds: a variant and type for each, its scope, and the API versions and kind names under which it is served.
macro_rules! kinds {
    ($($(#[$meta:meta])* $variant:ident, $scope:ident, [$(($api_version:literal, $kind:literal)),+];)+) => {
        /// An object of some kind. Cheap to clone.
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub enum Object {
            $($(#[$meta])* $variant(Arc<$variant>),)+
            /// A kind, or a version of one, that has no type here.
            Unknown(Arc<UnknownObject>),
        }

        /// Every API version and kind that has a type here, with its scope.
        pub const KNOWN_TYPES: &[(&str, &str, Scope)] = &[$($(($api_version, $kind, Scope::$scope)),+),+];

        impl Object {
            fn decode_kind(api_version: &str, kind: &str, value: Value) -> Result<Self, DecodeError> {
                match (api_version, kind) {
                    $($(($api_version, $kind))|+ => decode_as(value, Self::$variant),)+
                    _ => UnknownObject::decode(api_version, kind, value).map(|object| Self::Unknown(Arc::new(object))),
                }
            }

            /// The key of the object.
            pub fn key(&self) -> ObjectKey {
                match self {
                    $(Self::$variant(object) => object.key(),)+
                    Self::Unknown(object) => object.key(),
                }
            }

            /// Name, namespace and labels.
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$variant(object) => &object.metadata,)+
                    Self::Unknown(object) => &object.metadata,
                }
            }

            /// Group and version, as in the object.
            pub fn api_version(&self) -> &str {
                match self {
                    $(Self::$variant(object) => object.api_version.as_str(),)+
                    Self::Unknown(object) => &object.api_version,
                }
            }

            /// The kind, as in the object.
            pub fn kind(&self) -> &str {
                match self {
                    $(Self::$variant(object) => object.kind.as_str(),)+
                    Self::Unknown(object) => &object.kind,
                }
            }

            /// The same object at another `metadata.generation`, for sources that number changes themselves.
            pub fn with_generation(mut self, generation: i64) -> Self {
                match &mut self {
                    $(Self::$variant(object) => Arc::make_mut(object).metadata.generation = Some(generation),)+
                    Self::Unknown(object) => Arc::make_mut(object).metadata.generation = Some(generation),
                }
                self
            }

            fn serialize(&self) -> Result<Value, serde_json::Error> {
                match self {
                    $(Self::$variant(object) => serde_json::to_value(object.as_ref()),)+
                    Self::Unknown(object) => Ok(object.raw.clone()),
                }
            }
        }

        $(
            impl Resource for $variant {
                fn api_version(&self) -> ApiVersion {
                    self.api_version
                }

                fn kind(&self) -> KindName {
                    self.kind
                }

                fn metadata(&self) -> &ObjectMeta {
                    &self.metadata
                }

                fn scope(&self) -> Scope {
                    Scope::$scope
                }
            }

            impl From<$variant> for Object {
                fn from(object: $variant) -> Self {
                    Self::$variant(Arc::new(object))
                }
            }
        )+
    };
}

kinds! {
    /// A class of Gateways.
    GatewayClass, Cluster, [
        ("gateway.networking.k8s.io/v1", "GatewayClass"),
        ("gateway.networking.k8s.io/v1beta1", "GatewayClass")
    ];
    /// A Gateway.
    Gateway, Namespaced, [
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("gateway.networking.k8s.io/v1beta1", "Gateway")
    ];
    /// A route for HTTP.
    HttpRoute, Namespaced, [
        ("gateway.networking.k8s.io/v1", "HTTPRoute"),
        ("gateway.networking.k8s.io/v1beta1", "HTTPRoute")
    ];
    /// A route for gRPC.
    GrpcRoute, Namespaced, [("gateway.networking.k8s.io/v1", "GRPCRoute")];
    /// A route for TLS connections.
    TlsRoute, Namespaced, [
        ("gateway.networking.k8s.io/v1", "TLSRoute"),
        ("gateway.networking.k8s.io/v1alpha3", "TLSRoute"),
        ("gateway.networking.k8s.io/v1alpha2", "TLSRoute")
    ];
    /// A route for TCP connections.
    TcpRoute, Namespaced, [
        ("gateway.networking.k8s.io/v1", "TCPRoute"),
        ("gateway.networking.k8s.io/v1alpha2", "TCPRoute")
    ];
    /// A route for UDP datagrams.
    UdpRoute, Namespaced, [
        ("gateway.networking.k8s.io/v1", "UDPRoute"),
        ("gateway.networking.k8s.io/v1alpha2", "UDPRoute")
    ];
    /// Listeners for a Gateway.
    ListenerSet, Namespaced, [
        ("gateway.networking.k8s.io/v1", "ListenerSet"),
        ("gateway.networking.x-k8s.io/v1alpha1", "XListenerSet")
    ];
    /// TLS towards a Service.
    BackendTlsPolicy, Namespaced, [
        ("gateway.networking.k8s.io/v1", "BackendTLSPolicy"),
        ("gateway.networking.k8s.io/v1alpha3", "BackendTLSPolicy")
    ];
    /// TLS towards a Service, in the shape of release 1.0.
    BackendTlsPolicyV1Alpha2, Namespaced, [("gateway.networking.k8s.io/v1alpha2", "BackendTLSPolicy")];
    /// A destination with its protocol and TLS settings.
    XBackend, Namespaced, [("gateway.networking.x-k8s.io/v1alpha1", "XBackend")];
    /// Retry budget and session persistence of Services.
    XBackendTrafficPolicy, Namespaced, [("gateway.networking.x-k8s.io/v1alpha1", "XBackendTrafficPolicy")];
    /// A service mesh.
    XMesh, Cluster, [("gateway.networking.x-k8s.io/v1alpha1", "XMesh")];
    /// Traces of a Gateway's traffic.
    XTelemetryPolicy, Namespaced, [("gateway.networking.x-k8s.io/v1alpha1", "XTelemetryPolicy")];
    /// Consent to references from other namespaces.
    ReferenceGrant, Namespaced, [
        ("gateway.networking.k8s.io/v1", "ReferenceGrant"),
        ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant")
    ];
    /// Settings of data planes.
    GatewayParameters, Namespaced, [("portcullis.dev/v1alpha1", "GatewayParameters")];
    /// A Service.
    Service, Namespaced, [("v1", "Service")];
    /// Endpoints of a Service.
    EndpointSlice, Namespaced, [("discovery.k8s.io/v1", "EndpointSlice")];
    /// Confidential values.
    Secret, Namespaced, [("v1", "Secret")];
    /// Named texts.
    ConfigMap, Namespaced, [("v1", "ConfigMap")];
    /// A namespace.
    Namespace, Cluster, [("v1", "Namespace")];
    /// A machine of the cluster.
    Node, Cluster, [("v1", "Node")];
    /// CA certificates for a whole cluster.
    ClusterTrustBundle, Cluster, [
        ("certificates.k8s.io/v1", "ClusterTrustBundle"),
        ("certificates.k8s.io/v1beta1", "ClusterTrustBundle"),
        ("certificates.k8s.io/v1alpha1", "ClusterTrustBundle")
    ];
}

impl Object {
    /// Reads an object. A kind or version without a type here becomes [`Object::Unknown`].
    ///
    /// # Errors
    /// If the value is not an object, has no `apiVersion`, `kind` or `metadata.name`, lacks a field without which its
    /// type makes no sense, or has a value of the wrong JSON type in a known field.
    pub fn from_value(value: Value) -> Result<Self, ObjectError> {
        let Value::Object(fields) = &value else {
            return Err(ObjectError::new(
                "",
                ObjectKey::new("", "", "", ""),
                "",
                "a Kubernetes object is a map of fields".to_owned(),
            ));
        };
        let api_version = text_of(fields, "apiVersion").to_owned();
        let kind = text_of(fields, "kind").to_owned();
        let key = partial_key(fields, &api_version, &kind);
        for (field, text) in [("apiVersion", &api_version), ("kind", &kind)] {
            if text.is_empty() {
                return Err(ObjectError::new(&api_version, key, field, "required, and a string".to_owned()));
            }
        }
        let object = Self::decode_kind(&api_version, &kind, value)
            .map_err(|error| ObjectError::new(&api_version, key.clone(), &error.field(), error.message().to_owned()))?;
        if object.metadata().name.is_empty() {
            return Err(ObjectError::new(&api_version, key, "metadata.name", "required".to_owned()));
        }
        Ok(object)
    }

    /// The object as JSON; see the module for what differs from the JSON that was read.
    pub fn to_value(&self) -> Value {
        // Every type here serialises to strings, numbers and maps with text keys, so that this cannot fail.
        self.serialize().unwrap_or(Value::Null)
    }

    /// Where objects of this kind live; unknown for kinds without a type here.
    pub fn scope(&self) -> Option<Scope> {
        known_scope(self.api_version(), self.kind())
    }
}

/// A change of one object, from files or from a cluster.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object is new, or changed.
    Upsert(Object),
    /// The object is gone.
    Delete(ObjectKey),
}

fn decode_as<T: DeserializeOwned>(value: Value, variant: fn(Arc<T>) -> Object) -> Result<Object, DecodeError> {
    decode(value).map(|object| variant(Arc::new(object)))
}

fn text_of<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn partial_key(fields: &Map<String, Value>, api_version: &str, kind: &str) -> ObjectKey {
    let (group, _) = api_version.split_once('/').unwrap_or_default();
    let text = |name| fields.get("metadata").and_then(Value::as_object).map_or("", |metadata| text_of(metadata, name));
    let namespace = if known_scope(api_version, kind) == Some(Scope::Cluster) { "" } else { text("namespace") };
    ObjectKey::new(group, kind, namespace, text("name"))
}

/// Where objects of a kind live, if the kind has a type here.
pub fn known_scope(api_version: &str, kind: &str) -> Option<Scope> {
    KNOWN_TYPES.iter().find(|known| (known.0, known.1) == (api_version, kind)).map(|known| known.2)
}

pub(crate) fn known_api_version(text: &str) -> Option<&'static str> {
    KNOWN_TYPES.iter().map(|known| known.0).find(|known| *known == text)
}

pub(crate) fn known_kind(text: &str) -> Option<&'static str> {
    KNOWN_TYPES.iter().map(|known| known.1).find(|known| *known == text)
}

/// An object of a kind or version that has no type here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownObject {
    /// Group and version.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// Name, namespace and labels.
    pub metadata: ObjectMeta,
    /// The whole object.
    pub raw: Value,
}

impl UnknownObject {
    fn decode(api_version: &str, kind: &str, raw: Value) -> Result<Self, DecodeError> {
        #[derive(serde::Deserialize)]
        struct Named {
            metadata: ObjectMeta,
        }
        let metadata = raw.get("metadata").cloned();
        let named = metadata
            .map(|metadata| Value::Object(Map::from_iter([("metadata".to_owned(), metadata)])))
            .unwrap_or(Value::Object(Map::new()));
        let Named { metadata } = decode(named)?;
        Ok(Self { api_version: api_version.to_owned(), kind: kind.to_owned(), metadata, raw })
    }

    /// The key of the object.
    pub fn key(&self) -> ObjectKey {
        let (group, _) = self.api_version.split_once('/').unwrap_or_default();
        ObjectKey::new(group, &self.kind, self.metadata.namespace.as_deref().unwrap_or_default(), &self.metadata.name)
    }
}

/// By what an object is known: group, kind, namespace and name, ordered in this way. The version is no part of it.
/// Cheap to clone.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectKey(Arc<KeyParts>);

#[derive(Eq, Hash, Ord, PartialEq, PartialOrd)]
struct KeyParts {
    group: Cow<'static, str>,
    kind: Cow<'static, str>,
    namespace: Box<str>,
    name: Box<str>,
}

impl ObjectKey {
    /// A key; the group is empty for the core group, the namespace for what is cluster scoped.
    pub fn new(group: &str, kind: &str, namespace: &str, name: &str) -> Self {
        let known_group = KNOWN_TYPES
            .iter()
            .map(|known| known.0.split_once('/').map_or("", |(group, _)| group))
            .find(|known| *known == group);
        Self(Arc::new(KeyParts {
            group: known_group.map_or_else(|| Cow::Owned(group.to_owned()), Cow::Borrowed),
            kind: known_kind(kind).map_or_else(|| Cow::Owned(kind.to_owned()), Cow::Borrowed),
            namespace: namespace.into(),
            name: name.into(),
        }))
    }

    /// The API group; empty is the core group.
    pub fn group(&self) -> &str {
        &self.0.group
    }

    /// The kind.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The namespace; empty for what is cluster scoped.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

/// `HTTPRoute infra/my-route`, `GatewayClass portcullis`; parts that could not be read are left out.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Foreign(self.kind()))?;
        let placed = !self.namespace().is_empty() || !self.name().is_empty();
        if placed && !self.kind().is_empty() {
            f.write_str(" ")?;
        }
        if !self.namespace().is_empty() {
            write!(f, "{}/", Foreign(self.namespace()))?;
        }
        write!(f, "{}", Foreign(self.name()))
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", Foreign(self.group()))
    }
}

/// Why an object could not be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectError {
    /// Group and version; empty if they could not be read.
    pub api_version: String,
    /// The object, as far as it could be read: parts that could not are empty.
    pub key: ObjectKey,
    /// The field, as in `spec.rules[0].backendRefs[1].port`; empty for the object itself.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl ObjectError {
    fn new(api_version: &str, key: ObjectKey, field: &str, message: String) -> Self {
        Self { api_version: api_version.to_owned(), key, field: field.to_owned(), message }
    }
}

impl fmt::Display for ObjectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = self.key.to_string();
        if !object.is_empty() {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", Foreign(&self.field))?;
        }
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for ObjectError {}

/// The objects of a list (`kind: List`, `kind: HTTPRouteList`), lists in lists included; any other value is its own
/// only item. Items without `apiVersion` and `kind` get them from a typed list, as an API server leaves them out there.
///
/// # Errors
/// If `items` is not a list.
pub fn flatten_list(value: Value) -> Result<Vec<Value>, ObjectError> {
    let mut objects = Vec::new();
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        match into_items(value)? {
            Listed::Items(items) => open.extend(items.into_iter().rev()),
            Listed::Object(value) => objects.push(value),
        }
    }
    Ok(objects)
}

enum Listed {
    Items(Vec<Value>),
    Object(Value),
}

fn into_items(value: Value) -> Result<Listed, ObjectError> {
    let Value::Object(mut fields) = value else { return Ok(Listed::Object(value)) };
    let Some(item_kind) = text_of(&fields, "kind").strip_suffix("List").map(str::to_owned) else {
        return Ok(Listed::Object(Value::Object(fields)));
    };
    if !item_kind.is_empty() && !fields.contains_key("items") {
        return Ok(Listed::Object(Value::Object(fields)));
    }
    let api_version = text_of(&fields, "apiVersion").to_owned();
    let mut items = match fields.remove("items").unwrap_or_default() {
        Value::Null => Vec::new(),
        Value::Array(items) => items,
        _ => {
            let key = partial_key(&fields, &api_version, text_of(&fields, "kind"));
            return Err(ObjectError::new(&api_version, key, "items", "expected a list of objects".to_owned()));
        }
    };
    if !item_kind.is_empty() {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            for (name, text) in [("apiVersion", &api_version), ("kind", &item_kind)] {
                if !item.contains_key(name) {
                    item.insert(name.to_owned(), Value::String(text.clone()));
                }
            }
        }
    }
    Ok(Listed::Items(items))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    const GATEWAY: &str = "gateway.networking.k8s.io/v1";

    fn route(spec: Value) -> Value {
        json!({"apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": {"name": "my-route", "namespace": "infra"}, "spec": spec})
    }

    #[test]
    fn an_error_names_object_and_field() {
        for (value, expected) in [
            (json!(null), "a Kubernetes object is a map of fields"),
            (json!([]), "a Kubernetes object is a map of fields"),
            (json!({}), "apiVersion: required, and a string"),
            (json!({"apiVersion": 1, "kind": "Service"}), "Service: apiVersion: required, and a string"),
            (json!({"apiVersion": "v1", "metadata": {"name": "a"}}), "a: kind: required, and a string"),
            (json!({"apiVersion": "v1", "kind": "Service"}), "Service: metadata: required, but absent"),
            (
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {}}),
                "Service: metadata.name: required, but absent",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": ""}}),
                "Service: metadata.name: required",
            ),
            (
                json!({"apiVersion": "v1", "kind": "Service", "metadata": "a"}),
                "Service: metadata: expected an object, found the string 'a'",
            ),
            (json!({"apiVersion": "x/v1", "kind": "Other"}), "Other: metadata: required, but absent"),
            (
                json!({"apiVersion": "x/v1", "kind": "Other", "metadata": {"name": "a", "labels": {"b c": 1}}}),
                "Other a: metadata.labels['b c']: expected a string, found the number 1",
            ),
            (route(json!({"rules": {}})), "HTTPRoute infra/my-route: spec.rules: expected a list, found an object"),
            (
                route(json!({"rules": [{}, {"backendRefs": [{"name": "a", "port": "80"}]}]})),
                "HTTPRoute infra/my-route: spec.rules[1].backendRefs[0].port: expected an integer, found the string '80'",
            ),
            (
                route(json!({"rules": [{"backendRefs": [{"port": 80}]}]})),
                "HTTPRoute infra/my-route: spec.rules[0].backendRefs[0].name: required, but absent",
            ),
            (
                route(json!({"rules": [{"backendRefs": [{"name": "a", "port": 4_000_000_000_u32}]}]})),
                "HTTPRoute infra/my-route: spec.rules[0].backendRefs[0].port: the number 4000000000 does not fit into 32 bits",
            ),
            (
                route(json!({"rules": [{"filters": [{"type": 1}]}]})),
                "HTTPRoute infra/my-route: spec.rules[0].filters[0].type: expected a string, found the number 1",
            ),
        ] {
            assert_eq!(Object::from_value(value.clone()).unwrap_err().to_string(), expected, "{value}");
        }
    }

    #[test]
    fn an_error_cannot_steer_a_terminal() {
        let value = json!({"apiVersion": "v1", "kind": "Service\u{1b}[2J", "metadata": {"name": "a\nb", "labels": {"\u{202e}": "\u{7}"}}});
        let object = Object::from_value(value).unwrap();
        assert_eq!(object.key().to_string(), "Service\\u{1b}[2J a\\nb");
        let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "generation": "\u{1b}[2J", "labels": {}}});
        let error = Object::from_value(value).unwrap_err().to_string();
        assert_eq!(error, "Service a: metadata.generation: expected an integer, found the string '\\u{1b}[2J'");
    }

    #[test]
    fn null_is_absent() {
        let with = json!({
            "apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": {"name": "a", "creationTimestamp": null, "labels": null},
            "spec": {"parentRefs": null, "hostnames": null, "rules": [{"matches": null, "novelty": null, "timeouts": null}]}, "status": null,
        });
        let without =
            json!({"apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": {"name": "a"}, "spec": {"rules": [{}]}});
        assert_eq!(Object::from_value(with), Object::from_value(without.clone()));
        assert_eq!(Object::from_value(without.clone()).unwrap().to_value(), without);
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "a"}, "addressType": "IPv4",
                           "endpoints": null, "ports": null});
        assert!(matches!(Object::from_value(slice), Ok(Object::EndpointSlice(slice)) if slice.endpoints.is_empty()));
    }

    #[test]
    fn an_empty_list_is_an_absent_one() {
        let empty = Object::from_value(route(json!({"rules": [{"backendRefs": [], "filters": []}]}))).unwrap();
        let absent = Object::from_value(route(json!({"rules": [{}]}))).unwrap();
        assert_eq!(empty, absent);
    }

    #[test]
    fn other_versions_and_kinds_are_kept_as_they_are() {
        for (api_version, kind) in
            [("gateway.networking.k8s.io/v2", "HTTPRoute"), ("apps/v1", "Deployment"), ("v1", "HTTPRoute")]
        {
            let value = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "b"}, "x": null, "y": []});
            let object = Object::from_value(value.clone()).unwrap();
            assert!(matches!(object, Object::Unknown(_)));
            assert_eq!((object.api_version(), object.kind(), object.scope()), (api_version, kind, None));
            assert_eq!(
                object.key(),
                ObjectKey::new(api_version.split_once('/').map_or("", |(group, _)| group), kind, "b", "a")
            );
            assert_eq!(object.to_value(), value);
        }
    }

    #[test]
    fn versions_of_one_object_have_one_key() {
        let key = |api_version: &str, kind: &str| {
            let value = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a", "namespace": "b"}, "spec": {"gatewayClassName": "c", "controllerName": "d"}});
            Object::from_value(value).unwrap().key()
        };
        let beta = "gateway.networking.k8s.io/v1beta1";
        assert_eq!(key(GATEWAY, "Gateway"), key(beta, "Gateway"));
        assert_eq!(key(GATEWAY, "Gateway").to_string(), "Gateway b/a");
        assert_eq!(key(beta, "ReferenceGrant").group(), "gateway.networking.k8s.io");
        assert_eq!(key(GATEWAY, "GatewayClass").to_string(), "GatewayClass a", "cluster scoped");
        assert_eq!(key("v1", "Service").group(), "");
        assert_eq!(key("v1", "Service"), ObjectKey::new("", "Service", "b", "a"));
    }

    #[test]
    fn keys_are_ordered_by_group_kind_namespace_and_name() {
        let sorted = [
            ("", "Service", "b", "b"),
            ("a", "A", "z", "z"),
            ("a", "B", "", "z"),
            ("a", "B", "a", "a"),
            ("a", "B", "a", "b"),
            ("b", "A", "", ""),
        ];
        let keys: BTreeSet<_> = sorted
            .iter()
            .rev()
            .map(|(group, kind, namespace, name)| ObjectKey::new(group, kind, namespace, name))
            .collect();
        let keys: Vec<_> = keys.iter().map(|key| (key.group(), key.kind(), key.namespace(), key.name())).collect();
        assert_eq!(keys, sorted);
    }

    #[test]
    fn lists_are_flattened() {
        let route = |name: &str| json!({"apiVersion": GATEWAY, "kind": "HTTPRoute", "metadata": {"name": name}});
        for (value, expected) in [
            (route("a"), vec![route("a")]),
            (
                json!({"apiVersion": "v1", "kind": "List", "items": [route("a"), route("b")]}),
                vec![route("a"), route("b")],
            ),
            (json!({"apiVersion": "v1", "kind": "List", "items": null}), vec![]),
            (json!({"apiVersion": "v1", "kind": "List"}), vec![]),
            (
                json!({"apiVersion": GATEWAY, "kind": "HTTPRouteList", "metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "a"}}, route("b")]}),
                vec![route("a"), route("b")],
            ),
            (
                json!({"kind": "List", "items": [{"kind": "List", "items": [route("a")]}, route("b"), {"kind": "List", "items": [1]}]}),
                vec![route("a"), route("b"), json!(1)],
            ),
            (
                json!({"apiVersion": "x/v1", "kind": "AllowList", "metadata": {"name": "a"}}),
                vec![json!({"apiVersion": "x/v1", "kind": "AllowList", "metadata": {"name": "a"}})],
            ),
            (json!("text"), vec![json!("text")]),
        ] {
            assert_eq!(flatten_list(value.clone()), Ok(expected), "{value}");
        }
        let error = flatten_list(json!({"apiVersion": "v1", "kind": "List", "items": {}})).unwrap_err();
        assert_eq!(error.to_string(), "List: items: expected a list of objects");
    }
}
