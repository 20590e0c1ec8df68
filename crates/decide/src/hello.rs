//! ClientHello → the listener that terminates TLS.

use crate::host::parse_name;
use crate::{LinkedListener, Port};
use portcullis_model::{CertificateKey, ListenerProtocol};
use std::sync::Arc;

/// What to do with a TLS connection.
#[derive(Clone, Copy, Debug)]
pub enum ClientHello<'a> {
    /// Terminate TLS for this listener, with one of these certificates (never empty).
    Terminate {
        /// The listener.
        listener: &'a Arc<LinkedListener>,
        /// Its certificates, in the order of `certificateRefs`.
        certificates: &'a [CertificateKey],
    },
    /// Refuse the handshake.
    Refuse {
        /// The listener that the server name belongs to, if there is one.
        listener: Option<&'a Arc<LinkedListener>>,
        /// Why.
        reason: HelloRefusal,
    },
}

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HelloRefusal {
    /// No listener covers the server name (or its absence).
    NoListener,
    /// The server name is not a host name.
    InvalidServerName,
    /// The listener is not valid.
    ListenerInvalid,
    /// The listener has no usable certificate.
    NoCertificate,
    /// The port does not speak TLS.
    NotTls,
}

impl HelloRefusal {
    /// The stable text for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoListener => "NoListener",
            Self::InvalidServerName => "InvalidServerName",
            Self::ListenerInvalid => "ListenerInvalid",
            Self::NoCertificate => "NoCertificate",
            Self::NotTls => "NotTls",
        }
    }
}

impl Port {
    /// ClientHello → which listener, which certificates. The most specific listener that covers the server name takes
    /// the connection; without a server name only a listener without a hostname can.
    pub fn client_hello(&self, server_name: Option<&str>) -> ClientHello<'_> {
        use HelloRefusal::*;
        if self.protocol != ListenerProtocol::Https {
            return ClientHello::Refuse { listener: None, reason: NotTls };
        }
        let Ok(name) = parse_name(server_name.unwrap_or_default()) else {
            return ClientHello::Refuse { listener: None, reason: InvalidServerName };
        };
        match self.listener(&name) {
            None => ClientHello::Refuse { listener: None, reason: NoListener },
            Some(listener) if !listener.state.is_serving() => {
                ClientHello::Refuse { listener: Some(listener), reason: ListenerInvalid }
            }
            Some(listener) if listener.certificates.is_empty() => {
                ClientHello::Refuse { listener: Some(listener), reason: NoCertificate }
            }
            Some(listener) => ClientHello::Terminate { listener, certificates: &listener.certificates },
        }
    }
}
