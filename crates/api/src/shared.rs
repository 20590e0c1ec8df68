//! What several kinds share: references, hostnames, durations, filters and status of routes and policies. Each concept
//! stands here once.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::GATEWAY_GROUP;
use crate::extra::Extra;
use crate::meta::Condition;
use crate::text::{text_enum, text_type};

/// What a route attaches to, or a policy's ancestor. Its identity is group, kind, namespace, name, sectionName and
/// port.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// Default `gateway.networking.k8s.io`; empty is the core group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Default Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Default: the namespace of the object that refers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// A listener of a Gateway or ListenerSet, a port of a Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Listeners with this port alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ParentReference {
    /// The group, with the CRD's default applied.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(GATEWAY_GROUP)
    }

    /// The kind, with the CRD's default applied.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Gateway")
    }
}

/// The Gateway of a ListenerSet.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentGatewayReference {
    /// Default `gateway.networking.k8s.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Default Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name.
    pub name: String,
    /// Default: the namespace of the ListenerSet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ParentGatewayReference {
    /// The group, with the CRD's default applied.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(GATEWAY_GROUP)
    }

    /// The kind, with the CRD's default applied.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Gateway")
    }
}

/// Where traffic goes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendObjectReference {
    /// Default: the core group, which is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Default Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name.
    pub name: String,
    /// Default: the namespace of the object that refers; another one needs a ReferenceGrant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A port of the Service; needed for Services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl BackendObjectReference {
    /// The group, with the CRD's default applied.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or("")
    }

    /// The kind, with the CRD's default applied.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Service")
    }
}

/// A backend with its share of the traffic.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "PlainBackendRefFields")]
pub struct BackendRef {
    /// Where traffic goes; unknown fields of the entry are kept in it.
    #[serde(flatten)]
    pub reference: BackendObjectReference,
    /// Its share among its neighbours, 0 to 1,000,000; default 1. Zero means no traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
}

impl BackendRef {
    /// The weight, with the CRD's default applied.
    pub fn weight(&self) -> i32 {
        self.weight.unwrap_or(1)
    }
}

/// The fields of a [`BackendRef`] side by side: reading them so keeps the place of an error, which nested flattening
/// would lose.
#[derive(Deserialize)]
struct PlainBackendRefFields {
    group: Option<String>,
    kind: Option<String>,
    name: String,
    namespace: Option<String>,
    port: Option<i32>,
    weight: Option<i32>,
    #[serde(flatten)]
    extra: Extra,
}

impl From<PlainBackendRefFields> for BackendRef {
    fn from(fields: PlainBackendRefFields) -> Self {
        let PlainBackendRefFields { group, kind, name, namespace, port, weight, extra } = fields;
        Self { reference: BackendObjectReference { group, kind, name, namespace, port, extra }, weight }
    }
}

/// The fields of a backend with filters side by side.
#[derive(Deserialize)]
pub(crate) struct BackendRefFields<Filter> {
    group: Option<String>,
    kind: Option<String>,
    name: String,
    namespace: Option<String>,
    port: Option<i32>,
    weight: Option<i32>,
    #[serde(default = "Vec::new")]
    filters: Vec<Filter>,
    #[serde(flatten)]
    extra: Extra,
}

impl<Filter> BackendRefFields<Filter> {
    pub(crate) fn into_parts(self) -> (BackendRef, Vec<Filter>) {
        let Self { group, kind, name, namespace, port, weight, filters, extra } = self;
        (
            BackendRef { reference: BackendObjectReference { group, kind, name, namespace, port, extra }, weight },
            filters,
        )
    }
}

/// A rule of a TLSRoute, TCPRoute or UDPRoute: every connection goes to one of its backends.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct L4RouteRule {
    /// Unique in the route (GEP-995).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where connections go, by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A Secret, or what an implementation takes instead.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretObjectReference {
    /// Default: the core group, which is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Default Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name.
    pub name: String,
    /// Default: the namespace of the object that refers; another one needs a ReferenceGrant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl SecretObjectReference {
    /// The group, with the CRD's default applied.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or("")
    }

    /// The kind, with the CRD's default applied.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("Secret")
    }
}

/// An object of the same namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalObjectReference {
    /// API group; empty is the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An object, perhaps of another namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// API group; empty is the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Default: the namespace of the object that refers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a policy of the same namespace covers (GEP-713).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetReference {
    /// API group; empty is the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// A port of a Service, a listener or a rule. Not every policy has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A kind of route.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteGroupKind {
    /// Default `gateway.networking.k8s.io`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind.
    pub kind: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl RouteGroupKind {
    /// The group, with the CRD's default applied.
    pub fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(GATEWAY_GROUP)
    }
}

