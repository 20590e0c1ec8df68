//! GatewayClass (`gateway.networking.k8s.io/v1`, also served as `v1beta1`): which controller stands behind the Gateways
//! that name it.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, Condition, KindName, ObjectMeta};
use crate::shared::{ObjectReference, SupportedFeature};

/// A class of Gateways, cluster scoped.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClass {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// Which controller, and its parameters.
    pub spec: GatewayClassSpec,
    /// What the controller says about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<GatewayClassStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a GatewayClass asks for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassSpec {
    /// Name of the controller, as in `portcullis.dev/gateway-controller`. It cannot be changed.
    pub controller_name: String,
    /// Settings of the controller for this class; the namespace is absent for a cluster-scoped kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_ref: Option<ObjectReference>,
    /// Text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What the controller says about a GatewayClass.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassStatus {
    /// Accepted and SupportedVersion.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Features of the official list that the controller has, sorted by name, at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported_features: Vec<SupportedFeature>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
