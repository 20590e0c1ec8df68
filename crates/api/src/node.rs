//! Node (core `v1`): its addresses, for Services of type NodePort.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, Condition, KindName, ObjectMeta};
use crate::text::text_enum;

/// A machine of the cluster.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// How it is used.
    #[serde(default)]
    pub spec: NodeSpec,
    /// What is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<NodeStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How a node is used.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// No new pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<bool>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What is known of a node.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// Ready and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An address of a node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAddress {
    /// What kind of address.
    pub r#type: NodeAddressType,
    /// The address.
    pub address: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The type of a node's address.
    pub enum NodeAddressType {
        /// A name.
        Hostname = "Hostname",
        /// An address within the cluster's network.
        InternalIp = "InternalIP",
        /// An address outside of it.
        ExternalIp = "ExternalIP",
        /// A DNS name within the cluster's network.
        InternalDns = "InternalDNS",
        /// A DNS name outside of it.
        ExternalDns = "ExternalDNS",
    }
}
