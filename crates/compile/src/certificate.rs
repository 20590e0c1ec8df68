//! Certificates: from a Secret's PEM to a chain and a key that are known to fit each other.
//!
//! Checked here: the PEM can be read, the first certificate is well formed, the private key is of a supported kind and its public half is
//! the one in the first certificate. Not checked: whether any client will trust the chain. Validity in time is a finding, not an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use portcullis_api::secret::Secret;
use portcullis_model::{Certificate, CertificateKey, ObjectName, PrivateKey, PrivateKeyFormat, SecretBytes};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroize;

use crate::snapshot::Snapshot;

/// What Secrets came to, read once and kept until the Secret changes.
#[derive(Default)]
pub(crate) struct Certificates(BTreeMap<ObjectName, Result<Arc<Certificate>, String>>);

impl Certificates {
    /// The certificate in a Secret, or why there is none.
    pub(crate) fn of(&mut self, snapshot: &Snapshot, name: &ObjectName) -> Result<Arc<Certificate>, String> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let read = match snapshot.secrets.get(name) {
            Some(secret) => read(name, secret).map(Arc::new),
            None => return Err("the Secret does not exist; create it, of type kubernetes.io/tls".to_owned()),
        };
        self.0.insert(name.clone(), read.clone());
        read
    }

    /// Forgets a Secret that changed.
    pub(crate) fn forget(&mut self, name: &ObjectName) {
        self.0.remove(name);
    }
}

/// Secrets with a type of this group are the controller's own: the key of its certificate authority is nobody's to serve.
const OWN_TYPES: &str = "portcullis.dev/";

/// Reads a Secret's `tls.crt` and `tls.key`.
fn read(name: &ObjectName, secret: &Secret) -> Result<Certificate, String> {
    if secret.r#type.as_ref().is_some_and(|own| own.starts_with(OWN_TYPES)) {
        return Err("the Secret is the controller's own; refer to one of type kubernetes.io/tls".to_owned());
    }
    let value = |key: &str| match secret.data.get(key).map(|value| value.expose()) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(format!("the Secret has no {key}")),
    };
    let chain = CertificateDer::pem_slice_iter(value("tls.crt")?)
        .map(|der| der.map(|der| der.as_ref().to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "tls.crt is not PEM".to_owned())?;
    let leaf = chain.first().ok_or("tls.crt holds no certificate in PEM (BEGIN CERTIFICATE)")?;
    let (rest, leaf) =
        X509Certificate::from_der(leaf).map_err(|_| "the first certificate in tls.crt is malformed".to_owned())?;
    if !rest.is_empty() {
        return Err("the first certificate in tls.crt has something behind its end".to_owned());
    }
    let private_key = private_key(value("tls.key")?)?;
    if !public_keys(&private_key)?.iter().any(|key| **key == *leaf.public_key().subject_public_key.data) {
        return Err("the key in tls.key does not belong to the first certificate in tls.crt".to_owned());
    }
    let (dns_names, validity) = (dns_names(&leaf), leaf.validity());
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok(Certificate { key: CertificateKey(name.clone()), chain, private_key, dns_names, not_before, not_after })
}

fn private_key(pem: &[u8]) -> Result<PrivateKey, String> {
    let mut der = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| "tls.key holds no private key in PEM (an encrypted key is not supported)".to_owned())?;
    let format = match &der {
        PrivateKeyDer::Pkcs1(_) => Ok(PrivateKeyFormat::Pkcs1),
        PrivateKeyDer::Sec1(_) => Ok(PrivateKeyFormat::Sec1),
        PrivateKeyDer::Pkcs8(_) => Ok(PrivateKeyFormat::Pkcs8),
        _ => Err("tls.key is of an unknown format".to_owned()),
    };
    let key = format.map(|format| PrivateKey { format, der: SecretBytes::new(der.secret_der().to_vec()) });
    der.zeroize();
    key
}

/// The public half of a key, as the bits of a SubjectPublicKeyInfo, for each way in which the key can be read.
fn public_keys(key: &PrivateKey) -> Result<Vec<Vec<u8>>, String> {
    let der = key.der.expose();
    let mut keys = Vec::new();
    let rsa = match key.format {
        PrivateKeyFormat::Pkcs1 => RsaKeyPair::from_der(der).ok(),
        PrivateKeyFormat::Pkcs8 => RsaKeyPair::from_pkcs8(der).ok(),
        PrivateKeyFormat::Sec1 => None,
    };
    keys.extend(rsa.map(|pair| pair.public_key().as_ref().to_vec()));
    if key.format != PrivateKeyFormat::Pkcs1 {
        for curve in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING]
        {
            let pair = EcdsaKeyPair::from_private_key_der(curve, der).ok();
            keys.extend(pair.map(|pair| pair.public_key().as_ref().to_vec()));
        }
    }
    if key.format == PrivateKeyFormat::Pkcs8 {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok();
        keys.extend(pair.map(|pair| pair.public_key().as_ref().to_vec()));
    }
    if keys.is_empty() {
        return Err("tls.key is malformed or of a kind that is not supported: use RSA with 2048 to 8192 bits, ECDSA \
                    with P-256, P-384 or P-521, or Ed25519"
            .to_owned());
    }
    Ok(keys)
}

/// The names that clients compare: the DNS names, and without any the common name.
fn dns_names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let alternative = leaf.subject_alternative_name().ok().flatten();
    let mut names: Vec<String> = alternative
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let common = leaf.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        names.extend(common.map(str::to_ascii_lowercase));
    }
    names
}

/// Whether a certificate's name covers all that a listener's hostname (lower case, perhaps with `*.`) stands for at its first level.
pub(crate) fn covers(dns_name: &str, hostname: &str) -> bool {
    if dns_name == hostname {
        return true;
    }
    let Some(parent) = dns_name.strip_prefix("*.") else { return false };
    !hostname.starts_with("*.")
        && hostname.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent)
}

#[cfg(test)]
mod tests {
    use portcullis_api::secret::TLS_TYPE;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_controller_s_own_secrets_are_no_listener_s() {
        for (r#type, refused) in [
            (Some("portcullis.dev/certificate-authority"), true),
            (Some(TLS_TYPE), false),
            (Some("Opaque"), false),
            (None, false),
        ] {
            let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "portcullis-ca"}});
            if let Some(r#type) = r#type {
                secret["type"] = json!(r#type);
            }
            let secret = serde_json::from_value(secret).unwrap();
            let error = read(&ObjectName::new("portcullis-system", "portcullis-ca"), &secret).unwrap_err();
            assert_eq!(error.contains("the controller's own"), refused, "{type:?}: {error}");
        }
    }
}
