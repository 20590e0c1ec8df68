//! HTTPRoute (`gateway.networking.k8s.io/v1`, also served as `v1beta1`): which request goes where, and what happens to
//! it on the way.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, KindName, ObjectMeta};
use crate::shared::{
    BackendRef, BackendRefFields, GatewayDefaultScope, GatewayDuration, Hostname, HttpExternalAuthFilter,
    HttpHeaderFilter, HttpHeaderMatch, HttpRequestMirrorFilter, LocalObjectReference, MatchType, ParentReference,
    RouteStatus, SessionPersistence,
};
use crate::text::text_enum;

/// Routes HTTP requests.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRoute {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: HttpRouteSpec,
    /// What became of it, per parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RouteStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What an HTTPRoute asks for.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// Gateways, ListenerSets or Services to attach to, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,
    /// Attach to the default Gateways (GEP-3793, experimental).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_default_gateways: Option<GatewayDefaultScope>,
    /// Hosts of requests; empty means those of the listener.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Hostname>,
    /// At most 16. An absent list has the CRD's default: one rule for every path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<HttpRouteRule>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Matches, filters and backends.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Unique in the route (GEP-995).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One of them must match; empty means every request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpRouteMatch>,
    /// What happens to request and response.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpRouteFilter>,
    /// Where requests go, by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<HttpBackendRef>,
    /// Limits of time (GEP-1742).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Box<HttpRouteTimeouts>>,
    /// When a request is tried again (GEP-1731).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Box<HttpRouteRetry>>,
    /// Which requests go to the same endpoint (GEP-1619, experimental).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<Box<SessionPersistence>>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Limits of time; `0s` means none (GEP-1742).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteTimeouts {
    /// From the request to the end of its response, retries included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<GatewayDuration>,
    /// One try; not longer than `request`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<GatewayDuration>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// When and how often a request is tried again (GEP-1731).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRetry {
    /// Responses that are tried again, 400 to 599.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<i32>,
    /// How often; the CRD's default is 1, and 0 turns retries off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// Time between tries, as a base for the implementation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<GatewayDuration>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// All of its parts must match.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteMatch {
    /// The path; the CRD's default is the prefix `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<HttpPathMatch>,
    /// Header fields; of equal names only the first entry counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HttpHeaderMatch>,
    /// Query parameters; of equal names only the first entry counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<HttpQueryParamMatch>,
    /// The method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<HttpMethod>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A condition on the path.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpPathMatch {
    /// Default PathPrefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<PathMatchType>,
    /// Default `/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// How a path is compared.
    pub enum PathMatchType {
        /// Equal, case sensitive.
        Exact = "Exact",
        /// Begins with these path elements.
        PathPrefix = "PathPrefix",
        /// Matches a regular expression.
        RegularExpression = "RegularExpression",
    }
}

/// A condition on a query parameter.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpQueryParamMatch {
    /// Default Exact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<MatchType>,
    /// Its name, case sensitive.
    pub name: String,
    /// The value or the expression.
    pub value: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// A request method, upper case.
    pub enum HttpMethod {
        /// GET
        Get = "GET",
        /// HEAD
        Head = "HEAD",
        /// POST
        Post = "POST",
        /// PUT
        Put = "PUT",
        /// DELETE
        Delete = "DELETE",
        /// CONNECT
        Connect = "CONNECT",
        /// OPTIONS
        Options = "OPTIONS",
        /// TRACE
        Trace = "TRACE",
        /// PATCH
        Patch = "PATCH",
    }
}

