//! EndpointSlice (`discovery.k8s.io/v1`): the addresses behind a Service.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, KindName, ObjectMeta};
use crate::service::TransportProtocol;
use crate::text::text_enum;

/// The label that names the Service of an EndpointSlice.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Some of the endpoints of a Service, of one address family.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// The family of all addresses here.
    pub address_type: EndpointAddressType,
    /// The endpoints; a slice without any is normal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// The ports that every endpoint has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The family of addresses.
    pub enum EndpointAddressType {
        /// IPv4
        Ipv4 = "IPv4",
        /// IPv6
        Ipv6 = "IPv6",
        /// DNS names.
        Fqdn = "FQDN",
    }
}

/// One backend.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its addresses, interchangeable; the first one is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Whether it takes traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<EndpointConditions>,
    /// Its host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The node on which it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The zone in which it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Whether an endpoint takes traffic. Absent values are unknown.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointConditions {
    /// Takes new requests; unknown counts as ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// Answers, even while it terminates; unknown follows `ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serving: Option<bool>,
    /// Is going away; unknown counts as not terminating.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminating: Option<bool>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One port of all endpoints of a slice.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPort {
    /// The name of the Service's port; empty or absent for an unnamed one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Default TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<TransportProtocol>,
    /// The port; absent means every port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// What is spoken, as in `kubernetes.io/h2c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
