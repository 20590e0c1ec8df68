//! ConfigMap (core `v1`): CA certificates come from here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, KindName, ObjectMeta};

/// Named texts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMap {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// Texts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Other content, in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub binary_data: BTreeMap<String, String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
