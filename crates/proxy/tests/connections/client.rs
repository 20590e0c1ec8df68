//! Clients: plain text over TCP or TLS, and hyper's HTTP/2.

use crate::gateway::Authority;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Far beyond what anything here takes; only a defect reaches it.
pub const LONG: Duration = Duration::from_secs(20);

/// A TLS client that trusts an authority and asks for these protocols.
pub fn tls_config(authority: &Authority, alpn: &[&str]) -> ClientConfig {
    tls_config_with(authority, alpn, rustls::crypto::aws_lc_rs::default_provider())
}

pub fn tls_config_with(authority: &Authority, alpn: &[&str], provider: rustls::crypto::CryptoProvider) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// Connects, and finishes the handshake.
pub async fn tls(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(config.clone()).connect(name, stream).await
}

/// What rustls says of a handshake that failed.
pub fn tls_error(result: io::Result<TlsStream<TcpStream>>) -> rustls::Error {
    let Err(error) = result else { panic!("the handshake was accepted") };
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).expect("no TLS error").clone()
}

/// A response of HTTP/1.1.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The head as sent, in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The host that a redirect names.
    pub fn location(&self) -> &str {
        let location = self.header("location").unwrap_or_else(|| panic!("no redirect: {}", self.head));
        let (_, rest) = location.split_once("://").unwrap();
        rest.split(['/', ':']).next().unwrap()
    }

    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// Sends a GET on an open connection and reads the response.
pub async fn get<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, host: &str) -> io::Result<Answer> {
    ask(stream, host).await?;
    answer(stream).await
}

pub async fn ask<S: AsyncWrite + Unpin>(stream: &mut S, host: &str) -> io::Result<()> {
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    stream.flush().await
}

pub async fn answer<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: Vec::new() };
    let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
    answer.body = vec![0; length];
    stream.read_exact(&mut answer.body).await?;
    Ok(answer)
}

/// Waits until the other side closes, and gives what came until then.
pub async fn read_to_end<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await.expect("the connection stays open");
    rest
}

pub type Http2Sender = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

/// HTTP/2 by prior knowledge, or after ALPN. The handle tells when the connection has ended.
pub async fn http2<S>(stream: S) -> (Http2Sender, tokio::task::JoinHandle<hyper::Result<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    (sender, tokio::spawn(connection))
}

pub fn request(uri: &str) -> Request<Empty<Bytes>> {
    Request::get(uri).body(Empty::new()).unwrap()
}

pub fn location(response: &Response<Incoming>) -> String {
    let location = response.headers()["location"].to_str().unwrap();
    location.split_once("://").unwrap().1.split(['/', ':']).next().unwrap().to_owned()
}
