//! Certificates of listeners.

use crate::{ObjectName, SecretBytes};
use serde::{Deserialize, Serialize};

/// The Secret that holds a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CertificateKey(pub ObjectName);

/// A certificate chain with its private key, parsed and known to fit each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The Secret.
    pub key: CertificateKey,
    /// The chain in DER, leaf first.
    #[serde(serialize_with = "chain_length")]
    pub chain: Vec<Vec<u8>>,
    /// The leaf's key.
    pub private_key: PrivateKey,
    /// The DNS names (and, without any, the common name) of the leaf, lower case.
    pub dns_names: Vec<String>,
    /// Start of validity, seconds since 1970-01-01T00:00:00Z.
    pub not_before: i64,
    /// End of validity, seconds since 1970-01-01T00:00:00Z.
    pub not_after: i64,
}

/// A private key in DER.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrivateKey {
    /// How the bytes are to be read.
    pub format: PrivateKeyFormat,
    /// The key.
    pub der: SecretBytes,
}

/// The encoding of a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrivateKeyFormat {
    /// `BEGIN RSA PRIVATE KEY`
    Pkcs1,
    /// `BEGIN PRIVATE KEY`
    Pkcs8,
    /// `BEGIN EC PRIVATE KEY`
    Sec1,
}

fn chain_length<S: serde::Serializer>(chain: &[Vec<u8>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{} certificates", chain.len()))
}
