//! Routes, attached to listeners.

use crate::{BackendKey, Filter, Hostname, ListenerKey, ObjectName, Redirect};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Which route. Written as `HTTPRoute/namespace/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// Its kind.
    pub kind: RouteKind,
    /// Its name.
    pub name: ObjectName,
}

/// The kinds of routes that carry HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// HTTPRoute
    HttpRoute,
}

impl RouteKind {
    /// The kind as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HttpRoute => "HTTPRoute",
        }
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.name)
    }
}

impl fmt::Debug for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RouteKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for RouteKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected HTTPRoute/namespace/name";
        let (kind, name) = text.split_once('/').ok_or(EXPECTED)?;
        if kind != RouteKind::HttpRoute.as_str() {
            return Err(EXPECTED);
        }
        Ok(Self { kind: RouteKind::HttpRoute, name: name.parse().map_err(|_| EXPECTED)? })
    }
}

impl<'de> Deserialize<'de> for RouteKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A route and where it is attached. Only attachments that the listeners admit are here; a route that is refused for
/// its own content is here as well, with rules that fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Its identity.
    pub key: RouteKey,
    /// `metadata.creationTimestamp` in seconds since 1970, for precedence: the older route wins.
    /// Without one, a route is younger than all that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<i64>,
    /// The listeners, sorted by key.
    pub attachments: Vec<Attachment>,
    /// The rules, in the order of `spec.rules`; the index is the provenance. Shared with other Gateways' configurations.
    pub rules: Arc<Vec<Rule>>,
}

/// One listener that a route is attached to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The listener.
    pub listener: ListenerKey,
    /// The hostnames served there; never empty.
    pub hostnames: Vec<RouteHostname>,
}

/// A hostname of a route on a listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteHostname {
    /// What both the listener and the route cover: what is matched.
    pub hostname: Hostname,
    /// The route's own hostname: what ranks among routes (GatewayRouteHostnameIntersectionPrecedence).
    pub route_hostname: Hostname,
}

/// One entry of `spec.rules`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Its `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// Any of these; never empty (none given is PathPrefix `/`).
    pub matches: Vec<RouteMatch>,
    /// In order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// What happens to a request that matched.
    pub action: RuleAction,
    /// Time limits.
    #[serde(default, skip_serializing_if = "Timeouts::is_empty")]
    pub timeouts: Timeouts,
    /// When to try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// What happens to a request that matched a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleAction {
    /// To one of these, by weight. All weights zero, or no entry: 500.
    Forward(Vec<WeightedBackend>),
    /// A redirect.
    Redirect(Box<Redirect>),
    /// The rule as a whole cannot be honoured: every request gets this answer, and no filter that changes requests runs.
    Fail(Box<Failure>),
}

/// A backendRef.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WeightedBackend {
    /// Its share of the sum of the weights; an invalid backend keeps its share.
    pub weight: u32,
    /// Filters of this backendRef, run after the choice, after those of the rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Where to.
    pub target: BackendTarget,
}

/// What a reference to a backend came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackendTarget {
    /// A backend of this configuration.
    Backend(BackendKey),
    /// An invalid reference.
    Invalid(Box<Failure>),
}

/// A piece that cannot be honoured, and what is answered in its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The status code of the answer.
    pub status_code: u16,
    /// Why, from a closed set.
    pub reason: FailureReason,
    /// Which field of the route, such as `spec.rules[0].backendRefs[1]`.
    pub field: String,
    /// The same message as in the route's condition.
    pub message: String,
}

/// Why a piece cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FailureReason {
    /// No ReferenceGrant permits the reference.
    RefNotPermitted,
    /// The referent's kind is not known here.
    InvalidKind,
    /// The referent does not exist, or has no such port.
    BackendNotFound,
    /// The backend's protocol is not supported.
    UnsupportedProtocol,
    /// A field has a value that is not supported.
    UnsupportedValue,
    /// Two filters exclude each other.
    IncompatibleFilters,
    /// No backendRefs, and no filter that answers.
    NoBackendRefs,
}

impl FailureReason {
    /// The stable text for logs, metrics and conditions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RefNotPermitted => "RefNotPermitted",
            Self::InvalidKind => "InvalidKind",
            Self::BackendNotFound => "BackendNotFound",
            Self::UnsupportedProtocol => "UnsupportedProtocol",
            Self::UnsupportedValue => "UnsupportedValue",
            Self::IncompatibleFilters => "IncompatibleFilters",
            Self::NoBackendRefs => "NoBackendRefs",
        }
    }
}

/// `HTTPRouteMatch`: all of its parts must match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    /// The method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Arc<str>>,
    /// Headers, one entry per name (lower case), sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
    /// Query parameters, one entry per name, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<ValueMatch>,
}

/// How a path is matched. The value is as the route gives it; `decide` brings it into normal form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// Its first elements; a trailing slash of the value is ignored.
    PathPrefix(Arc<str>),
    /// A pattern that must match the whole path.
    RegularExpression(Arc<str>),
}

/// A header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueMatch {
    /// Its name.
    pub name: Arc<str>,
    /// Its value.
    pub value: StringMatch,
}

/// How a value is matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StringMatch {
    /// The whole value.
    Exact(Arc<str>),
    /// A pattern that must match the whole value.
    RegularExpression(Arc<str>),
}

/// `HTTPRouteTimeouts` (GEP-1742). `None` is no limit of the route's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// From the request's head to the end of the response, retries included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// One try, from the connection to the backend to its whole response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Duration>,
}

impl Timeouts {
    /// Whether no limit is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `HTTPRouteRetry` (GEP-1731).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Status codes of a backend that are tried again, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<u16>,
    /// Extra tries; never zero (zero is no retry at all).
    pub attempts: u32,
    /// Base interval between tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Duration>,
}
