//! The form in which a piece goes from the controller to a data plane: JSON, with the bytes of private keys in it.
//!
//! In flow and out flow [`Resource`]s and their bytes. Equal pieces give equal bytes. A value of an enumeration that is not known
//! makes the piece an error (an older data plane must not guess what a newer controller means); an unknown field is passed over.
//! Buffers that hold a private key are zeroed when they are dropped, those that were outgrown too.

use crate::{
    Backend, Certificate, CertificateKey, Endpoints, Gateway, Listener, PrivateKey, PrivateKeyFormat, Resource,
    ResourceKind, Route, RuleAction, SecretBytes,
};
use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::io;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// Why a piece cannot be encoded, or bytes are not a piece. Never holds a value that came from a Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} cannot be read or written: {reason}", kind.as_str())]
pub struct WireError {
    /// The kind of the piece.
    pub kind: ResourceKind,
    /// What is wrong, and where.
    pub reason: String,
}

/// The bytes of a piece.
///
/// # Errors
/// Never for a piece that `compile` makes: every key of every map in it is text.
pub fn encode(resource: &Resource) -> Result<Zeroizing<Vec<u8>>, WireError> {
    let mut out = Out(Zeroizing::new(Vec::with_capacity(512)));
    let written = match resource {
        Resource::Gateway(gateway) => serde_json::to_writer(&mut out, &**gateway),
        Resource::Listener(listener) => serde_json::to_writer(&mut out, &**listener),
        Resource::Route(route) => serde_json::to_writer(&mut out, &**route),
        Resource::Backend(backend) => serde_json::to_writer(&mut out, &**backend),
        Resource::Endpoints(endpoints) => serde_json::to_writer(&mut out, &**endpoints),
        Resource::Certificate(certificate) => serde_json::to_writer(&mut out, &Exposed::new(certificate)),
    };
    written.map_err(|error| WireError { kind: resource.kind(), reason: error.to_string() })?;
    Ok(out.0)
}

/// The piece that the bytes are.
///
/// # Errors
/// When the bytes are not a piece of this kind, or hold a value of an enumeration that is not known here.
pub fn decode(kind: ResourceKind, bytes: &[u8]) -> Result<Resource, WireError> {
    match kind {
        ResourceKind::Gateway => read::<Gateway>(kind, bytes).map(|gateway| Resource::Gateway(Arc::new(gateway))),
        ResourceKind::Listener => read::<Listener>(kind, bytes).map(|listener| Resource::Listener(Arc::new(listener))),
        ResourceKind::Route => read::<Route>(kind, bytes).map(|mut route| {
            shrink_route(&mut route);
            Resource::Route(Arc::new(route))
        }),
        ResourceKind::Backend => read::<Backend>(kind, bytes).map(|backend| Resource::Backend(Arc::new(backend))),
        ResourceKind::Endpoints => read::<Endpoints>(kind, bytes).map(|mut endpoints| {
            endpoints.endpoints.shrink_to_fit();
            Resource::Endpoints(Arc::new(endpoints))
        }),
        ResourceKind::Certificate => {
            read::<Received>(kind, bytes).map(|received| Resource::Certificate(Arc::new(received.into())))
        }
    }
}

/// Lists that are read grow by steps, and most have one entry: without this a route takes twice the memory.
fn shrink_route(route: &mut Route) {
    route.attachments.iter_mut().for_each(|attachment| attachment.hostnames.shrink_to_fit());
    route.attachments.shrink_to_fit();
    // Nobody else has them yet.
    let Some(rules) = Arc::get_mut(&mut route.rules) else { return };
    for rule in rules.iter_mut() {
        for rule_match in &mut rule.matches {
            rule_match.headers.shrink_to_fit();
            rule_match.query_params.shrink_to_fit();
        }
        rule.matches.shrink_to_fit();
        rule.filters.shrink_to_fit();
        if let RuleAction::Forward(backends) = &mut rule.action {
            backends.iter_mut().for_each(|backend| backend.filters.shrink_to_fit());
            backends.shrink_to_fit();
        }
    }
    rules.shrink_to_fit();
}

fn read<T: DeserializeOwned>(kind: ResourceKind, bytes: &[u8]) -> Result<T, WireError> {
    serde_json::from_slice(bytes).map_err(|error| {
        // The message of a wrong value quotes it; that of a certificate may hold a piece of the key.
        let place = || format!("not valid at line {}, column {}", error.line(), error.column());
        let reason = if kind == ResourceKind::Certificate { place() } else { error.to_string() };
        WireError { kind, reason }
    })
}

/// A buffer whose outgrown allocations are zeroed too.
struct Out(Zeroizing<Vec<u8>>);

impl io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(self.0.capacity() * 2)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A certificate with its key, to be written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Exposed<'a> {
    key: &'a CertificateKey,
    chain: Vec<Base64<'a>>,
    format: PrivateKeyFormat,
    private_key: Base64<'a>,
    dns_names: &'a [String],
    not_before: i64,
    not_after: i64,
}

impl<'a> Exposed<'a> {
    fn new(certificate: &'a Certificate) -> Self {
        Self {
            key: &certificate.key,
            chain: certificate.chain.iter().map(|der| Base64(der)).collect(),
            format: certificate.private_key.format,
            private_key: Base64(certificate.private_key.der.expose()),
            dns_names: &certificate.dns_names,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        }
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Straight into the buffer, without a text in between.
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// A certificate with its key, as it was read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    key: CertificateKey,
    chain: Vec<Bytes>,
    format: PrivateKeyFormat,
    private_key: Bytes,
    dns_names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

impl From<Received> for Certificate {
    fn from(received: Received) -> Self {
        let Received { key, chain, format, private_key, dns_names, not_before, not_after } = received;
        Self {
            key,
            chain: chain.into_iter().map(|mut der| std::mem::take(&mut *der.0)).collect(),
            private_key: PrivateKey { format, der: private_key.into_secret() },
            dns_names,
            not_before,
            not_after,
        }
    }
}

struct Bytes(Zeroizing<Vec<u8>>);

impl Bytes {
    fn into_secret(mut self) -> SecretBytes {
        SecretBytes::new(std::mem::take(&mut *self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                // Of the full size at once: growing would leave a copy behind.
                let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
                match STANDARD.decode_slice(text, &mut bytes) {
                    Ok(length) => bytes.truncate(length),
                    Err(_) => {
                        bytes.zeroize();
                        return Err(E::custom("not base64"));
                    }
                }
                Ok(Bytes(bytes))
            }
        }

        deserializer.deserialize_str(Text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
