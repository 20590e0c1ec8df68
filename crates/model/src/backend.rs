//! Backends: what a backendRef resolves to, and where it is reached.

use crate::ObjectName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

/// A port of a Service. Written as `namespace/name:port`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey {
    /// The Service.
    pub service: ObjectName,
    /// The Service's port number (not the target port).
    pub port: u16,
}

impl fmt::Display for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

impl fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for BackendKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for BackendKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected namespace/name:port";
        let (service, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
        Ok(Self { service: service.parse().map_err(|_| EXPECTED)?, port: port.parse().map_err(|_| EXPECTED)? })
    }
}

impl<'de> Deserialize<'de> for BackendKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How a backend is spoken to, and how its endpoints are found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Its identity.
    pub key: BackendKey,
    /// From the Service port's `appProtocol`.
    pub protocol: BackendProtocol,
    /// Where the endpoints come from.
    pub discovery: Discovery,
}

/// The protocol spoken to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BackendProtocol {
    /// HTTP/1.1, WebSocket upgrades included (`kubernetes.io/ws`, or no appProtocol).
    #[serde(rename = "HTTP1")]
    Http1,
    /// HTTP/2 over cleartext by prior knowledge (`kubernetes.io/h2c`).
    #[serde(rename = "H2C")]
    H2c,
}

/// Where a backend's endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Discovery {
    /// From the [`Endpoints`] resource of the same key (EndpointSlices). An absent one has no endpoints.
    EndpointSlices,
    /// From DNS: a Service of type ExternalName.
    Dns {
        /// The name to resolve.
        hostname: Arc<str>,
        /// The port to connect to.
        port: u16,
    },
}

/// The endpoints of a backend, changed often and apart from everything else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Whose endpoints.
    pub key: BackendKey,
    /// Those that may get new requests, sorted by address, without duplicates.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint that may get requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its zone, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Arc<str>>,
    /// Whether it is a pod that the cluster itself says is there: such a pod may share the network, and so the address, of its node.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_pod: bool,
}
