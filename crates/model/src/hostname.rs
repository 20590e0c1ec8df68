//! Hostnames of listeners and routes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// A hostname as listeners and routes give it: lower case, without a port.
///
/// A wildcard covers any number of labels, never the bare domain (`*.example.com` covers `a.b.example.com`, not
/// `example.com`). Written as `*`, `example.com` or `*.example.com`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hostname {
    /// No hostname given: every Host and every server name.
    Any,
    /// One name.
    Exact(Arc<str>),
    /// `*.` before the contained suffix, which is kept without the star and without the leading dot.
    Wildcard(Arc<str>),
}

impl Hostname {
    /// Reads the text of a `hostname` field; absent and empty are [`Hostname::Any`]. Syntax is the validator's job.
    pub fn new(text: Option<&str>) -> Self {
        match text {
            None | Some("" | "*") => Self::Any,
            Some(text) => match text.strip_prefix("*.") {
                Some(suffix) => Self::Wildcard(suffix.to_ascii_lowercase().into()),
                None => Self::Exact(text.to_ascii_lowercase().into()),
            },
        }
    }

    /// Whether a Host (lower case, without port) or a server name is covered.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Wildcard(suffix) => host
                .strip_suffix(&**suffix)
                .and_then(|head| head.strip_suffix('.'))
                .is_some_and(|head| !head.is_empty()),
        }
    }

    /// What both cover, the more specific of the two, if one covers the other (the specification's intersection).
    pub fn intersection<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        match (self, other) {
            (Self::Any, _) => Some(other),
            (_, Self::Any) => Some(self),
            (Self::Exact(name), _) => other.covers(name).then_some(self),
            (_, Self::Exact(name)) => self.covers(name).then_some(other),
            (Self::Wildcard(a), Self::Wildcard(b)) if a == b => Some(self),
            (Self::Wildcard(a), Self::Wildcard(_)) if other.covers(a) => Some(self),
            (Self::Wildcard(_), Self::Wildcard(b)) if self.covers(b) => Some(other),
            _ => None,
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hostname {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hostname {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::new(Some(&String::deserialize(deserializer)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::Hostname;

    #[test]
    fn covers_as_the_specification_says() {
        for (hostname, host, covered) in [
            ("*", "anything.example", true),
            ("example.com", "example.com", true),
            ("example.com", "www.example.com", false),
            ("*.example.com", "www.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "wwwexample.com", false),
            ("*.Example.com", "www.example.com", true),
        ] {
            assert_eq!(Hostname::new(Some(hostname)).covers(host), covered, "{hostname} {host}");
        }
    }

    #[test]
    fn intersects_as_the_specification_says() {
        for (listener, route, both) in [
            ("*", "*", Some("*")),
            ("*", "a.example.com", Some("a.example.com")),
            ("a.example.com", "*", Some("a.example.com")),
            ("*.example.com", "a.example.com", Some("a.example.com")),
            ("*.example.com", "example.com", None),
            ("a.example.com", "*.example.com", Some("a.example.com")),
            ("*.example.com", "*.example.com", Some("*.example.com")),
            ("*.com", "*.example.com", Some("*.example.com")),
            ("*.example.com", "*.com", Some("*.example.com")),
            ("*.example.com", "*.example.net", None),
            ("*.a.example.com", "*.b.example.com", None),
            ("a.example.com", "b.example.com", None),
        ] {
            let (listener, route) = (Hostname::new(Some(listener)), Hostname::new(Some(route)));
            assert_eq!(
                listener.intersection(&route),
                both.map(|text| Hostname::new(Some(text))).as_ref(),
                "{listener} {route}"
            );
            assert_eq!(route.intersection(&listener), listener.intersection(&route), "{listener} {route}");
        }
    }
}
