//! Filters of HTTPRoute rules and backendRefs.
//!
//! A filter that is unknown, unsupported or not well formed makes its whole rule invalid: it is never skipped, the rule answers 500.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use portcullis_api::http_route::{
    HttpCorsFilter, HttpMethodWithWildcard, HttpPathModifier, HttpPathModifierType, HttpRequestRedirectFilter,
    HttpRouteFilter, HttpRouteFilterType, HttpUrlRewriteFilter, RedirectScheme,
};
use portcullis_api::shared::{
    BackendObjectReference, Hostname, HostnamePattern, HttpHeader, HttpHeaderFilter, HttpRequestMirrorFilter,
};
use portcullis_api::{Extra, Foreign};
use portcullis_model::{
    BackendTarget, Cors, CorsNames, CorsOrigin, CorsOrigins, FRAMING_HEADERS, Filter, Fraction, HeaderModifier,
    HeaderValueEntry, Mirror, PathModifier, Redirect, UrlRewrite,
};

use crate::text::{group_kind, unknown_field};

/// Something that makes a rule invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) reason: ProblemReason,
    /// As in `spec.rules[0].filters[1]`.
    pub(crate) field: String,
    pub(crate) message: String,
}

/// Why a rule is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProblemReason {
    UnsupportedValue,
    IncompatibleFilters,
    /// A reference to a kind of filter that is not known: told by ResolvedRefs, not by Accepted.
    InvalidKind,
}

impl Problem {
    pub(crate) fn value(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: ProblemReason::UnsupportedValue, field: field.into(), message: message.into() }
    }

    fn incompatible(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: ProblemReason::IncompatibleFilters, field: field.into(), message: message.into() }
    }
}

/// Where filters stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Rule,
    BackendRef,
}

/// What a list of filters comes to.
#[derive(Default)]
pub(crate) struct Filters {
    pub(crate) filters: Vec<Filter>,
    pub(crate) redirect: Option<Redirect>,
}

/// Reads a list of filters. `sole_prefix` says whether the rule has exactly one match and that is a PathPrefix.
pub(crate) fn compile(
    list: &[HttpRouteFilter],
    field: &str,
    place: Place,
    sole_prefix: bool,
    problems: &mut Vec<Problem>,
    resolve: &mut dyn FnMut(&BackendObjectReference, &str) -> BackendTarget,
) -> Filters {
    incompatible(list, field, problems);
    let mut filters = Filters::default();
    for (index, filter) in list.iter().enumerate() {
        let field = format!("{field}[{index}]");
        match one(filter, &field, place, sole_prefix, resolve) {
            Ok(One::Filter(filter)) => filters.filters.push(filter),
            Ok(One::Redirect(redirect)) => filters.redirect = Some(redirect),
            Err(problem) => problems.push(problem),
        }
    }
    filters
}

