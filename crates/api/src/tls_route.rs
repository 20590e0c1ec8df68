//! TLSRoute (`gateway.networking.k8s.io/v1`, also served as `v1alpha2` and `v1alpha3`): where TLS connections go, by
//! server name.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, KindName, ObjectMeta};
use crate::shared::{GatewayDefaultScope, Hostname, L4RouteRule, ParentReference, RouteStatus};

/// Routes TLS connections.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRoute {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: TlsRouteSpec,
    /// What became of it, per parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RouteStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a TLSRoute asks for.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteSpec {
    /// Gateways, ListenerSets or Services to attach to, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,
    /// Attach to the default Gateways (GEP-3793, experimental).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_default_gateways: Option<GatewayDefaultScope>,
    /// Server names; may be empty in `v1alpha2` alone, and means those of the listener then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Hostname>,
    /// Exactly one since v1; `v1alpha2` allowed 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<L4RouteRule>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
