//! Private keys that are made here: ECDSA on P-256, zeroed when dropped, redacted when printed.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rcgen::{PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use zeroize::{Zeroize, Zeroizing};

use super::pem;

/// A private key. aws-lc zeroes its form of it when it is freed.
pub(super) struct PrivateKey(EcdsaKeyPair);

/// The key could not be made, read or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the private key is not a usable ECDSA P-256 key in PKCS #8 form")]
pub(super) struct KeyError;

impl PrivateKey {
    pub(super) fn generate() -> Result<Self, KeyError> {
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(Self).map_err(|_| KeyError)
    }

    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let mut der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_pkcs8_der());
        der.zeroize();
        key.map(Self).map_err(|_| KeyError)
    }

    /// `BEGIN PRIVATE KEY`.
    pub(super) fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        Ok(pem::encode("PRIVATE KEY", &self.to_pkcs8()?))
    }

    /// The form that rustls signs handshakes with.
    pub(super) fn to_rustls(&self) -> Result<std::sync::Arc<dyn rustls::sign::SigningKey>, KeyError> {
        let der = self.to_pkcs8()?;
        let mut der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.to_vec()));
        let key = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der);
        der.zeroize();
        key.map_err(|_| KeyError)
    }

    fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = self.0.to_pkcs8v1().map_err(|_| KeyError)?;
        Ok(Zeroizing::new(document.as_ref().to_vec()))
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| rcgen::Error::RingUnspecified)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_never_printed() {
        let key = PrivateKey::generate().unwrap();
        let pem = key.to_pem().unwrap();
        assert!(pem.lines().all(|line| line.len() <= 64));
        let read = PrivateKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(key.der_bytes(), read.der_bytes());
        assert_eq!(format!("{key:?}"), "(redacted)");
        key.to_rustls().unwrap();
    }

    #[test]
    fn other_keys_are_refused() {
        let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        for pem in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", p384.as_str()] {
            assert!(PrivateKey::from_pem(pem.as_bytes()).is_err());
        }
    }
}
