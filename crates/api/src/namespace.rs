//! Namespace (core `v1`): its labels decide about attachment by selector.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, KindName, ObjectMeta};

/// The label with a namespace's name, which an API server puts on every one.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Namespace {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
