//! A client's connection, as requests see it.
//!
//! In flow what `listener` and `tls` found out; out flow facts for routing, forwarding headers and the record. What a
//! connection serves is asked for anew for each request ([`Connection::port`]), so that a change of the configuration
//! holds for open connections too.

use crate::listener::Permit;
use crate::worker::{CurrentPort, Port};
use http::HeaderValue;
use portcullis_model::ObjectName;
use portcullis_runtime::drain::{DrainGuard, DrainWatch, Kind};
use std::cell::{OnceCell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes in both directions.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// One accepted connection. Lives on one worker; shared by its requests.
pub(crate) struct Connection {
    /// Counts up within the worker.
    pub(crate) id: u64,
    /// The port that accepted it.
    pub(crate) port: Rc<Port>,
    /// The client's end.
    pub(crate) peer: SocketAddr,
    /// The same as a text, made when a request needs it.
    pub(crate) texts: OnceCell<Box<PeerTexts>>,
    /// What the handshake came to; `None` on cleartext.
    pub(crate) tls: Option<TlsInfo>,
    /// The drain of its port, which begins with the process's or the Gateway's at the latest.
    pub(crate) drain: DrainWatch,
    /// Its place among those that may be open.
    pub(crate) _permit: Permit,
    /// What says that it is open, to whoever drains.
    pub(crate) guard: RefCell<DrainGuard>,
}

/// A client's end as records and backends are told of it.
pub(crate) struct PeerTexts {
    peer: Box<str>,
    client: HeaderValue,
}

/// What a TLS handshake came to.
#[derive(Clone, Debug)]
pub(crate) struct TlsInfo {
    /// SNI, lower case, if the client sent one.
    pub(crate) server_name: Option<Arc<str>>,
    /// Such as `TLSv1.3`.
    pub(crate) version: &'static str,
    /// Whether a ticket spared the full handshake.
    pub(crate) resumed: bool,
}

impl Connection {
    /// The Gateway that the connection belongs to.
    pub(crate) fn gateway(&self) -> &ObjectName {
        &self.port.gateway
    }

    /// What the port serves now. To be asked once per request, and kept for that request.
    pub(crate) fn current(&self) -> Rc<CurrentPort> {
        self.port.current()
    }

    /// The address of the client's end, IPv4 as such.
    pub(crate) fn client(&self) -> IpAddr {
        self.peer.ip().to_canonical()
    }

    /// The same as a text.
    pub(crate) fn client_text(&self) -> &HeaderValue {
        &self.texts().client
    }

    /// The client's end, with its port.
    pub(crate) fn peer_text(&self) -> &str {
        &self.texts().peer
    }

    fn texts(&self) -> &PeerTexts {
        self.texts.get_or_init(|| {
            // The text of an address is always one of a field.
            let client = HeaderValue::try_from(self.client().to_string());
            let client = client.unwrap_or_else(|_| HeaderValue::from_static(""));
            Box::new(PeerTexts { peer: self.peer.to_string().into(), client })
        })
    }

    /// From now on it carries an upgraded protocol, and counts as a tunnel for whoever drains.
    pub(crate) fn become_tunnel(&self) {
        self.guard.borrow_mut().become_kind(Kind::Tunnel);
    }

    /// The connection as `decide` wants to know it.
    pub(crate) fn facts(&self) -> portcullis_decide::Connection<'_> {
        portcullis_decide::Connection {
            server_name: self.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
            tls: self.tls.is_some(),
        }
    }
}
