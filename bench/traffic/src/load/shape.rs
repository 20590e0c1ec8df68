//! What the loads are: names, and what a unit of each is.

use clap::ValueEnum;

/// The shapes of load. A unit is a request with its response unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shape {
    /// HTTP/1.1, response of 1 KiB.
    Http1,
    /// Response of 64 KiB.
    #[value(name = "http1-64k")]
    Http1Large,
    /// Request of 1 KiB, response of 16 bytes.
    #[value(name = "http1-post-1k")]
    Http1Post,
    /// Request of 64 KiB.
    #[value(name = "http1-post-64k")]
    Http1PostLarge,
    /// HTTP/1.1 over TLS 1.3.
    Https1,
    /// Response of 64 KiB.
    #[value(name = "https1-64k")]
    Https1Large,
    /// Request of 64 KiB.
    #[value(name = "https1-post-64k")]
    Https1PostLarge,
    /// HTTP/2 over TLS 1.3.
    Https2,
    /// Response of 64 KiB.
    #[value(name = "https2-64k")]
    Https2Large,
    /// Request of 64 KiB.
    #[value(name = "https2-post-64k")]
    Https2PostLarge,
    /// HTTP/2 without TLS. A unit is a stream: 10 messages, each sent when the one before came back, then trailers.
    Grpc,
    /// A unit is a message of 1 KiB that comes back.
    #[value(name = "websocket")]
    WebSocket,
    /// A unit is a connection with a full TLS 1.3 handshake and one HTTP/1.1 request with a response of 1 KiB.
    TlsFull,
    /// The same, resumed with a ticket of the connection before.
    TlsResumed,
}

/// How a unit is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) protocol: Protocol,
    pub(crate) tls: bool,
    /// Bytes of the request's body, none for a GET.
    pub(crate) sent: usize,
    /// Bytes of the response's body.
    pub(crate) received: usize,
}

/// In which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    Grpc,
    WebSocket,
    /// HTTP/1.1, each unit with a connection of its own.
    Connections {
        resumed: bool,
    },
}

const SMALL: usize = 1024;
const LARGE: usize = 64 * 1024;
/// What is answered to a POST.
const SHORT: usize = 16;

impl Shape {
    /// What it stands for.
    pub(crate) fn work(self) -> Work {
        let of = |protocol, tls, sent, received| Work { protocol, tls, sent, received };
        match self {
            Self::Http1 => of(Protocol::Http1, false, 0, SMALL),
            Self::Http1Large => of(Protocol::Http1, false, 0, LARGE),
            Self::Http1Post => of(Protocol::Http1, false, SMALL, SHORT),
            Self::Http1PostLarge => of(Protocol::Http1, false, LARGE, SHORT),
            Self::Https1 => of(Protocol::Http1, true, 0, SMALL),
            Self::Https1Large => of(Protocol::Http1, true, 0, LARGE),
            Self::Https1PostLarge => of(Protocol::Http1, true, LARGE, SHORT),
            Self::Https2 => of(Protocol::Http2, true, 0, SMALL),
            Self::Https2Large => of(Protocol::Http2, true, 0, LARGE),
            Self::Https2PostLarge => of(Protocol::Http2, true, LARGE, SHORT),
            Self::Grpc => of(Protocol::Grpc, false, 0, 0),
            Self::WebSocket => of(Protocol::WebSocket, false, SMALL, SMALL),
            Self::TlsFull => of(Protocol::Connections { resumed: false }, true, 0, SMALL),
            Self::TlsResumed => of(Protocol::Connections { resumed: true }, true, 0, SMALL),
        }
    }
}
