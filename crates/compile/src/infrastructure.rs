//! What must exist so that a Gateway can be served: in flow a Gateway and its parameters, out flows plain data, which a controller turns into
//! the objects of a data plane. A route, a backend or a certificate plays no part.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_api::gateway::AddressRoutability;
use portcullis_api::gateway_parameters::DataPlane;
use portcullis_model::ObjectName;
use serde::Serialize;

/// What the data plane of a Gateway must look like. Equal for equal objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Infrastructure {
    /// The Gateway.
    pub gateway: ObjectName,
    /// Its `metadata.uid`; empty if unknown.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub uid: Arc<str>,
    /// Its `metadata.generation`; 0 if unknown.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: i64,
    /// Its class.
    pub gateway_class: Arc<str>,
    /// `spec.infrastructure.labels`, for everything that is created.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `spec.infrastructure.annotations`, for everything that is created.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The ports of the listeners that are configured, as in the specification (not mapped).
    pub ports: BTreeSet<(u16, TransportProtocol)>,
    /// One for each entry of `spec.addresses`, in their order. Empty: one address, of the implementation's choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressRequest>,
    /// The class's parameters and the Gateway's own, merged. Nothing while they are absent or invalid, or the Gateway is about to go: then
    /// what exists stays as it is, and nothing new is made.
    pub parameters: Option<Arc<DataPlane>>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// A change of what must exist for a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfrastructureChange {
    /// Whose.
    pub gateway: ObjectName,
    /// As it must be now; nothing if nothing is to exist: the Gateway is gone, not ours, or not accepted.
    pub infrastructure: Option<Arc<Infrastructure>>,
}

/// What carries the connections or datagrams of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum TransportProtocol {
    /// TCP.
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
}

impl TransportProtocol {
    /// As a Service's port has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

impl fmt::Display for TransportProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One entry of `spec.addresses`. Each is satisfied, or not, on its own (GEP-5093).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AddressRequest {
    /// Its place in `spec.addresses`.
    pub index: usize,
    /// Which address.
    pub kind: AddressKind,
    /// Where it must be reachable from.
    pub scope: AddressScope,
}

/// Which address is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum AddressKind {
    /// Any one.
    Any,
    /// This one.
    Ip(IpAddr),
    /// A name (or a text that is no address), which no Service can be given: never usable.
    Hostname(Arc<str>),
}

/// Where an address must be reachable from: `routability` of GEP-5093. An address of another scope never satisfies the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum AddressScope {
    /// No requirement.
    Default,
    /// Inside the cluster: the address of a Service of type ClusterIP.
    Cluster,
    /// `testing.x-k8s.io/sentinel`: as [`AddressScope::Default`], but with this value in the status.
    Sentinel,
    /// Any other value: cannot be satisfied.
    Unknown(Arc<str>),
}

/// The routability that carries no promise and is there for tests (GEP-5093).
const SENTINEL: &str = "testing.x-k8s.io/sentinel";

impl AddressScope {
    pub(crate) fn of(routability: Option<&AddressRoutability>) -> Self {
        match routability {
            None | Some(AddressRoutability::Default) => Self::Default,
            Some(AddressRoutability::Cluster) => Self::Cluster,
            Some(other) if other.as_str() == SENTINEL => Self::Sentinel,
            Some(other) => Self::Unknown(other.as_str().into()),
        }
    }

    /// The value as `routability` has it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Default => "",
            Self::Cluster => "Cluster",
            Self::Sentinel => SENTINEL,
            Self::Unknown(text) => text,
        }
    }
}

impl AddressRequest {
    /// Whether there is an address that could satisfy the request at all.
    pub fn is_satisfiable(&self) -> bool {
        !matches!(self.kind, AddressKind::Hostname(_)) && !matches!(self.scope, AddressScope::Unknown(_))
    }
}
