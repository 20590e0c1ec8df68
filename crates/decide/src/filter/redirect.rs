//! RequestRedirect: the Location.
//!
//! What the filter does not name is kept from the request: scheme, host (without its port), path and always the query.
//! The port is the filter's, else the well-known one of the filter's scheme, else the listener's; 80 with http and 443
//! with https are left out. A request without a Host gets a Location without scheme and host.

use super::url_rewrite::host_name;
use super::{LinkedPathModifier, RewrittenPath};
use http::{HeaderValue, StatusCode};
use portcullis_model::Redirect;
use std::fmt::Write;

/// A redirect.
#[derive(Debug)]
pub(crate) struct LinkedRedirect {
    pub(crate) status: StatusCode,
    scheme: Option<Scheme>,
    hostname: Option<Box<str>>,
    port: Option<u16>,
    path: Option<LinkedPathModifier>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// What a Location is made from.
pub(crate) struct RedirectFrom<'a> {
    pub(crate) tls: bool,
    pub(crate) listener_port: u16,
    /// Without port.
    pub(crate) host: &'a str,
    pub(crate) path: RewrittenPath<'a>,
    pub(crate) query: Option<&'a str>,
}

impl LinkedRedirect {
    pub(crate) fn new(redirect: &Redirect, by_prefix: bool) -> Result<Self, String> {
        let scheme = match redirect.scheme.as_deref() {
            None => None,
            Some("http") => Some(Scheme::Http),
            Some("https") => Some(Scheme::Https),
            Some(other) => return Err(format!("the scheme \"{}\" is neither http nor https", other.escape_default())),
        };
        let status = match redirect.status_code {
            code @ (301 | 302 | 303 | 307 | 308) => StatusCode::from_u16(code).ok(),
            _ => None,
        };
        Ok(Self {
            status: status.ok_or_else(|| format!("{} is not a status code of redirects", redirect.status_code))?,
            scheme,
            hostname: redirect.hostname.as_deref().map(host_name).transpose()?.map(Into::into),
            port: redirect.port,
            path: redirect.path.as_ref().map(|path| LinkedPathModifier::new(path, by_prefix)).transpose()?,
        })
    }

    /// `None` if the request's query cannot be sent in a header.
    pub(crate) fn location(&self, mut from: RedirectFrom<'_>) -> Option<HeaderValue> {
        if let Some(modifier) = &self.path {
            modifier.apply(&mut from.path);
        }
        let mut location = String::new();
        let host = self.hostname.as_deref().unwrap_or(from.host);
        if !host.is_empty() {
            let scheme = self.scheme.unwrap_or(if from.tls { Scheme::Https } else { Scheme::Http });
            let port = self.port.or(self.scheme.map(Scheme::port)).unwrap_or(from.listener_port);
            location.push_str(scheme.as_str());
            location.push_str("://");
            location.push_str(host);
            if port != scheme.port() {
                // Writing to a String does not fail.
                let _ = write!(location, ":{port}");
            }
        }
        location.push_str(&from.path.path);
        if let Some(query) = from.query {
            location.push('?');
            location.push_str(query);
        }
        HeaderValue::try_from(location).ok()
    }
}

impl Scheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LinkedRedirect, RedirectFrom, RewrittenPath};
    use portcullis_model::{PathModifier, Redirect};

    fn redirect(scheme: Option<&str>, hostname: Option<&str>, port: Option<u16>) -> Redirect {
        Redirect {
            scheme: scheme.map(Into::into),
            hostname: hostname.map(Into::into),
            path: None,
            port,
            status_code: 302,
        }
    }

    fn location(redirect: &Redirect, listener_port: u16, host: &str, query: Option<&str>) -> String {
        let path = RewrittenPath { path: "/foo/bar".into(), prefix: 4 };
        let from = RedirectFrom { tls: matches!(listener_port, 443 | 8443), listener_port, host, path, query };
        LinkedRedirect::new(redirect, true).unwrap().location(from).unwrap().to_str().unwrap().to_owned()
    }

    /// HTTPRequestRedirectFilter.port, and httproute-redirect-port-and-scheme of the conformance tests.
    #[test]
    fn scheme_and_port() {
        for (listener, scheme, port, expected) in [
            (80, None, None, "http://example.org"),
            (80, None, Some(80), "http://example.org"),
            (80, None, Some(8080), "http://example.org:8080"),
            (80, Some("https"), None, "https://example.org"),
            (80, Some("https"), Some(443), "https://example.org"),
            (80, Some("https"), Some(8443), "https://example.org:8443"),
            (8080, None, None, "http://example.org:8080"),
            (8080, None, Some(80), "http://example.org"),
            (8080, Some("https"), None, "https://example.org"),
            (8080, Some("http"), None, "http://example.org"),
            (443, None, None, "https://example.org"),
            (443, None, Some(443), "https://example.org"),
            (443, None, Some(8443), "https://example.org:8443"),
            (443, None, Some(80), "https://example.org:80"),
            (443, Some("http"), None, "http://example.org"),
            (443, Some("http"), Some(80), "http://example.org"),
            (443, Some("http"), Some(8080), "http://example.org:8080"),
            (8443, None, None, "https://example.org:8443"),
        ] {
            let actual = location(&redirect(scheme, None, port), listener, "example.org", None);
            assert_eq!(actual, format!("{expected}/foo/bar"), "{listener} {scheme:?} {port:?}");
        }
    }

    #[test]
    fn host_path_and_query() {
        let mut with_path = redirect(None, Some("Example.com"), None);
        for (path, expected) in [
            (None, "http://example.com/foo/bar?a=b"),
            (Some(PathModifier::ReplaceFullPath("/full".into())), "http://example.com/full?a=b"),
            (Some(PathModifier::ReplacePrefixMatch("/xyz".into())), "http://example.com/xyz/bar?a=b"),
        ] {
            with_path.path = path;
            assert_eq!(location(&with_path, 80, "example.org", Some("a=b")), expected);
        }
        assert_eq!(location(&redirect(None, None, None), 80, "[::1]", None), "http://[::1]/foo/bar");
        assert_eq!(location(&redirect(Some("https"), None, None), 80, "", Some("")), "/foo/bar?");
    }

    #[test]
    fn refused() {
        let code = |status_code| Redirect { status_code, ..redirect(None, None, None) };
        for redirect in [
            redirect(Some("ftp"), None, None),
            redirect(None, Some("a b"), None),
            redirect(None, Some(""), None),
            redirect(None, Some("a/b"), None),
            code(200),
            code(304),
        ] {
            assert!(LinkedRedirect::new(&redirect, true).is_err(), "{redirect:?}");
        }
    }
}