/// Filters that exclude each other, and those that may stand only once.
fn incompatible(list: &[HttpRouteFilter], field: &str, problems: &mut Vec<Problem>) {
    let count = |kind: &HttpRouteFilterType| list.iter().filter(|filter| filter.r#type == *kind).count();
    if count(&HttpRouteFilterType::RequestRedirect) > 0 && count(&HttpRouteFilterType::UrlRewrite) > 0 {
        problems.push(Problem::incompatible(field, "RequestRedirect and URLRewrite exclude each other; remove one"));
    }
    for once in [
        HttpRouteFilterType::RequestHeaderModifier,
        HttpRouteFilterType::ResponseHeaderModifier,
        HttpRouteFilterType::RequestRedirect,
        HttpRouteFilterType::UrlRewrite,
        HttpRouteFilterType::Cors,
    ] {
        if count(&once) > 1 {
            problems.push(Problem::incompatible(field, format!("{once} may stand only once; merge them")));
        }
    }
}

enum One {
    Filter(Filter),
    Redirect(Redirect),
}

fn one(
    filter: &HttpRouteFilter,
    field: &str,
    place: Place,
    sole_prefix: bool,
    resolve: &mut dyn FnMut(&BackendObjectReference, &str) -> BackendTarget,
) -> Result<One, Problem> {
    known(&filter.extra, field)?;
    only_its_member(filter, field)?;
    let missing = |member: &str| {
        Problem::value(format!("{field}.{member}"), format!("a filter of type {} needs it", filter.r#type))
    };
    let at = |member: &str| format!("{field}.{member}");
    let compiled = match &filter.r#type {
        HttpRouteFilterType::RequestHeaderModifier => {
            let member = filter.request_header_modifier.as_ref().ok_or_else(|| missing("requestHeaderModifier"))?;
            Filter::RequestHeaderModifier(header_modifier(member, &at("requestHeaderModifier"))?)
        }
        HttpRouteFilterType::ResponseHeaderModifier => {
            let member = filter.response_header_modifier.as_ref().ok_or_else(|| missing("responseHeaderModifier"))?;
            Filter::ResponseHeaderModifier(header_modifier(member, &at("responseHeaderModifier"))?)
        }
        HttpRouteFilterType::RequestMirror => {
            let member = filter.request_mirror.as_ref().ok_or_else(|| missing("requestMirror"))?;
            Filter::RequestMirror(Box::new(mirror(member, &at("requestMirror"), resolve)?))
        }
        HttpRouteFilterType::UrlRewrite => {
            let member = filter.url_rewrite.as_ref().ok_or_else(|| missing("urlRewrite"))?;
            Filter::UrlRewrite(Box::new(url_rewrite(member, &at("urlRewrite"), sole_prefix)?))
        }
        HttpRouteFilterType::RequestRedirect if place == Place::Rule => {
            let member = filter.request_redirect.as_ref().ok_or_else(|| missing("requestRedirect"))?;
            return redirect(member, &at("requestRedirect"), sole_prefix).map(One::Redirect);
        }
        HttpRouteFilterType::Cors if place == Place::Rule => {
            let member = filter.cors.as_ref().ok_or_else(|| missing("cors"))?;
            Filter::Cors(Box::new(cors(member, &at("cors"))?))
        }
        HttpRouteFilterType::ExtensionRef => {
            let reference = filter.extension_ref.as_ref().ok_or_else(|| missing("extensionRef"))?;
            let kind = group_kind(&reference.group, &reference.kind);
            return Err(Problem {
                reason: ProblemReason::InvalidKind,
                field: at("extensionRef"),
                message: format!("a filter of kind {kind} is not supported"),
            });
        }
        HttpRouteFilterType::RequestRedirect | HttpRouteFilterType::Cors => {
            let message = format!("{} is not supported on a backendRef; put it on the rule", filter.r#type);
            return Err(Problem::value(at("type"), message));
        }
        HttpRouteFilterType::ExternalAuth => {
            return Err(Problem::value(at("type"), "ExternalAuth is not supported yet"));
        }
        HttpRouteFilterType::Unknown(text) => {
            return Err(Problem::value(at("type"), format!("the filter type '{}' is unknown", Foreign(text))));
        }
    };
    Ok(One::Filter(compiled))
}

/// A field from a later release may well be what makes the filter safe.
fn known(extra: &Extra, field: &str) -> Result<(), Problem> {
    match unknown_field(extra) {
        Some(name) => Err(Problem::value(field, format!("the field {} is unknown", Foreign(name)))),
        None => Ok(()),
    }
}

/// A member that belongs to another type says something that would not be done.
fn only_its_member(filter: &HttpRouteFilter, field: &str) -> Result<(), Problem> {
    let members = [
        ("requestHeaderModifier", filter.request_header_modifier.is_some(), HttpRouteFilterType::RequestHeaderModifier),
        (
            "responseHeaderModifier",
            filter.response_header_modifier.is_some(),
            HttpRouteFilterType::ResponseHeaderModifier,
        ),
        ("requestMirror", filter.request_mirror.is_some(), HttpRouteFilterType::RequestMirror),
        ("requestRedirect", filter.request_redirect.is_some(), HttpRouteFilterType::RequestRedirect),
        ("urlRewrite", filter.url_rewrite.is_some(), HttpRouteFilterType::UrlRewrite),
        ("cors", filter.cors.is_some(), HttpRouteFilterType::Cors),
        ("externalAuth", filter.external_auth.is_some(), HttpRouteFilterType::ExternalAuth),
        ("extensionRef", filter.extension_ref.is_some(), HttpRouteFilterType::ExtensionRef),
    ];
    match members.into_iter().find(|(_, is_set, kind)| *is_set && *kind != filter.r#type) {
        Some((member, _, kind)) => {
            Err(Problem::value(format!("{field}.{member}"), format!("type must be {kind}, or {member} removed")))
        }
        None => Ok(()),
    }
}

fn header_modifier(filter: &HttpHeaderFilter, field: &str) -> Result<HeaderModifier, Problem> {
    known(&filter.extra, field)?;
    let mut seen = BTreeSet::new();
    let entries = |list: &[HttpHeader], member: &str, seen: &mut BTreeSet<String>| {
        let entry = |(index, header): (usize, &HttpHeader)| {
            let field = format!("{field}.{member}[{index}]");
            known(&header.extra, &field)?;
            let name = modified_name(&header.name, &field, seen)?;
            Ok(HeaderValueEntry { name, value: header_value(&header.value, &field)? })
        };
        list.iter().enumerate().map(entry).collect::<Result<Vec<_>, Problem>>()
    };
    let set = entries(&filter.set, "set", &mut seen)?;
    let add = entries(&filter.add, "add", &mut seen)?;
    let remove = filter.remove.iter().enumerate();
    let remove = remove
        .map(|(index, name)| modified_name(name, &format!("{field}.remove[{index}]"), &mut seen))
        .collect::<Result<Vec<_>, Problem>>()?;
    Ok(HeaderModifier { set, add, remove })
}

fn modified_name(name: &str, field: &str, seen: &mut BTreeSet<String>) -> Result<Arc<str>, Problem> {
    let lower =
        header_name(name).ok_or_else(|| Problem::value(field, format!("'{}' is not a header name", Foreign(name))))?;
    if &*lower == "host" || FRAMING_HEADERS.contains(&&*lower) {
        let hint = if &*lower == "host" { "; use URLRewrite with hostname" } else { "" };
        return Err(Problem::value(
            field,
            format!("the header {lower} is the gateway's own and cannot be changed{hint}"),
        ));
    }
    if !seen.insert(lower.to_string()) {
        return Err(Problem::value(
            field,
            format!("the header {lower} is changed twice by one filter; a header may be named once"),
        ));
    }
    Ok(lower)
}

/// A header name in lower case (RFC 9110, section 5.1).
pub(crate) fn header_name(name: &str) -> Option<Arc<str>> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (!name.is_empty() && name.len() <= 256 && name.bytes().all(is_token)).then(|| name.to_ascii_lowercase().into())
}

fn header_value(value: &str, field: &str) -> Result<Arc<str>, Problem> {
    let is_printable = value.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    if !is_printable || value.trim_matches([' ', '\t']) != value {
        let message = "a header value has printable ASCII characters, and no space at its ends";
        return Err(Problem::value(format!("{field}.value"), message));
    }
    Ok(value.into())
}

fn mirror(
    filter: &HttpRequestMirrorFilter,
    field: &str,
    resolve: &mut dyn FnMut(&BackendObjectReference, &str) -> BackendTarget,
) -> Result<Mirror, Problem> {
    known(&filter.extra, field)?;
    let hundred = NonZeroU32::new(100).unwrap_or(NonZeroU32::MIN);
    let fraction = match (filter.percent, &filter.fraction) {
        (Some(_), Some(_)) => return Err(Problem::value(field, "percent and fraction exclude each other; remove one")),
        (Some(percent @ 0..=100), None) => Fraction { numerator: percent.unsigned_abs(), denominator: hundred },
        (Some(_), None) => return Err(Problem::value(format!("{field}.percent"), "a percentage is 0 to 100")),
        (None, Some(fraction)) => {
            let ratio =
                fraction.parse().map_err(|error| Problem::value(format!("{field}.fraction"), error.to_string()))?;
            Fraction { numerator: ratio.numerator, denominator: ratio.denominator }
        }
        (None, None) => Fraction { numerator: 100, denominator: hundred },
    };
    Ok(Mirror { target: resolve(&filter.backend_ref, &format!("{field}.backendRef")), fraction })
}

fn url_rewrite(filter: &HttpUrlRewriteFilter, field: &str, sole_prefix: bool) -> Result<UrlRewrite, Problem> {
    known(&filter.extra, field)?;
    Ok(UrlRewrite {
        hostname: precise_hostname(filter.hostname.as_ref(), field)?,
        path: path_modifier(filter.path.as_ref(), field, sole_prefix)?,
    })
}

fn redirect(filter: &HttpRequestRedirectFilter, field: &str, sole_prefix: bool) -> Result<Redirect, Problem> {
    known(&filter.extra, field)?;
    let scheme = match &filter.scheme {
        None => None,
        Some(scheme @ (RedirectScheme::Http | RedirectScheme::Https)) => Some(scheme.as_str().into()),
        Some(scheme) => {
            return Err(Problem::value(format!("{field}.scheme"), format!("'{scheme}' is unknown; use http or https")));
        }
    };
    let port = match filter.port.map(|port| (port, u16::try_from(port))) {
        None => None,
        Some((_, Ok(port @ 1..))) => Some(port),
        Some((port, _)) => {
            return Err(Problem::value(format!("{field}.port"), format!("{port} is not a port; use 1 to 65535")));
        }
    };
    let status_code = match filter.status_code.unwrap_or(302) {
        code @ (301 | 302 | 303 | 307 | 308) => code as u16,
        code => {
            let message = format!("{code} is not a redirect; use 301, 302, 303, 307 or 308");
            return Err(Problem::value(format!("{field}.statusCode"), message));
        }
    };
    Ok(Redirect {
        scheme,
        hostname: precise_hostname(filter.hostname.as_ref(), field)?,
        path: path_modifier(filter.path.as_ref(), field, sole_prefix)?,
        port,
        status_code,
    })
}

fn precise_hostname(hostname: Option<&Hostname>, field: &str) -> Result<Option<Arc<str>>, Problem> {
    match hostname.map(|hostname| (hostname, hostname.parse())) {
        None => Ok(None),
        Some((_, Ok(HostnamePattern::Exact(hostname)))) => Ok(Some(hostname.into())),
        Some((hostname, _)) => Err(Problem::value(
            format!("{field}.hostname"),
            format!("'{hostname}' is not a hostname without a wildcard"),
        )),
    }
}

fn path_modifier(
    modifier: Option<&HttpPathModifier>,
    field: &str,
    sole_prefix: bool,
) -> Result<Option<PathModifier>, Problem> {
    let Some(modifier) = modifier else { return Ok(None) };
    let field = format!("{field}.path");
    known(&modifier.extra, &field)?;
    let (member, value, other) = match &modifier.r#type {
        HttpPathModifierType::ReplaceFullPath => {
            ("replaceFullPath", &modifier.replace_full_path, modifier.replace_prefix_match.is_some())
        }
        HttpPathModifierType::ReplacePrefixMatch => {
            ("replacePrefixMatch", &modifier.replace_prefix_match, modifier.replace_full_path.is_some())
        }
        HttpPathModifierType::Unknown(text) => {
            let message = format!("'{}' is unknown; use ReplaceFullPath or ReplacePrefixMatch", Foreign(text));
            return Err(Problem::value(format!("{field}.type"), message));
        }
    };
    let field = format!("{field}.{member}");
    let Some(value) = value else {
        return Err(Problem::value(field, format!("type {} needs it", modifier.r#type)));
    };
    if other {
        return Err(Problem::value(field, "replaceFullPath and replacePrefixMatch exclude each other; remove one"));
    }
    if !is_replacement(value) {
        let message =
            "a path begins with '/', has no query, no fragment, no empty and no dot segment, and is percent-encoded";
        return Err(Problem::value(field, message));
    }
    if modifier.r#type == HttpPathModifierType::ReplacePrefixMatch {
        if !sole_prefix {
            return Err(Problem::value(field, "the rule must have exactly one match, and that of type PathPrefix"));
        }
        return Ok(Some(PathModifier::ReplacePrefixMatch(value.as_str().into())));
    }
    Ok(Some(PathModifier::ReplaceFullPath(value.as_str().into())))
}

/// What may take the place of a path: nothing, or a path as those of matches are.
fn is_replacement(value: &str) -> bool {
    value.is_empty() || is_path(value)
}

/// The CEL rules of HTTPPathMatch for Exact and PathPrefix.
pub(crate) fn is_path(value: &str) -> bool {
    let dots = ["/.", "/.."].iter().any(|dots| value.ends_with(dots) || value.contains(&format!("{dots}/")));
    let lower = value.to_ascii_lowercase();
    value.starts_with('/') && !value.contains("//") && !dots && !lower.contains("%2f") && is_path_text(value.as_bytes())
}

fn is_path_text(mut bytes: &[u8]) -> bool {
    loop {
        match bytes {
            [] => return true,
            [b'%', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => bytes = rest,
            [byte, rest @ ..] if byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(byte) => bytes = rest,
            _ => return false,
        }
    }
}

fn cors(filter: &HttpCorsFilter, field: &str) -> Result<Cors, Problem> {
    known(&filter.extra, field)?;
    let max_age = u32::try_from(filter.max_age.unwrap_or(5)).ok().filter(|age| *age > 0);
    Ok(Cors {
        allow_origins: cors_origins(&filter.allow_origins, &format!("{field}.allowOrigins"))?,
        allow_credentials: filter.allow_credentials.unwrap_or(false),
        allow_methods: cors_methods(&filter.allow_methods, &format!("{field}.allowMethods"))?,
        allow_headers: cors_headers(&filter.allow_headers, &format!("{field}.allowHeaders"))?,
        // Only here the CRD lets a wildcard stand beside names.
        expose_headers: match filter.expose_headers.iter().any(|name| name == "*") {
            true => CorsNames::Any,
            false => cors_headers(&filter.expose_headers, &format!("{field}.exposeHeaders"))?,
        },
        max_age: max_age.ok_or_else(|| Problem::value(format!("{field}.maxAge"), "at least 1 second"))?,
    })
}

fn cors_origins(list: &[String], field: &str) -> Result<CorsOrigins, Problem> {
    if list == ["*"] {
        return Ok(CorsOrigins::Any);
    }
    let origin = |(index, text): (usize, &String)| {
        cors_origin(text).ok_or_else(|| {
            let message = format!(
                "'{}' is not an origin: use scheme://host or scheme://host:port, with * as the host or before its first dot, or * alone",
                Foreign(text)
            );
            Problem::value(format!("{field}[{index}]"), message)
        })
    };
    list.iter().enumerate().map(origin).collect::<Result<Vec<_>, _>>().map(CorsOrigins::List)
}

/// `scheme://host[:port]`; the scheme's own port is left out.
fn cors_origin(text: &str) -> Option<CorsOrigin> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase();
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) if !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, Some(port.parse::<u16>().ok().filter(|port| *port != 0)?))
        }
        Some(_) => return None,
        None => (rest, None),
    };
    let host = cors_host(host)?;
    let own_port = match scheme.as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    Some(CorsOrigin { scheme: Some(scheme.into()), host, port: port.filter(|port| Some(*port) != own_port) })
}

