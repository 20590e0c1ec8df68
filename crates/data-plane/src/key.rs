//! The private key of an identity: made here, never leaves the process, never printed.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rcgen::{CertificateParams, PublicKeyData, SignatureAlgorithm};
use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;

/// An ECDSA key on P-256. aws-lc zeroes it when it is freed.
pub(crate) struct Key(EcdsaKeyPair);

/// The key could not be made or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a private key could not be made; is the system out of entropy or memory?")]
pub(crate) struct KeyError;

impl Key {
    pub(crate) fn generate() -> Result<Self, KeyError> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Self).map_err(|_| KeyError)
    }

    /// A certificate signing request in PEM (RFC 2986). It proves the possession of the key, and claims nothing.
    pub(crate) fn request(&self) -> Result<String, KeyError> {
        let request = CertificateParams::default().serialize_request(self).map_err(|_| KeyError)?;
        request.pem().map_err(|_| KeyError)
    }

    /// The form that handshakes are signed with.
    pub(crate) fn for_tls(&self) -> Result<Arc<dyn SigningKey>, KeyError> {
        // The document is zeroed when it is dropped, and read in place.
        let document = self.0.to_pkcs8v1().map_err(|_| KeyError)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(document.as_ref()));
        rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der).map_err(|_| KeyError)
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}
