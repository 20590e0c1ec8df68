//! ListenerSet (`gateway.networking.k8s.io/v1`, GEP-1713): listeners that somebody else than a Gateway's owner adds to
//! it. In release 1.4 the kind was XListenerSet of the group `gateway.networking.x-k8s.io`.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::gateway::{Listener, ListenerStatus};
use crate::meta::{ApiVersion, Condition, KindName, ObjectMeta};
use crate::shared::ParentGatewayReference;

/// Listeners for a Gateway.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSet {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: ListenerSetSpec,
    /// What exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ListenerSetStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a ListenerSet asks for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetSpec {
    /// The Gateway.
    pub parent_ref: ParentGatewayReference,
    /// At most 64; names are unique in this set.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What exists of a ListenerSet.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetStatus {
    /// Accepted and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// One entry for each listener of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
