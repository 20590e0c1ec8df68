//! Listeners of a Gateway and of its ListenerSets.

use crate::{CertificateKey, Hostname, ObjectName};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Which listener: its name, and the ListenerSet that it stands in, or none for the Gateway's own.
///
/// Written as `name`, or `namespace/listenerset/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey {
    /// The ListenerSet that holds the listener; `None` for the Gateway itself.
    pub listener_set: Option<ObjectName>,
    /// The listener's `name`, which a route's `sectionName` means.
    pub name: Arc<str>,
}

impl ListenerKey {
    /// A listener of the Gateway itself.
    pub fn of_gateway(name: impl Into<Arc<str>>) -> Self {
        Self { listener_set: None, name: name.into() }
    }
}

impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listener_set {
            Some(set) => write!(f, "{set}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl fmt::Debug for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ListenerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for ListenerKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.rsplit_once('/') {
            Some((set, name)) => {
                let set = set.parse().map_err(|_| "expected name or namespace/listenerset/name")?;
                Self { listener_set: Some(set), name: name.into() }
            }
            None => Self { listener_set: None, name: text.into() },
        })
    }
}

impl<'de> Deserialize<'de> for ListenerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A listener that takes its place on its port, whether it serves or refuses.
///
/// A listener whose protocol or port cannot be served at all is not in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Its identity.
    pub key: ListenerKey,
    /// The port of the specification; what is bound may be mapped by the one who runs the proxy.
    pub port: u16,
    /// What is spoken on the port.
    pub protocol: ListenerProtocol,
    /// Which Hosts (HTTP) and server names (TLS) are this listener's.
    pub hostname: Hostname,
    /// Certificates and TLS settings; present exactly when the protocol is HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// Whether it serves.
    #[serde(default, skip_serializing_if = "ListenerState::is_serving")]
    pub state: ListenerState,
}

/// What is spoken on a listener's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ListenerProtocol {
    /// Cleartext HTTP/1.1 and HTTP/2 by prior knowledge.
    #[serde(rename = "HTTP")]
    Http,
    /// TLS, and HTTP/1.1 or HTTP/2 inside, by ALPN.
    #[serde(rename = "HTTPS")]
    Https,
}

/// TLS termination on a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// The usable certificates, in the order of `certificateRefs`.
    pub certificates: Vec<CertificateKey>,
}

/// Whether a listener serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListenerState {
    /// It serves.
    #[default]
    Serving,
    /// It keeps its hostname to itself and refuses: no less specific listener answers in its place (fail closed).
    /// HTTP answers 404, HTTPS refuses the handshake.
    Invalid {
        /// Why, as the listener's condition says.
        reason: String,
    },
}

impl ListenerState {
    /// Whether it serves.
    pub fn is_serving(&self) -> bool {
        matches!(self, Self::Serving)
    }
}