text_enum! {
    /// Whether default Gateways are meant (GEP-3793, experimental).
    pub enum GatewayDefaultScope {
        /// Routes of every kind.
        All = "All",
        /// No routes.
        None = "None",
    }
}

/// A feature of the official list.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SupportedFeature {
    /// As in `HTTPRouteCORS`.
    pub name: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What became of a route.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// One entry for each parent and controller.
    #[serde(default)]
    pub parents: Vec<RouteParentStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What one controller made of a route at one parent.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The parent, as in the spec, with group and kind filled in.
    pub parent_ref: ParentReference,
    /// Who wrote this entry.
    pub controller_name: String,
    /// Accepted, ResolvedRefs, PartiallyInvalid and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What became of a policy (GEP-713).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// One entry for each ancestor and controller, at most 16.
    #[serde(default)]
    pub ancestors: Vec<PolicyAncestorStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What one controller made of a policy below one ancestor.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAncestorStatus {
    /// Usually a Gateway.
    pub ancestor_ref: ParentReference,
    /// Who wrote this entry.
    pub controller_name: String,
    /// Accepted and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_type! {
    /// A host name as written in an object, perhaps with a wildcard as its first label.
    pub struct Hostname;
}

/// A host name that can be matched; lower case.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostnamePattern {
    /// This host alone.
    Exact(String),
    /// Every host with one or more labels before this suffix, which is kept without `*.`: `*.example.com` has
    /// `example.com`.
    Wildcard(String),
}

/// Why a text is not a host name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HostnameError {
    /// Empty, or longer than 253 bytes.
    #[error("a hostname has 1 to 253 characters")]
    Length,
    /// A label is empty, longer than 63 bytes, or begins or ends with `-`.
    #[error("each part between dots has 1 to 63 characters and neither begins nor ends with '-'")]
    Label,
    /// Something beside letters, digits, `-` and `.`, or a `*` that is not the whole first label.
    #[error("only letters, digits, '-' and '.' may stand in a hostname, and '*' only as its whole first part")]
    Character,
    /// An IP address.
    #[error("an IP address is not a hostname")]
    IpAddress,
}

impl Hostname {
    /// The host name in matchable form: RFC 1123, at most 253 bytes, not an IP address, lower case, `*` as the first
    /// label alone.
    pub fn parse(&self) -> Result<HostnamePattern, HostnameError> {
        let text = self.as_str();
        if text.is_empty() || text.len() > 253 {
            return Err(HostnameError::Length);
        }
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        name.split('.').try_for_each(check_label)?;
        if name.parse::<Ipv4Addr>().is_ok() {
            return Err(HostnameError::IpAddress);
        }
        let name = name.to_ascii_lowercase();
        Ok(if wildcard { HostnamePattern::Wildcard(name) } else { HostnamePattern::Exact(name) })
    }
}

fn check_label(label: &str) -> Result<(), HostnameError> {
    if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(HostnameError::Character);
    }
    if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
        return Err(HostnameError::Label);
    }
    Ok(())
}

text_type! {
    /// A duration as written in an object (GEP-2257).
    pub struct GatewayDuration;
}

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a duration is 1 to 4 numbers of at most 5 digits, each with one of the units h, m, s, ms, \
     as in '1h30m', '500ms' or '0s' (GEP-2257)"
)]
pub struct DurationError;

impl GatewayDuration {
    /// The duration: one to four numbers of one to five digits with the units `h`, `m`, `s` or `ms`, in any order and
    /// added up, as the pattern `^([0-9]{1,5}(h|m|s|ms)){1,4}$` of GEP-2257 has it. The longest is 399,996 hours.
    pub fn parse(&self) -> Result<Duration, DurationError> {
        let mut rest = self.as_str();
        let mut total = Duration::ZERO;
        for _ in 0..4 {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 || digits > 5 {
                return Err(DurationError);
            }
            let (number, unit) = rest.split_at(digits);
            let number = number.parse::<u64>().map_err(|_| DurationError)?;
            let (length, after) = split_unit(unit).ok_or(DurationError)?;
            total += Duration::from_millis(number * length);
            rest = after;
            if rest.is_empty() {
                return Ok(total);
            }
        }
        Err(DurationError)
    }
}

/// The length in milliseconds of the unit that a text begins with, and what follows it.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    UNITS.iter().find_map(|(unit, length)| Some((*length, text.strip_prefix(unit)?)))
}

