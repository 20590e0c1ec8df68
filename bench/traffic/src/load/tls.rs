//! TLS as all peers are to do it: version 1.3, TLS_AES_128_GCM_SHA256, X25519, one ECDSA certificate.
//!
//! What flows in: the certificate, TCP connections. What flows out: TLS connections, or an error that says what failed.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CertificateError, DigitallySignedStruct, Error, HandshakeKind, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How connections are encrypted.
pub(super) struct Tls {
    config: ClientConfig,
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

impl Tls {
    /// For the only certificate that is taken.
    pub(super) fn new(certificate: Option<&Path>, server_name: &str) -> Result<Arc<Self>, String> {
        let path = certificate.ok_or("TLS needs --ca")?;
        let certificate =
            CertificateDer::from_pem_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let server_name = ServerName::try_from(server_name.to_owned()).map_err(|error| error.to_string())?;
        let provider = CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned(certificate)))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(Self::of(config, server_name)))
    }

    fn of(config: ClientConfig, server_name: ServerName<'static>) -> Self {
        Self { connector: TlsConnector::from(Arc::new(config.clone())), config, server_name }
    }

    /// The same for HTTP/2.
    pub(super) fn for_http2(&self) -> Arc<Self> {
        let mut config = self.config.clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(Self::of(config, self.server_name.clone()))
    }

    /// The same for one client that keeps the tickets which it gets, or does not.
    pub(super) fn with_sessions(&self, kept: bool) -> Arc<Self> {
        let mut config = self.config.clone();
        config.resumption = if kept { Resumption::in_memory_sessions(1) } else { Resumption::disabled() };
        Arc::new(Self::of(config, self.server_name.clone()))
    }

    pub(super) async fn open(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let stream = self.connector.connect(self.server_name.clone(), stream).await;
        let stream = stream.map_err(|error| format!("TLS handshake: {error}"))?;
        let connection = stream.get_ref().1;
        match (connection.alpn_protocol(), self.config.alpn_protocols.first()) {
            (Some(given), Some(wanted)) if given == wanted => Ok(stream),
            (given, _) => Err(format!("the proxy chose the protocol {:?}", given.map(String::from_utf8_lossy))),
        }
    }
}

/// Whether a ticket was taken.
pub(super) fn resumed(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
}

/// Takes one certificate and looks no further: verifying its signature costs more than making it, and what is measured is the proxy.
#[derive(Debug)]
struct Pinned(CertificateDer<'static>);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.0 {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