/// A DNS name, perhaps with a wildcard as its first part, an IPv4 address, or `*`.
fn cors_host(host: &str) -> Option<portcullis_model::Hostname> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let is_host = host == "*"
        || (host.parse::<std::net::Ipv4Addr>().is_ok())
        || (name.len() <= 253
            && name.split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            }));
    is_host.then(|| portcullis_model::Hostname::new(Some(host)))
}

fn cors_methods(list: &[HttpMethodWithWildcard], field: &str) -> Result<CorsNames, Problem> {
    let names: Vec<&str> = list.iter().map(HttpMethodWithWildcard::as_str).collect();
    if let Some(index) = list.iter().position(|method| matches!(method, HttpMethodWithWildcard::Unknown(_))) {
        let message = format!("the method '{}' is unknown", Foreign(names[index]));
        return Err(Problem::value(format!("{field}[{index}]"), message));
    }
    cors_names(&names, field, |name| Some(name.into()))
}

fn cors_headers(list: &[String], field: &str) -> Result<CorsNames, Problem> {
    let names: Vec<&str> = list.iter().map(String::as_str).collect();
    cors_names(&names, field, header_name)
}

fn cors_names(list: &[&str], field: &str, name: fn(&str) -> Option<Arc<str>>) -> Result<CorsNames, Problem> {
    if list == ["*"] {
        return Ok(CorsNames::Any);
    }
    let mut names = Vec::new();
    for (index, text) in list.iter().enumerate() {
        if *text == "*" {
            return Err(Problem::value(field, "'*' stands alone or not at all"));
        }
        let Some(name) = name(text) else {
            return Err(Problem::value(format!("{field}[{index}]"), format!("'{}' is not a name", Foreign(text))));
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(CorsNames::List(names))
}

#[cfg(test)]
mod tests {
    use super::{cors_origin, is_path};

    #[test]
    fn paths_are_those_of_the_crd() {
        for (path, expected) in [
            ("/", true),
            ("/a/b", true),
            ("/a/", true),
            ("/a%20b", true),
            ("/a..b", true),
            ("/.a", true),
            ("", false),
            ("a", false),
            ("/a//b", false),
            ("/a/./b", false),
            ("/a/../b", false),
            ("/a/..", false),
            ("/a/.", false),
            ("/a%2Fb", false),
            ("/a%2fb", false),
            ("/a#b", false),
            ("/a?b", false),
            ("/a b", false),
            ("/a%2", false),
            ("/ä", false),
        ] {
            assert_eq!(is_path(path), expected, "{path}");
        }
    }

    #[test]
    fn origins_have_scheme_host_and_port() {
        for (text, expected) in [
            ("https://example.com", Some((Some("https"), "example.com", None))),
            ("https://example.com:443", Some((Some("https"), "example.com", None))),
            ("http://example.com:443", Some((Some("http"), "example.com", Some(443)))),
            ("HTTP://*.Example.com:8080", Some((Some("http"), "*.example.com", Some(8080)))),
            ("https://*", Some((Some("https"), "*", None))),
            ("https://127.0.0.1:3000", Some((Some("https"), "127.0.0.1", Some(3000)))),
            ("example.com", None),
            ("https://", None),
            ("https://a/b", None),
            ("https://a:0", None),
            ("https://a:", None),
            ("https://a:65536", None),
            ("https://*a.com", None),
            ("https://a.*.com", None),
            ("1://a", None),
        ] {
            let origin = cors_origin(text);
            let found = origin.as_ref().map(|origin| (origin.scheme.as_deref(), origin.host.to_string(), origin.port));
            assert_eq!(found, expected.map(|(scheme, host, port)| (scheme, host.to_owned(), port)), "{text}");
        }
    }
}