/// A share, as of mirrored requests.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fraction {
    /// At least 0.
    pub numerator: i32,
    /// At least 1; default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denominator: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A share from nothing to all.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ratio {
    /// Not more than the denominator.
    pub numerator: u32,
    /// Of how many.
    pub denominator: NonZeroU32,
}

/// Why a fraction is not a share.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a fraction has a denominator of at least 1 and a numerator from 0 to the denominator")]
pub struct FractionError;

impl Fraction {
    /// The share, with the CRD's default for the denominator.
    pub fn parse(&self) -> Result<Ratio, FractionError> {
        let numerator = u32::try_from(self.numerator).map_err(|_| FractionError)?;
        let denominator =
            u32::try_from(self.denominator.unwrap_or(100)).ok().and_then(NonZeroU32::new).ok_or(FractionError)?;
        if numerator > denominator.get() {
            return Err(FractionError);
        }
        Ok(Ratio { numerator, denominator })
    }
}

/// A header field.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeader {
    /// Case insensitive.
    pub name: String,
    /// The value.
    pub value: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Changes header fields. A name stands in one of the lists at most once.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeaderFilter {
    /// Replaces fields of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HttpHeader>,
    /// Adds to fields of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HttpHeader>,
    /// Names of fields to take away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// How a header or a query parameter is compared.
    pub enum MatchType {
        /// Equal.
        Exact = "Exact",
        /// Matches a regular expression.
        RegularExpression = "RegularExpression",
    }
}

/// A condition on a header field, of HTTPRoute and GRPCRoute.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpHeaderMatch {
    /// Default Exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<MatchType>,
    /// Case insensitive.
    pub name: String,
    /// The value or the expression.
    pub value: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Sends a copy of requests elsewhere; its responses are thrown away.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRequestMirrorFilter {
    /// Where to.
    pub backend_ref: BackendObjectReference,
    /// Share of the requests, 0 to 100. Not together with `fraction`; neither means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<i32>,
    /// Share of the requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Asks an authorization service about each request (GEP-1494, experimental).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpExternalAuthFilter {
    /// What the service speaks; required by the CRD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<HttpExternalAuthProtocol>,
    /// The service; required by the CRD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<BackendObjectReference>,
    /// Settings for `GRPC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcAuthConfig>,
    /// Settings for `HTTP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpAuthConfig>,
    /// Absent: no body is sent along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_body: Option<ForwardBodyConfig>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// What an authorization service speaks.
    pub enum HttpExternalAuthProtocol {
        /// Envoy's `ext_authz` over gRPC.
        Grpc = "GRPC",
        /// Plain HTTP; 200 allows.
        Http = "HTTP",
    }
}

/// Settings for an authorization service over gRPC.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcAuthConfig {
    /// Request headers that are sent along; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_headers: Vec<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Settings for an authorization service over HTTP.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAuthConfig {
    /// Put before the path of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Request headers that are sent along beside Host, method, path, Content-Length and Authorization.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_headers: Vec<String>,
    /// Headers of the answer that are copied into the request; empty means all but Host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_response_headers: Vec<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How much of the body is sent along.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ForwardBodyConfig {
    /// In bytes; 0 sends no body along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Which requests go to the same endpoint (GEP-1619).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionPersistence {
    /// The longest life of a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absolute_timeout: Option<GatewayDuration>,
    /// Default Cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<SessionPersistenceType>,
    /// For `Cookie`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<SessionCookie>,
    /// For `Header`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<SessionHeader>,
    /// Name of cookie or header, in releases before v1.7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// Time without a request after which a session ends, in releases before v1.7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<GatewayDuration>,
    /// For `Cookie`, in releases before v1.7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_config: Option<SessionCookie>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// How a session is recognised.
    pub enum SessionPersistenceType {
        /// By a cookie.
        Cookie = "Cookie",
        /// By a header.
        Header = "Header",
    }
}

/// The cookie of a session.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionCookie {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Default Session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_type: Option<CookieLifetimeType>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// How long a client keeps a cookie.
    pub enum CookieLifetimeType {
        /// For `absoluteTimeout`.
        Permanent = "Permanent",
        /// Until the client ends.
        Session = "Session",
    }
}

/// The header of a session.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionHeader {
    /// Its name.
    pub name: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

