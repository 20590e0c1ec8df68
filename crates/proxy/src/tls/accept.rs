//! The handshake: ClientHello → listener → rustls.

use super::client_hello::{ClientHello, ClientHelloError, ClientHelloReader};
use crate::connection::TlsInfo;
use crate::http::h1::Rewound;
use crate::worker::CurrentPort;
use portcullis_decide::{ClientHello as Choice, HelloRefusal};
use rustls::{AlertDescription, HandshakeKind, ServerConfig};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// An accepted TLS stream.
pub(crate) struct Accepted {
    pub(crate) stream: TlsStream<Rewound<TcpStream>>,
    pub(crate) info: TlsInfo,
    /// Whether ALPN chose HTTP/2.
    pub(crate) http2: bool,
}

macro_rules! handshake_failures {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// Why a handshake failed. Closed, so that it can be a metric label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum HandshakeFailure {
            $($(#[$doc])* $name,)*
        }

        impl HandshakeFailure {
            /// Every reason there is.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text for logs and metrics.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

handshake_failures! {
    /// The first bytes are not TLS.
    NotTls => "not_tls",
    /// The ClientHello is malformed or too large.
    InvalidClientHello => "invalid_client_hello",
    /// No listener of the port has the server name.
    UnrecognizedName => "unrecognized_name",
    /// No server name was sent, and no listener serves without one.
    NoServerName => "no_server_name",
    /// The listener that has the server name is not valid.
    ListenerInvalid => "listener_invalid",
    /// The listener has no certificate that can be used, or none that the client can verify.
    NoCertificate => "no_certificate",
    /// No protocol of ALPN in common.
    NoApplicationProtocol => "no_application_protocol",
    /// No version, suite or group in common.
    Incompatible => "incompatible",
    /// The client broke the rules of TLS.
    Misbehaved => "misbehaved",
    /// The client sent an alert, most often because it does not trust the certificate.
    ClientAlert => "client_alert",
    /// The client closed before the end of the handshake.
    ClientClosed => "client_closed",
    /// Not finished in time.
    Timeout => "timeout",
    /// The connection failed.
    Io => "io",
    /// The gateway could not go on.
    Internal => "internal",
}

impl HandshakeFailure {
    /// The alert that says so (RFC 8446 section 6.2), where rustls has not sent one itself.
    fn alert(self) -> Option<AlertDescription> {
        match self {
            Self::InvalidClientHello => Some(AlertDescription::DecodeError),
            Self::UnrecognizedName | Self::NoServerName | Self::ListenerInvalid => {
                Some(AlertDescription::UnrecognisedName)
            }
            Self::NoCertificate => Some(AlertDescription::HandshakeFailure),
            Self::Internal => Some(AlertDescription::InternalError),
            _ => None,
        }
    }

    fn of(error: &io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Self::ClientClosed
                }
                _ => Self::Io,
            };
        };
        match tls {
            rustls::Error::PeerIncompatible(_) => Self::Incompatible,
            rustls::Error::NoApplicationProtocol => Self::NoApplicationProtocol,
            rustls::Error::AlertReceived(_) => Self::ClientAlert,
            // What rustls says when the resolver has nothing.
            rustls::Error::General(_) => Self::NoCertificate,
            rustls::Error::EncryptError
            | rustls::Error::FailedToGetCurrentTime
            | rustls::Error::FailedToGetRandomBytes
            | rustls::Error::HandshakeNotComplete => Self::Internal,
            _ => Self::Misbehaved,
        }
    }
}

/// A handshake that failed.
pub(crate) struct Refused {
    pub(crate) failure: HandshakeFailure,
    /// The connection, if the client is still to be told.
    stream: Option<TcpStream>,
}

impl From<HandshakeFailure> for Refused {
    fn from(failure: HandshakeFailure) -> Self {
        Self { failure, stream: None }
    }
}

