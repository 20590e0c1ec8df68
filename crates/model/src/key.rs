//! The kinds of pieces, and their keys as text: `kind/key`, such as `route/HTTPRoute/shop/cart` or `backend/shop/cart:8080`.

use crate::{Resource, ResourceKey};
use std::fmt;
use std::str::FromStr;

/// Which kind of piece a [`Resource`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceKind {
    /// The Gateway itself. It has no [`ResourceKey`]: there is one for each configuration.
    Gateway,
    /// A listener.
    Listener,
    /// A route.
    Route,
    /// A backend.
    Backend,
    /// A backend's endpoints.
    Endpoints,
    /// A certificate.
    Certificate,
}

impl ResourceKind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Gateway, Self::Listener, Self::Route, Self::Backend, Self::Endpoints, Self::Certificate];

    /// The kind in a key's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Listener => "listener",
            Self::Route => "route",
            Self::Backend => "backend",
            Self::Endpoints => "endpoints",
            Self::Certificate => "certificate",
        }
    }
}

impl Resource {
    /// Its kind.
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Gateway(_) => ResourceKind::Gateway,
            Self::Listener(_) => ResourceKind::Listener,
            Self::Route(_) => ResourceKind::Route,
            Self::Backend(_) => ResourceKind::Backend,
            Self::Endpoints(_) => ResourceKind::Endpoints,
            Self::Certificate(_) => ResourceKind::Certificate,
        }
    }

    /// Its key; `None` for the Gateway itself.
    pub fn key(&self) -> Option<ResourceKey> {
        Some(match self {
            Self::Gateway(_) => return None,
            Self::Listener(listener) => ResourceKey::Listener(listener.key.clone()),
            Self::Route(route) => ResourceKey::Route(route.key.clone()),
            Self::Backend(backend) => ResourceKey::Backend(backend.key.clone()),
            Self::Endpoints(endpoints) => ResourceKey::Endpoints(endpoints.key.clone()),
            Self::Certificate(certificate) => ResourceKey::Certificate(certificate.key.clone()),
        })
    }
}

impl ResourceKey {
    /// The kind of piece that it names.
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Listener(_) => ResourceKind::Listener,
            Self::Route(_) => ResourceKind::Route,
            Self::Backend(_) => ResourceKind::Backend,
            Self::Endpoints(_) => ResourceKind::Endpoints,
            Self::Certificate(_) => ResourceKind::Certificate,
        }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind().as_str();
        match self {
            Self::Listener(key) => write!(f, "{kind}/{key}"),
            Self::Route(key) => write!(f, "{kind}/{key}"),
            Self::Backend(key) | Self::Endpoints(key) => write!(f, "{kind}/{key}"),
            Self::Certificate(key) => write!(f, "{kind}/{}", key.0),
        }
    }
}

/// Why a text is not the key of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceKeyError {
    /// The kind is not known here.
    #[error("expected listener/…, route/…, backend/…, endpoints/… or certificate/…")]
    Kind,
    /// The kind is known, what follows is not a key of it.
    #[error("{} key: {expected}", kind.as_str())]
    Key {
        /// The kind.
        kind: ResourceKind,
        /// How its keys are written.
        expected: &'static str,
    },
}

impl FromStr for ResourceKey {
    type Err = ResourceKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, key) = text.split_once('/').ok_or(ResourceKeyError::Kind)?;
        let known = |known: &&ResourceKind| known.as_str() == kind;
        let kind = *ResourceKind::ALL.iter().find(known).ok_or(ResourceKeyError::Kind)?;
        let parsed = match kind {
            ResourceKind::Gateway => return Err(ResourceKeyError::Kind),
            ResourceKind::Listener => key.parse().map(Self::Listener),
            ResourceKind::Route => key.parse().map(Self::Route),
            ResourceKind::Backend => key.parse().map(Self::Backend),
            ResourceKind::Endpoints => key.parse().map(Self::Endpoints),
            ResourceKind::Certificate => key.parse().map(|name| Self::Certificate(crate::CertificateKey(name))),
        };
        parsed.map_err(|expected| ResourceKeyError::Key { kind, expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_and_read() {
        for text in [
            "listener/http",
            "listener/infra/set/http",
            "route/HTTPRoute/shop/cart",
            "backend/shop/cart:8080",
            "endpoints/shop/cart:8080",
            "certificate/infra/tls",
        ] {
            assert_eq!(text.parse::<ResourceKey>().unwrap().to_string(), text);
        }
        for text in
            ["", "gateway", "gateway/a/b", "secret/a/b", "route/FutureRoute/a/b", "backend/a/b", "endpoints/a:1"]
        {
            assert!(text.parse::<ResourceKey>().is_err(), "{text}");
        }
    }
}