pub(crate) fn is_zero(number: &i32) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_those_of_gep_2257() {
        let milliseconds = |text: &str| GatewayDuration::from(text).parse().map(|duration| duration.as_millis());
        for (text, expected) in [
            ("0s", 0),
            ("0h0m0s0ms", 0),
            ("500ms", 500),
            ("1s", 1_000),
            ("10s", 10_000),
            ("1h30m", 5_400_000),
            ("1h1m1s1ms", 3_661_001),
            ("1s1s1s1s", 4_000),
            ("5m1h", 3_900_000),
            ("00007s", 7_000),
            ("99999h99999h99999h99999h", 399_996 * 3_600_000),
        ] {
            assert_eq!(milliseconds(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "s",
            "1",
            "1.5s",
            "-1s",
            "+1s",
            " 1s",
            "1s ",
            "1 s",
            "1S",
            "1d",
            "1us",
            "1ns",
            "100000s",
            "1h1m1s1ms1s",
            "1h2",
            "1hm",
            "ms",
            "１s",
            "1mss",
        ] {
            assert_eq!(milliseconds(text), Err(DurationError), "{text}");
        }
    }

    #[test]
    fn hostnames_are_dns_names_with_at_most_one_wildcard_at_the_front() {
        let long = format!("{}.example", "a".repeat(63));
        for (text, expected) in [
            ("example.com", HostnamePattern::Exact("example.com".into())),
            ("EXAMPLE.com", HostnamePattern::Exact("example.com".into())),
            ("*.example.com", HostnamePattern::Wildcard("example.com".into())),
            ("*.com", HostnamePattern::Wildcard("com".into())),
            ("localhost", HostnamePattern::Exact("localhost".into())),
            ("1.2.3.example", HostnamePattern::Exact("1.2.3.example".into())),
            ("xn--bcher-kva.example", HostnamePattern::Exact("xn--bcher-kva.example".into())),
            (&long, HostnamePattern::Exact(long.clone())),
        ] {
            assert_eq!(Hostname::from(text).parse(), Ok(expected), "{text}");
        }
        let long_label = format!("{}.example", "a".repeat(64));
        let long_name = ["abcdefg"; 32].join(".");
        for (text, expected) in [
            ("", HostnameError::Length),
            (&long_name, HostnameError::Length),
            (&long_label, HostnameError::Label),
            ("*.", HostnameError::Label),
            (".example.com", HostnameError::Label),
            ("example.com.", HostnameError::Label),
            ("a..b", HostnameError::Label),
            ("-a.b", HostnameError::Label),
            ("a-.b", HostnameError::Label),
            ("*", HostnameError::Character),
            ("*.*.example.com", HostnameError::Character),
            ("a.*.example.com", HostnameError::Character),
            ("*a.example.com", HostnameError::Character),
            ("a_b.example.com", HostnameError::Character),
            ("example.com:80", HostnameError::Character),
            ("bücher.example", HostnameError::Character),
            ("[::1]", HostnameError::Character),
            ("127.0.0.1", HostnameError::IpAddress),
            ("*.127.0.0.1", HostnameError::IpAddress),
        ] {
            assert_eq!(Hostname::from(text).parse(), Err(expected), "{text}");
        }
    }

    #[test]
    fn fractions_are_shares() {
        let parse = |numerator, denominator| {
            let ratio = Fraction { numerator, denominator, extra: Extra::default() }.parse()?;
            Ok((ratio.numerator, ratio.denominator.get()))
        };
        for (numerator, denominator, expected) in [
            (0, None, Ok((0, 100))),
            (50, None, Ok((50, 100))),
            (100, None, Ok((100, 100))),
            (1, Some(3), Ok((1, 3))),
            (i32::MAX, Some(i32::MAX), Ok((2_147_483_647, 2_147_483_647))),
            (101, None, Err(FractionError)),
            (2, Some(1), Err(FractionError)),
            (0, Some(0), Err(FractionError)),
            (0, Some(-1), Err(FractionError)),
            (-1, Some(1), Err(FractionError)),
        ] {
            assert_eq!(parse(numerator, denominator), expected, "{numerator}/{denominator:?}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_is_the_sum_of_its_parts(parts in prop::collection::vec((0..100_000_u64, 0..4_usize), 1..=4)) {
            const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
            let text: String = parts.iter().map(|(number, unit)| format!("{number}{}", UNITS[*unit].0)).collect();
            let sum = parts.iter().map(|(number, unit)| number * UNITS[*unit].1).sum();
            prop_assert_eq!(GatewayDuration(text).parse(), Ok(Duration::from_millis(sum)));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".*", near in "[0-9hms]{0,12}", host in "[a-zA-Z0-9.*-]{0,20}") {
            for text in [text, near, host] {
                let _ = GatewayDuration(text.clone()).parse();
                if let Ok(HostnamePattern::Exact(name) | HostnamePattern::Wildcard(name)) = Hostname(text.clone()).parse() {
                    prop_assert_eq!(name, text.to_ascii_lowercase().trim_start_matches("*.").to_owned());
                }
            }
        }
    }
}
