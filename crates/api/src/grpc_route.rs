//! GRPCRoute (`gateway.networking.k8s.io/v1`): which gRPC call goes where.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, KindName, ObjectMeta};
use crate::shared::{
    BackendRef, BackendRefFields, GatewayDefaultScope, Hostname, HttpHeaderFilter, HttpHeaderMatch,
    HttpRequestMirrorFilter, LocalObjectReference, MatchType, ParentReference, RouteStatus, SessionPersistence,
};
use crate::text::text_enum;

/// Routes gRPC calls.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRoute {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// What is asked for.
    #[serde(default)]
    pub spec: GrpcRouteSpec,
    /// What became of it, per parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RouteStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a GRPCRoute asks for.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// Gateways, ListenerSets or Services to attach to, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,
    /// Attach to the default Gateways (GEP-3793, experimental).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_default_gateways: Option<GatewayDefaultScope>,
    /// Hosts of calls; empty means those of the listener.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Hostname>,
    /// At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<GrpcRouteRule>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Matches, filters and backends.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteRule {
    /// Unique in the route (GEP-995).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One of them must match; empty means every call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GrpcRouteMatch>,
    /// What happens to call and answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<GrpcRouteFilter>,
    /// Where calls go, by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<GrpcBackendRef>,
    /// Which calls go to the same endpoint (GEP-1619, experimental).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<Box<SessionPersistence>>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// All of its parts must match.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteMatch {
    /// Service and method; absent means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethodMatch>,
    /// Metadata; of equal names only the first entry counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HttpHeaderMatch>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A condition on service and method; at least one of them is given.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcMethodMatch {
    /// Default Exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<MatchType>,
    /// As in `package.Service`; absent or empty means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Absent or empty means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One step in the processing of a call.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteFilter {
    /// Which of the members below is set.
    pub r#type: GrpcRouteFilterType,
    /// Changes request metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<Box<HttpHeaderFilter>>,
    /// Changes response metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<Box<HttpHeaderFilter>>,
    /// Sends a copy elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<Box<HttpRequestMirrorFilter>>,
    /// A filter of an implementation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_ref: Option<Box<LocalObjectReference>>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The kind of a GRPCRoute filter.
    pub enum GrpcRouteFilterType {
        /// `requestHeaderModifier` is set.
        RequestHeaderModifier = "RequestHeaderModifier",
        /// `responseHeaderModifier` is set.
        ResponseHeaderModifier = "ResponseHeaderModifier",
        /// `requestMirror` is set.
        RequestMirror = "RequestMirror",
        /// `extensionRef` is set.
        ExtensionRef = "ExtensionRef",
    }
}

/// A backend with a weight and filters of its own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "BackendRefFields<GrpcRouteFilter>")]
pub struct GrpcBackendRef {
    /// Where, and with which weight.
    #[serde(flatten)]
    pub backend_ref: BackendRef,
    /// What happens to calls that go to this backend.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<GrpcRouteFilter>,
}

impl From<BackendRefFields<GrpcRouteFilter>> for GrpcBackendRef {
    fn from(fields: BackendRefFields<GrpcRouteFilter>) -> Self {
        let (backend_ref, filters) = fields.into_parts();
        Self { backend_ref, filters }
    }
}
