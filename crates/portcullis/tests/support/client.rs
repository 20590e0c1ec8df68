//! A strict HTTP/1.1 client over TCP and TLS: it knows what a connection may do, and never tries again by itself.

use super::PATIENCE;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// Why there was no response.
#[derive(Debug)]
pub(crate) enum ClientError {
    /// No connection.
    Connect(io::Error),
    /// A connection, but no handshake.
    Handshake(io::Error),
    /// The connection ended without a byte of a response.
    NoResponse(io::Error),
    /// It ended in the middle of one, or what came is no HTTP.
    Broken(String),
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The first value of a field; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn announces_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"))
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// One connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
    /// Whether the server said that it closes now.
    pub(crate) is_closing: bool,
}

/// One request on a connection of its own.
#[track_caller]
pub(crate) fn get(address: SocketAddr, host: &str, path: &str) -> Response {
    Client::connect(address).unwrap().get(host, path).unwrap()
}

/// What a TLS client trusts.
pub(crate) fn trust(authority: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The certificate that a server shows, DER.
pub(crate) fn certificate_of(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Vec<u8> {
    // A resumed session would show the certificate of the first.
    let mut config = ClientConfig::clone(config);
    config.resumption = rustls::client::Resumption::disabled();
    let (connection, _) = handshake(address, name, &Arc::new(config)).unwrap();
    connection.peer_certificates().unwrap()[0].to_vec()
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self, ClientError> {
        Ok(Self::new(Box::new(tcp(address)?)))
    }

    /// Connects, and completes the handshake.
    pub(crate) fn connect_tls(
        address: SocketAddr,
        name: &str,
        config: &Arc<ClientConfig>,
    ) -> Result<Self, ClientError> {
        let (connection, tcp) = handshake(address, name, config)?;
        Ok(Self::new(Box::new(StreamOwned::new(connection, tcp))))
    }

    /// Over a Unix socket.
    pub(crate) fn connect_unix(path: &std::path::Path) -> Self {
        Self::new(Box::new(std::os::unix::net::UnixStream::connect(path).unwrap()))
    }

    fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, received: Vec::new(), is_closing: false }
    }

    pub(crate) fn get(&mut self, host: &str, path: &str) -> Result<Response, ClientError> {
        self.request("GET", host, path, &[])
    }

    pub(crate) fn request(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response, ClientError> {
        self.send(method, host, path, headers)?;
        self.receive(method)
    }

    /// Sends a request without a body.
    pub(crate) fn send(
        &mut self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<(), ClientError> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let sent = self.stream.write_all(head.as_bytes()).and_then(|()| self.stream.flush());
        sent.map_err(ClientError::NoResponse)
    }

    /// Bytes as they are, such as in a tunnel.
    pub(crate) fn raw(&mut self) -> &mut dyn Write {
        &mut self.stream
    }

    /// Reads exactly so many bytes of a tunnel.
    pub(crate) fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() < count {
            self.fill().unwrap();
        }
        self.received.drain(..count).collect()
    }

    /// Reads a response.
    pub(crate) fn receive(&mut self, method: &str) -> Result<Response, ClientError> {
        let end = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                break end + 4;
            }
            match self.fill() {
                Ok(()) => {}
                Err(error) if self.received.is_empty() => return Err(ClientError::NoResponse(error)),
                Err(error) => return Err(ClientError::Broken(format!("inside the head: {error}"))),
            }
        };
        let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
        self.received.drain(..end);
        let mut response = parse_head(&head)?;
        let length = response.header("content-length").and_then(|length| length.parse::<usize>().ok());
        response.body = match (response.status, length, response.header("transfer-encoding")) {
            _ if method == "HEAD" => Vec::new(),
            (100..=199 | 204 | 304, _, _) => Vec::new(),
            (_, Some(length), None) => self.exactly(length)?,
            (_, None, Some("chunked")) => self.chunks()?,
            (_, None, None) => self.rest(),
            _ => return Err(ClientError::Broken(format!("unclear length: {head}"))),
        };
        self.is_closing |= response.announces_close();
        Ok(response)
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>, ClientError> {
        while self.received.len() < count {
            self.fill().map_err(|error| ClientError::Broken(format!("inside the body: {error}")))?;
        }
        Ok(self.received.drain(..count).collect())
    }

    fn chunks(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(end) = find(&self.received, b"\r\n") {
                    break end + 2;
                }
                self.fill().map_err(|error| ClientError::Broken(format!("inside a chunk: {error}")))?;
            };
            let line = String::from_utf8_lossy(&self.exactly(end)?).into_owned();
            let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| ClientError::Broken(line))?;
            body.extend(self.exactly(size)?);
            // The end of the chunk; after the last one that of the trailers, which the backends here do not send.
            self.exactly(2)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn rest(&mut self) -> Vec<u8> {
        while self.fill().is_ok() {}
        self.is_closing = true;
        std::mem::take(&mut self.received)
    }
}

fn tcp(address: SocketAddr) -> Result<TcpStream, ClientError> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(ClientError::Connect)?;
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Ok(stream)
}

fn handshake(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> Result<(ClientConnection, TcpStream), ClientError> {
    let mut tcp = tcp(address)?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(config.clone(), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).map_err(ClientError::Handshake)?;
    }
    Ok((connection, tcp))
}

fn parse_head(head: &str) -> Result<Response, ClientError> {
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| ClientError::Broken(head.to_owned()))?;
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    Ok(Response { status, headers: headers.collect(), body: Vec::new() })
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
