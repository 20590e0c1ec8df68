//! A connection to the controller: TCP and TLS 1.3.

use crate::identity::Identity;
use crate::options::ControllerAddress;
use crate::trust::{self, TrustError};
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, version};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("the name {0} cannot be resolved: {1}")]
    Resolve(String, io::Error),
    #[error("{0} cannot be reached: {1}")]
    Tcp(ControllerAddress, io::Error),
    #[error("TLS with {0}: {1}")]
    Tls(ControllerAddress, io::Error),
    #[error("TLS: {0}")]
    Config(#[from] rustls::Error),
}

/// Connects, and verifies that the other side is the controller. Shows `identity`, if there is one already.
pub(crate) async fn open(
    address: &ControllerAddress,
    ca_file: &Path,
    identity: Option<&Identity>,
    protocol: &[u8],
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let config = config(ca_file, identity, protocol)?;
    let stream = connect(address).await?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(address.name().clone(), stream);
    let stream = timeout(HANDSHAKE_TIMEOUT, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = stream.map_err(|error| ConnectError::Tls(address.clone(), error))?;
    if stream.get_ref().1.alpn_protocol() != Some(protocol) {
        let error = io::Error::other("the other side does not speak the protocol that is expected here");
        return Err(ConnectError::Tls(address.clone(), error));
    }
    Ok(stream)
}

fn config(ca_file: &Path, identity: Option<&Identity>, protocol: &[u8]) -> Result<ClientConfig, ConnectError> {
    let roots = trust::read(ca_file)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&version::TLS13])?;
    let builder = builder.with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certified = SingleCertAndKey::from(identity.certified.clone());
            builder.with_client_cert_resolver(Arc::new(certified))
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    // Each connection shows the certificate of the day.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The first of the name's addresses that answers.
async fn connect(address: &ControllerAddress) -> Result<TcpStream, ConnectError> {
    let resolve = |error| ConnectError::Resolve(address.host().to_owned(), error);
    let resolved = timeout(CONNECT_TIMEOUT, tokio::net::lookup_host((address.host(), address.port()))).await;
    let resolved = resolved.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(resolve)?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for candidate in resolved.take(4) {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(candidate)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(ConnectError::Tcp(address.clone(), last))
}
