//! XMesh (`gateway.networking.x-k8s.io/v1alpha1`, experimental): that a service mesh exists.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, Condition, KindName, ObjectMeta};
use crate::shared::{ObjectReference, SupportedFeature};

/// A service mesh, cluster scoped.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct XMesh {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// Which controller, and its parameters.
    pub spec: MeshSpec,
    /// What the controller says about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<MeshStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What an XMesh asks for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshSpec {
    /// Name of the controller.
    pub controller_name: String,
    /// Settings of the controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_ref: Option<ObjectReference>,
    /// Text for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What the controller says about an XMesh.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MeshStatus {
    /// Accepted and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Features of the official list, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported_features: Vec<SupportedFeature>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
