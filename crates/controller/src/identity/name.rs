//! Who a certificate is for: the URI in its subject alternative names, and nothing else in it.
//!
//! In flow the facts that were checked at issuing time; out flows a URI. At a handshake the way back: in flows a certificate
//! whose chain was verified, out flows who it is and until when.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use portcullis_model::ObjectName;
use x509_parser::extensions::GeneralName;

/// The trust domain of every identity.
const TRUST_DOMAIN: &str = "spiffe://portcullis.dev/";

/// Longest name of an object (RFC 1123 subdomain).
const NAME_LIMIT: usize = 253;
/// Longest UID that is accepted; the API server's have 36 characters.
const UID_LIMIT: usize = 64;

/// Whom a certificate of the controller's authority names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// One pod of a Gateway's data plane: `spiffe://portcullis.dev/ns/NAMESPACE/gateway/NAME/uid/UID/pod/POD`.
    DataPlane(DataPlaneIdentity),
    /// One replica of the controller: `spiffe://portcullis.dev/controller/POD`.
    Controller {
        /// The replica's pod.
        pod: Arc<str>,
    },
}

/// One pod of the data plane of one Gateway, of one life of that Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPlaneIdentity {
    /// The Gateway; the pod is in its namespace.
    pub gateway: ObjectName,
    /// The Gateway's UID: a Gateway that is deleted and created again under its name is another one.
    pub uid: Arc<str>,
    /// The pod.
    pub pod: Arc<str>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataPlane(DataPlaneIdentity { gateway, uid, pod }) => {
                write!(f, "{TRUST_DOMAIN}ns/{}/gateway/{}/uid/{uid}/pod/{pod}", gateway.namespace, gateway.name)
            }
            Self::Controller { pod } => write!(f, "{TRUST_DOMAIN}controller/{pod}"),
        }
    }
}

impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(uri: &str) -> Result<Self, NotAnIdentity> {
        let path = uri.strip_prefix(TRUST_DOMAIN).ok_or(NotAnIdentity)?;
        let mut segments = path.split('/');
        let mut next = || segments.next();
        let identity = match (next(), next(), next(), next(), next(), next(), next(), next()) {
            (
                Some("ns"),
                Some(namespace),
                Some("gateway"),
                Some(name),
                Some("uid"),
                Some(uid),
                Some("pod"),
                Some(pod),
            ) => Self::DataPlane(
                DataPlaneIdentity::new(ObjectName::new(namespace, name), uid, pod).ok_or(NotAnIdentity)?,
            ),
            (Some("controller"), Some(pod), None, ..) if is_name(pod) => Self::Controller { pod: pod.into() },
            _ => return Err(NotAnIdentity),
        };
        if segments.next().is_some() { Err(NotAnIdentity) } else { Ok(identity) }
    }
}

/// A URI that names none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate names neither a data plane nor a controller of Portcullis")]
pub struct NotAnIdentity;

impl DataPlaneIdentity {
    /// `None` when a part is not a name that the API server would give: it might then read as another identity.
    pub fn new(gateway: ObjectName, uid: &str, pod: &str) -> Option<Self> {
        let named = is_name(&gateway.namespace) && is_name(&gateway.name) && is_name(pod) && is_uid(uid);
        named.then(|| Self { gateway, uid: uid.into(), pod: pod.into() })
    }
}

/// True for an RFC 1123 subdomain, which all names here are.
pub(crate) fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= NAME_LIMIT
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

fn is_uid(text: &str) -> bool {
    (1..=UID_LIMIT).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What a verified certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Whom it names.
    pub identity: Identity,
    /// End of validity, seconds since 1970-01-01T00:00:00Z.
    pub not_after: i64,
}

impl Peer {
    /// Reads a certificate whose chain has been verified.
    ///
    /// # Errors
    /// When there is not exactly one URI among its subject alternative names, or not one of ours.
    pub fn of_certificate(der: &[u8]) -> Result<Self, NotAnIdentity> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| NotAnIdentity)?;
        let names = certificate.subject_alternative_name().ok().flatten().ok_or(NotAnIdentity)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(NotAnIdentity) };
        Ok(Self { identity: uri.parse()?, not_after: certificate.validity().not_after.timestamp() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_plane(namespace: &str, name: &str, uid: &str, pod: &str) -> Option<DataPlaneIdentity> {
        DataPlaneIdentity::new(ObjectName::new(namespace, name), uid, pod)
    }

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let identity = Identity::DataPlane(data_plane("shop", "edge.v2", "0f-9", "edge-portcullis-5d-x").unwrap());
        assert_eq!(
            identity.to_string(),
            "spiffe://portcullis.dev/ns/shop/gateway/edge.v2/uid/0f-9/pod/edge-portcullis-5d-x"
        );
        assert_eq!(identity.to_string().parse(), Ok(identity));
        let identity = Identity::Controller { pod: "portcullis-controller-0".into() };
        assert_eq!(identity.to_string().parse(), Ok(identity));
    }

    #[test]
    fn what_is_not_exactly_an_identity_is_refused() {
        for uri in [
            "",
            "spiffe://portcullis.dev",
            "spiffe://portcullis.dev/",
            "spiffe://other.dev/controller/a",
            "spiffe://portcullis.dev.evil/controller/a",
            "http://portcullis.dev/controller/a",
            "spiffe://portcullis.dev/controller/",
            "spiffe://portcullis.dev/controller/a/",
            "spiffe://portcullis.dev/controller/a/b",
            "spiffe://portcullis.dev/controller/A",
            "spiffe://portcullis.dev/ns/a/gateway/b/uid/c/pod/",
            "spiffe://portcullis.dev/ns/a/gateway/b/uid/c/pod/d/",
            "spiffe://portcullis.dev/ns/a/gateway/b/uid/c/pod/d/e",
            "spiffe://portcullis.dev/ns/a/gateway/b/uid//pod/d",
            "spiffe://portcullis.dev/ns//gateway/b/uid/c/pod/d",
            "spiffe://portcullis.dev/ns/a%2Fb/gateway/b/uid/c/pod/d",
        ] {
            assert_eq!(uri.parse::<Identity>(), Err(NotAnIdentity), "{uri}");
        }
    }

    #[test]
    fn a_part_that_could_read_as_another_identity_is_refused() {
        for (namespace, name, uid, pod) in [
            ("shop/gateway/other", "edge", "u", "p"),
            ("shop", "", "u", "p"),
            ("shop", "Edge", "u", "p"),
            ("shop", "edge", "u/pod/x", "p"),
            ("shop", "edge", "", "p"),
            ("shop", "edge", "u", "p\0"),
            ("shop", "-edge", "u", "p"),
            (&"a".repeat(254), "edge", "u", "p"),
        ] {
            assert_eq!(data_plane(namespace, name, uid, pod), None, "{namespace} {name} {uid} {pod}");
        }
    }
}
