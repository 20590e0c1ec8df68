//! Certificate signing requests (RFC 2986): proof that the sender holds the private key, and nothing else.
//!
//! Subject, extensions and attributes are never looked at: what a certificate says is decided here, from what was checked.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{PublicKeyData, SignatureAlgorithm};
use rustls_pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::prelude::FromDer;

/// Longest request in PEM; one for P-256 without extensions has some 350 bytes.
pub(super) const CSR_LIMIT: usize = 4096;
/// A point on P-256, uncompressed.
const POINT_LENGTH: usize = 65;

/// The public key of a request whose signature was verified.
pub(super) struct RequestedKey(Vec<u8>);

/// Why a request is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the certificate signing request is not a PEM of at most 4096 bytes with an ECDSA P-256 key that signed it with SHA-256"
)]
pub(super) struct CsrError;

impl RequestedKey {
    pub(super) fn from_pem(pem: &str) -> Result<Self, CsrError> {
        if pem.len() > CSR_LIMIT {
            return Err(CsrError);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| CsrError)?;
        let (rest, csr) = X509CertificationRequest::from_der(&der).map_err(|_| CsrError)?;
        let info = &csr.certification_request_info;
        let key = &info.subject_pki;
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let point = key.subject_public_key.data.as_ref();
        let ours = rest.is_empty()
            && key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
            && curve == Some(OID_EC_P256)
            && point.len() == POINT_LENGTH
            && csr.signature_algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256;
        if !ours {
            return Err(CsrError);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
            .verify(info.raw, &csr.signature_value.data)
            .map_err(|_| CsrError)?;
        Ok(Self(point.to_vec()))
    }
}

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use rcgen::{CertificateParams, KeyPair};

    fn csr(key: &KeyPair) -> rcgen::CertificateSigningRequest {
        CertificateParams::new(vec!["anything.example".to_owned()]).unwrap().serialize_request(key).unwrap()
    }

    fn pem(der: &[u8]) -> String {
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n")
    }

    #[test]
    fn the_key_of_a_request_is_taken() {
        let key = KeyPair::generate().unwrap();
        let taken = RequestedKey::from_pem(&csr(&key).pem().unwrap()).unwrap();
        assert_eq!(taken.der_bytes(), key.public_key_raw());
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_refused() {
        let good = csr(&KeyPair::generate().unwrap()).der().to_vec();
        // Every byte of the signed part, the algorithms and the signature counts.
        for index in (0..good.len()).step_by(7) {
            let mut changed = good.clone();
            changed[index] ^= 1;
            assert!(RequestedKey::from_pem(&pem(&changed)).is_err(), "byte {index}");
        }
        for cut in 0..good.len() {
            assert!(RequestedKey::from_pem(&pem(&good[..cut])).is_err(), "cut at {cut}");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(RequestedKey::from_pem(&pem(&longer)).is_err());
        assert!(RequestedKey::from_pem(&pem(&good)).is_ok());
    }

    #[test]
    fn other_keys_and_long_requests_are_refused() {
        for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            assert!(RequestedKey::from_pem(&csr(&key).pem().unwrap()).is_err());
        }
        let good = csr(&KeyPair::generate().unwrap()).pem().unwrap();
        assert!(RequestedKey::from_pem(&format!("{}{good}", "\n".repeat(CSR_LIMIT))).is_err());
    }
}