/// Takes a connection through its handshake, within `timeout`.
///
/// # Errors
/// The reason. [`Refused::tell`] ends the connection.
pub(crate) async fn accept(mut stream: TcpStream, port: &CurrentPort, timeout: Duration) -> Result<Accepted, Refused> {
    let deadline = tokio::time::Instant::now() + timeout;
    let hello = match tokio::time::timeout_at(deadline, read_client_hello(&mut stream)).await {
        Ok(hello) => hello,
        Err(_) => return Err(HandshakeFailure::Timeout.into()),
    };
    let chosen = hello.and_then(|(hello, head)| Ok((choose(port, &hello)?, hello, head)));
    let (config, hello, head) = match chosen {
        Ok(chosen) => chosen,
        Err(failure) => return Err(Refused { failure, stream: Some(stream) }),
    };
    let handshake = TlsAcceptor::from(config).accept(Rewound::new(stream, head.into()));
    let stream = match tokio::time::timeout_at(deadline, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(HandshakeFailure::of(&error).into()),
        Err(_) => return Err(HandshakeFailure::Timeout.into()),
    };
    let (_, session) = stream.get_ref();
    let info = TlsInfo {
        server_name: hello.server_name.map(Into::into),
        version: session.protocol_version().and_then(|version| version.as_str()).unwrap_or("unknown"),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    };
    let http2 = session.alpn_protocol() == Some(b"h2");
    Ok(Accepted { stream, info, http2 })
}

/// The ClientHello, and all bytes that were read for it.
async fn read_client_hello(stream: &mut TcpStream) -> Result<(ClientHello, Vec<u8>), HandshakeFailure> {
    let mut reader = ClientHelloReader::default();
    let mut head = Vec::with_capacity(2048);
    loop {
        let before = head.len();
        head.reserve(1024);
        match stream.read_buf(&mut head).await {
            Ok(0) => return Err(HandshakeFailure::ClientClosed),
            Ok(_) => {}
            Err(error) => return Err(HandshakeFailure::of(&error)),
        }
        match reader.push(&head[before..]) {
            Ok(Some(hello)) => return Ok((hello, head)),
            Ok(None) => {}
            Err(ClientHelloError::NotTls) => return Err(HandshakeFailure::NotTls),
            Err(ClientHelloError::Malformed | ClientHelloError::TooLong) => {
                return Err(HandshakeFailure::InvalidClientHello);
            }
        }
    }
}

fn choose(port: &CurrentPort, hello: &ClientHello) -> Result<Arc<ServerConfig>, HandshakeFailure> {
    match port.linked.client_hello(hello.server_name.as_deref()) {
        Choice::Terminate { listener, .. } => {
            let config = port.tls.as_ref().and_then(|tls| tls.config(&listener.key));
            config.cloned().ok_or(HandshakeFailure::NoCertificate)
        }
        Choice::Refuse { reason, .. } => Err(match reason {
            HelloRefusal::NoListener if hello.server_name.is_none() => HandshakeFailure::NoServerName,
            HelloRefusal::NoListener | HelloRefusal::InvalidServerName => HandshakeFailure::UnrecognizedName,
            HelloRefusal::ListenerInvalid => HandshakeFailure::ListenerInvalid,
            HelloRefusal::NoCertificate => HandshakeFailure::NoCertificate,
            HelloRefusal::NotTls => HandshakeFailure::Internal,
        }),
    }
}

/// What a client reads that spoke HTTP where HTTPS is spoken.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 34\r\n\
connection: close\r\n\r\nThis port speaks HTTPS, not HTTP.\n";

/// How long, and for how many bytes, a client that was told is still read from.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_READS: usize = 32;

impl Refused {
    /// Tells the client why, where there is a way, and closes so that it can read what it was told.
    pub(crate) async fn tell(self) {
        if let Some(stream) = self.stream {
            let _ = tokio::time::timeout(LINGER, tell(stream, self.failure)).await;
        }
    }
}

async fn tell(mut stream: TcpStream, failure: HandshakeFailure) -> io::Result<()> {
    match failure.alert() {
        // A fatal alert in a plaintext record (RFC 8446 sections 5.1 and 6).
        Some(alert) => stream.write_all(&[21, 3, 3, 0, 2, 2, u8::from(alert)]).await?,
        None if failure == HandshakeFailure::NotTls => stream.write_all(PLAIN_HTTP).await?,
        None => return Ok(()),
    }
    stream.shutdown().await?;
    // Unread bytes would turn the close into a reset, and the reset could overtake the alert.
    let mut rest = [0; 1024];
    for _ in 0..LINGER_READS {
        if stream.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}
