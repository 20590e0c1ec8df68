//! Certificates as rustls uses them, and the choice among those of a listener.

use portcullis_model::{Certificate, CertificateKey, Config, ObjectName, PrivateKeyFormat};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A certificate ready to be shown.
pub(super) struct LoadedCertificate {
    source: Arc<Certificate>,
    key: Arc<CertifiedKey>,
}

/// The certificates in use, each parsed once for its content.
#[derive(Default)]
pub(super) struct CertificateStore {
    loaded: BTreeMap<(ObjectName, CertificateKey), Known>,
}

/// What a certificate of this content came to.
struct Known {
    content: Arc<Certificate>,
    result: Result<Arc<LoadedCertificate>, String>,
}

impl CertificateStore {
    /// The certificate of a configuration. Its error is a sentence that says what is wrong with it.
    pub(super) fn load(&mut self, config: &Config, key: &CertificateKey) -> Result<Arc<LoadedCertificate>, String> {
        let Some(certificate) = config.certificates.get(key) else {
            return Err("it is not in the configuration".to_owned());
        };
        let place = (config.gateway.name.clone(), key.clone());
        if let Some(known) = self.loaded.get(&place)
            && (Arc::ptr_eq(&known.content, certificate) || known.content == *certificate)
        {
            return known.result.clone();
        }
        let result = load(certificate).map(Arc::new);
        self.loaded.insert(place, Known { content: certificate.clone(), result: result.clone() });
        result
    }

    pub(super) fn retain(&mut self, configs: &BTreeMap<ObjectName, Config>) {
        self.loaded.retain(|(gateway, key), _| {
            configs.get(gateway).is_some_and(|config| config.certificates.contains_key(key))
        });
    }
}

fn load(certificate: &Arc<Certificate>) -> Result<LoadedCertificate, String> {
    let chain: Vec<_> = certificate.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    if chain.is_empty() {
        return Err("the chain is empty".to_owned());
    }
    // Borrowed from the configuration, which zeroes it; rustls keeps the parsed key alone.
    let bytes = certificate.private_key.der.expose();
    let der = match certificate.private_key.format {
        PrivateKeyFormat::Pkcs1 => PrivateKeyDer::from(PrivatePkcs1KeyDer::from(bytes)),
        PrivateKeyFormat::Pkcs8 => PrivateKeyDer::from(PrivatePkcs8KeyDer::from(bytes)),
        PrivateKeyFormat::Sec1 => PrivateKeyDer::from(PrivateSec1KeyDer::from(bytes)),
    };
    let key = any_supported_type(&der).map_err(|_| "the private key is not an RSA, ECDSA or Ed25519 key".to_owned())?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(_) => return Err("the private key does not fit the certificate".to_owned()),
    }
    Ok(LoadedCertificate { source: certificate.clone(), key: Arc::new(key) })
}

/// What a listener may show, in the order of `certificateRefs`.
pub(super) struct ListenerCertificates {
    certificates: Vec<Arc<LoadedCertificate>>,
}

impl ListenerCertificates {
    pub(super) fn new(certificates: Vec<Arc<LoadedCertificate>>) -> Self {
        Self { certificates }
    }

    /// When the first of them ends to be valid, in seconds since 1970.
    pub(super) fn not_after(&self) -> Option<i64> {
        self.certificates.iter().map(|certificate| certificate.source.not_after).min()
    }

    /// Whether these are the very same.
    pub(super) fn is(&self, others: &[Arc<LoadedCertificate>]) -> bool {
        self.certificates.len() == others.len()
            && self.certificates.iter().zip(others).all(|(one, other)| Arc::ptr_eq(one, other))
    }
}

impl fmt::Debug for ListenerCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.certificates.iter().map(|certificate| &certificate.source.key)).finish()
    }
}

impl ResolvesServerCert for ListenerCertificates {
    /// The first that the client can verify (RFC 8446 section 4.4.2.2) and that names the server exactly, then by wildcard,
    /// then the first that it can verify at all.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let verifiable = |certificate: &&Arc<LoadedCertificate>| {
            certificate.key.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        let mut best: Option<(u8, &Arc<LoadedCertificate>)> = None;
        for certificate in self.certificates.iter().filter(verifiable) {
            let rank = hello.server_name().map_or(0, |name| rank(&certificate.source.dns_names, name));
            if best.is_none_or(|(known, _)| rank > known) {
                best = Some((rank, certificate));
            }
        }
        best.map(|(_, certificate)| certificate.key.clone())
    }
}

/// 2 for an exact name, 1 for a wildcard, which covers one label (RFC 6125 section 6.4.3), 0 for none.
fn rank(dns_names: &[String], server_name: &str) -> u8 {
    let parent = server_name.split_once('.').map(|(_, parent)| parent);
    let rank = |name: &String| {
        if name.eq_ignore_ascii_case(server_name) {
            return 2;
        }
        let covers = |suffix: &str| parent.is_some_and(|parent| suffix.eq_ignore_ascii_case(parent));
        u8::from(name.strip_prefix("*.").is_some_and(covers))
    };
    dns_names.iter().map(rank).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn names_rank_as_clients_verify_them() {
        let names = ["a.example.com".to_owned(), "*.example.org".to_owned()];
        for (server_name, expected) in [
            ("a.example.com", 2),
            ("A.Example.com", 2),
            ("b.example.com", 0),
            ("b.example.org", 1),
            ("a.b.example.org", 0),
            ("example.org", 0),
            ("org", 0),
        ] {
            assert_eq!(rank(&names, server_name), expected, "{server_name}");
        }
    }
}
