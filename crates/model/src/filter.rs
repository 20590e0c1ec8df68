//! Filters of rules and of backends (`HTTPRouteFilter` and its fields).

use crate::BackendTarget;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::sync::Arc;

/// A filter that lets the request go on. Filters are run in the order of the list.
/// RequestRedirect is not here: it is a rule's action ([`crate::RuleAction::Redirect`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// Changes the request's headers.
    RequestHeaderModifier(HeaderModifier),
    /// Changes the response's headers.
    ResponseHeaderModifier(HeaderModifier),
    /// Changes Host and path. Boxed like the others that are rare, to keep a rule small.
    UrlRewrite(Box<UrlRewrite>),
    /// Sends a copy elsewhere.
    RequestMirror(Box<Mirror>),
    /// Cross-origin resource sharing.
    Cors(Box<Cors>),
}

/// Headers that frame a message or belong to one connection (RFC 9110 section 7.6.1), lower case: no filter may change them.
/// `Host` is not among them: it is changed by a URLRewrite filter, and a request header modifier that names it is refused.
pub const FRAMING_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// `set`, then `add`, then `remove` (HTTPHeaderFilter). Names are lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderModifier {
    /// Overwritten, or added if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderValueEntry>,
    /// Appended to what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderValueEntry>,
    /// Taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<Arc<str>>,
}

/// A header with a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderValueEntry {
    /// Lower case.
    pub name: Arc<str>,
    /// The value, without control characters.
    pub value: Arc<str>,
}

/// `HTTPURLRewriteFilter`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UrlRewrite {
    /// Replaces the Host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Arc<str>>,
    /// Replaces the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// `HTTPPathModifier`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathModifier {
    /// The whole path becomes this.
    ReplaceFullPath(Arc<str>),
    /// What the rule's PathPrefix matched becomes this; the rest stays.
    ReplacePrefixMatch(Arc<str>),
}

/// `HTTPRequestMirrorFilter`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// Where the copy goes. An invalid target gets nothing; the request itself is not touched.
    pub target: BackendTarget,
    /// How many of the requests.
    pub fraction: Fraction,
}

/// A share: `numerator / denominator`, at most 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fraction {
    /// At most the denominator.
    pub numerator: u32,
    /// Never zero.
    pub denominator: NonZeroU32,
}

/// `HTTPCORSFilter` (GEP-1767).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Who may ask. An empty list admits nobody.
    pub allow_origins: CorsOrigins,
    /// Whether credentials may be sent.
    pub allow_credentials: bool,
    /// Methods beyond the safelisted ones.
    pub allow_methods: CorsNames,
    /// Request headers beyond the safelisted ones, lower case.
    pub allow_headers: CorsNames,
    /// Response headers that scripts may read.
    pub expose_headers: CorsNames,
    /// How long a preflight may be cached, seconds.
    pub max_age: u32,
}

/// The origins that a CORS filter admits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CorsOrigins {
    /// `*`
    Any,
    /// Any of these.
    List(Vec<CorsOrigin>),
}

/// One admitted origin, `scheme://host[:port]`, lower case. The default port of the scheme is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CorsOrigin {
    /// `http` or `https`, or another scheme; `None` stands for `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Arc<str>>,
    /// The host; a wildcard covers any number of labels to its left.
    pub host: crate::Hostname,
    /// The port, when it is not the scheme's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Names of methods or headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CorsNames {
    /// `*`
    Any,
    /// These.
    List(Vec<Arc<str>>),
}

/// `HTTPRequestRedirectFilter`. What is absent is kept from the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Arc<str>>,
    /// The Location's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Arc<str>>,
    /// The Location's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// The Location's port; without one, the well-known port of `scheme`, else the listener's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status_code: u16,
}
