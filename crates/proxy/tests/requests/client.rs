//! Clients: hyper's for what is usual, raw sockets for what it would not send.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) type RequestBody = BoxBody<Bytes, std::io::Error>;

/// A whole response.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Whole {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A connection to the gateway.
pub(crate) enum Client {
    Http1(hyper::client::conn::http1::SendRequest<RequestBody>),
    Http2(hyper::client::conn::http2::SendRequest<RequestBody>),
}

impl Client {
    pub(crate) async fn http1(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self::Http1(sender)
    }

    pub(crate) async fn http2(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let io = TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    pub(crate) async fn of(version: Version, address: SocketAddr) -> Self {
        match version {
            Version::HTTP_2 => Self::http2(address).await,
            _ => Self::http1(address).await,
        }
    }

    /// Sends, and waits for the head of the response.
    pub(crate) async fn send(&mut self, mut request: Request<RequestBody>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                let host = request.headers_mut().remove("host");
                let host = host.as_ref().map_or("example.com", |host| host.to_str().unwrap());
                *request.uri_mut() = format!("http://{host}{}", request.uri()).parse().unwrap();
                sender.send_request(request).await
            }
        }
    }

    /// Sends, and waits for the whole response.
    pub(crate) async fn whole(&mut self, request: Request<RequestBody>) -> Whole {
        let response = self.send(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap();
        Whole {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers: body.trailers().cloned(),
            body: body.to_bytes(),
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Whole {
        self.whole(get(path)).await
    }
}

/// One request on a connection of its own.
pub(crate) async fn once(address: SocketAddr, request: Request<RequestBody>) -> Whole {
    Client::http1(address).await.whole(request).await
}

pub(crate) fn empty() -> RequestBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> RequestBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

pub(crate) fn get(path: &str) -> Request<RequestBody> {
    request("GET", path, &[], "")
}

pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<RequestBody> {
    let body = body.into();
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "example.com");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(if body.is_empty() { empty() } else { full(body) }).unwrap()
}

/// Sends bytes, and reads until the other side closes.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}