/// One step in the processing of a request or a response.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteFilter {
    /// Which of the members below is set.
    pub r#type: HttpRouteFilterType,
    /// Changes request headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<Box<HttpHeaderFilter>>,
    /// Changes response headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<Box<HttpHeaderFilter>>,
    /// Sends a copy elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<Box<HttpRequestMirrorFilter>>,
    /// Answers with a redirect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<Box<HttpRequestRedirectFilter>>,
    /// Changes host or path before forwarding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<Box<HttpUrlRewriteFilter>>,
    /// Answers preflights and allows origins (GEP-1767).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Box<HttpCorsFilter>>,
    /// Asks an authorization service (GEP-1494, experimental).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_auth: Option<Box<HttpExternalAuthFilter>>,
    /// A filter of an implementation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_ref: Option<Box<LocalObjectReference>>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The kind of an HTTPRoute filter.
    pub enum HttpRouteFilterType {
        /// `requestHeaderModifier` is set.
        RequestHeaderModifier = "RequestHeaderModifier",
        /// `responseHeaderModifier` is set.
        ResponseHeaderModifier = "ResponseHeaderModifier",
        /// `requestRedirect` is set.
        RequestRedirect = "RequestRedirect",
        /// `urlRewrite` is set.
        UrlRewrite = "URLRewrite",
        /// `requestMirror` is set.
        RequestMirror = "RequestMirror",
        /// `cors` is set.
        Cors = "CORS",
        /// `externalAuth` is set.
        ExternalAuth = "ExternalAuth",
        /// `extensionRef` is set.
        ExtensionRef = "ExtensionRef",
    }
}

/// A redirect; what is absent stays as in the request.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpRequestRedirectFilter {
    /// `http` or `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<RedirectScheme>,
    /// Host of the `Location`, never a wildcard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// Path of the `Location`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<HttpPathModifier>,
    /// Port of the `Location`; absent has rules of its own, see the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// 301, 302, 303, 307 or 308; default 302.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The scheme of a redirect.
    pub enum RedirectScheme {
        /// http
        Http = "http",
        /// https
        Https = "https",
    }
}

/// Changes what the backend sees.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpUrlRewriteFilter {
    /// Replaces the Host, never a wildcard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// Replaces the path or its matched prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<HttpPathModifier>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How a path is changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpPathModifier {
    /// Which of the members below is set.
    pub r#type: HttpPathModifierType,
    /// The new path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_full_path: Option<String>,
    /// Replaces the prefix that matched; only for rules whose matches are all of type PathPrefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix_match: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The kind of a path change.
    pub enum HttpPathModifierType {
        /// `replaceFullPath` is set.
        ReplaceFullPath = "ReplaceFullPath",
        /// `replacePrefixMatch` is set.
        ReplacePrefixMatch = "ReplacePrefixMatch",
    }
}

/// Cross-origin requests (GEP-1767, Fetch standard).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpCorsFilter {
    /// Origins as `scheme://host(:port)`, or `*` alone; a `*` in the host stands for any text, dots included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<String>,
    /// Whether `Access-Control-Allow-Credentials: true` is sent; default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// Methods beyond the safe-listed ones, or `*` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<HttpMethodWithWildcard>,
    /// Request headers, or `*` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_headers: Vec<String>,
    /// Response headers that a script may read, or `*` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// Seconds for which a preflight may be cached, at least 1; default 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// A request method, or all of them.
    pub enum HttpMethodWithWildcard {
        /// GET
        Get = "GET",
        /// HEAD
        Head = "HEAD",
        /// POST
        Post = "POST",
        /// PUT
        Put = "PUT",
        /// DELETE
        Delete = "DELETE",
        /// CONNECT
        Connect = "CONNECT",
        /// OPTIONS
        Options = "OPTIONS",
        /// TRACE
        Trace = "TRACE",
        /// PATCH
        Patch = "PATCH",
        /// Every method.
        Any = "*",
    }
}

/// A backend with a weight and filters of its own.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "BackendRefFields<HttpRouteFilter>")]
pub struct HttpBackendRef {
    /// Where, and with which weight.
    #[serde(flatten)]
    pub backend_ref: BackendRef,
    /// What happens to requests that go to this backend.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpRouteFilter>,
}

impl From<BackendRefFields<HttpRouteFilter>> for HttpBackendRef {
    fn from(fields: BackendRefFields<HttpRouteFilter>) -> Self {
        let (backend_ref, filters) = fields.into_parts();
        Self { backend_ref, filters }
    }
}
