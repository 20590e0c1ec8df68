//! Service (core `v1`), as far as a gateway needs it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, Condition, IntOrString, KindName, ObjectMeta};
use crate::text::text_enum;

/// A name for a set of endpoints, or for a host elsewhere.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// Ports and type.
    #[serde(default)]
    pub spec: ServiceSpec,
    /// Addresses of load balancers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ServiceStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a Service offers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// Default ClusterIP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<ServiceType>,
    /// Its virtual address; `None` for a headless Service.
    #[serde(rename = "clusterIP", skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<String>,
    /// The same for both address families.
    #[serde(rename = "clusterIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<String>,
    /// The DNS name behind a Service of type ExternalName.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_name: Option<String>,
    /// Labels of its pods; empty when EndpointSlices are written by somebody else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
    /// Endpoints count as ready before they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish_not_ready_addresses: Option<bool>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// How a Service is reached.
    pub enum ServiceType {
        /// By a virtual address in the cluster, or headless.
        ClusterIp = "ClusterIP",
        /// Also by a port of every node.
        NodePort = "NodePort",
        /// Also by a load balancer outside of the cluster.
        LoadBalancer = "LoadBalancer",
        /// A DNS name elsewhere.
        ExternalName = "ExternalName",
    }
}

/// One port of a Service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Unique in the Service; EndpointSlices name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Default TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<TransportProtocol>,
    /// What is spoken, as in `kubernetes.io/h2c`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
    /// The port that others name.
    pub port: i32,
    /// The port of the pod, by number or name; default: `port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<IntOrString>,
    /// The port of the nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_port: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The transport protocol of a port.
    pub enum TransportProtocol {
        /// TCP
        Tcp = "TCP",
        /// UDP
        Udp = "UDP",
        /// SCTP
        Sctp = "SCTP",
    }
}

/// What exists of a Service.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its load balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancerStatus>,
    /// Conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Where a load balancer listens.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<LoadBalancerIngress>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One address of a load balancer.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerIngress {
    /// An IP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// A DNS name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
