//! CORS (GEP-1767, the Fetch standard).
//!
//! A preflight never reaches a backend: it is answered with 204, without CORS headers if its origin is not admitted.
//! The filter is the authority on other responses: what the backend says about allowed origins and credentials is
//! replaced, and taken away when the origin is not admitted. An origin is echoed, except that all origins without
//! credentials are `*`.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};
use portcullis_model::{Cors, CorsNames, CorsOrigin, CorsOrigins};

/// A CORS filter.
#[derive(Debug)]
pub(crate) struct LinkedCors {
    origins: CorsOrigins,
    credentials: bool,
    methods: Names,
    headers: Names,
    expose: Names,
    max_age: HeaderValue,
}

/// Names, as the value of a header.
#[derive(Debug)]
enum Names {
    Any,
    List(HeaderValue),
    None,
}

/// What a preflight comes to.
#[derive(Debug)]
pub(crate) enum Preflight {
    Admitted(HeaderMap),
    Refused(HeaderMap),
}

impl LinkedCors {
    pub(crate) fn new(cors: &Cors) -> Result<Self, String> {
        Ok(Self {
            origins: cors.allow_origins.clone(),
            credentials: cors.allow_credentials,
            methods: Names::new(&cors.allow_methods, "allowMethods")?,
            headers: Names::new(&cors.allow_headers, "allowHeaders")?,
            expose: Names::new(&cors.expose_headers, "exposeHeaders")?,
            max_age: HeaderValue::from(cors.max_age),
        })
    }

    /// `None` if the request is not a preflight (Fetch 3.2.2: OPTIONS with Origin and Access-Control-Request-Method).
    pub(crate) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<Preflight> {
        if method != Method::OPTIONS {
            return None;
        }
        let requested_method = request.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let origin = sole_origin(request)?;
        let mut headers = HeaderMap::new();
        let Some(allowed) = self.allowed_origin(origin) else {
            headers.insert(VARY, HeaderValue::from_static("Origin"));
            return Some(Preflight::Refused(headers));
        };
        self.insert_origin(allowed, &mut headers);
        if let Some(methods) = self.methods.allowed(self.credentials, Some(requested_method)) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        let requested_headers = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(names) = self.headers.allowed(self.credentials, requested_headers) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        Some(Preflight::Admitted(headers))
    }

    pub(crate) fn edit_response(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        match origin.map(|origin| self.allowed_origin(origin)) {
            Some(Some(allowed)) => {
                headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
                headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
                self.insert_origin(allowed, headers);
            }
            Some(None) => {
                headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
                headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
                headers.append(VARY, HeaderValue::from_static("Origin"));
            }
            None if !self.admits_all_alike() => {
                headers.append(VARY, HeaderValue::from_static("Origin"));
            }
            None => {}
        }
    }

    /// The headers that preflights and other responses share.
    fn insert_origin(&self, allowed: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if !self.admits_all_alike() {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        let expose = match &self.expose {
            Names::List(names) => Some(names.clone()),
            Names::Any if !self.credentials => Some(HeaderValue::from_static("*")),
            Names::Any | Names::None => None,
        };
        if let Some(expose) = expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose);
        }
    }

    fn admits_all_alike(&self) -> bool {
        self.origins == CorsOrigins::Any && !self.credentials
    }

    /// The value of Access-Control-Allow-Origin, if the origin is admitted.
    fn allowed_origin(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match &self.origins {
            CorsOrigins::Any if self.credentials => Some(origin.clone()),
            CorsOrigins::Any => Some(HeaderValue::from_static("*")),
            CorsOrigins::List(list) => {
                let parsed = Origin::parse(origin.to_str().ok()?)?;
                list.iter().any(|admitted| parsed.is(admitted)).then(|| origin.clone())
            }
        }
    }
}

/// The Origin of a request that has exactly one.
fn sole_origin(request: &HeaderMap) -> Option<&HeaderValue> {
    let mut origins = request.get_all(ORIGIN).iter();
    origins.next().filter(|_| origins.next().is_none())
}

impl Names {
    fn new(names: &CorsNames, field: &str) -> Result<Self, String> {
        let list = match names {
            CorsNames::Any => return Ok(Self::Any),
            CorsNames::List(list) if list.is_empty() => return Ok(Self::None),
            CorsNames::List(list) => list,
        };
        if let Some(name) = list.iter().find(|name| Method::from_bytes(name.as_bytes()).is_err()) {
            return Err(format!("{field}: \"{}\" is not a name", name.escape_default()));
        }
        HeaderValue::try_from(list.join(", ")).map(Self::List).map_err(|_| format!("{field}: too long"))
    }

    /// The value of an allow header. All are `*`, or with credentials, for which `*` has no meaning, what was asked for;
    /// nothing if nothing was asked for.
    fn allowed(&self, credentials: bool, requested: Option<&HeaderValue>) -> Option<HeaderValue> {
        match self {
            Self::List(names) => Some(names.clone()),
            Self::Any if credentials => requested.cloned(),
            Self::Any => requested.map(|_| HeaderValue::from_static("*")),
            Self::None => None,
        }
    }
}

/// An Origin (RFC 6454 7.1), lower case.
struct Origin {
    scheme: String,
    host: String,
    /// When it is not the scheme's default.
    port: Option<u16>,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let host = crate::host::parse(authority).ok().filter(|host| !host.is_empty())?.into_owned();
        let after_host = authority.rsplit_once(']').map_or(authority, |(_, after)| after);
        let port = match after_host.rsplit_once(':') {
            Some((_, port)) => Some(port.parse().ok()?),
            None => None,
        };
        let default = match scheme.as_str() {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        Some(Self { scheme, host, port: port.filter(|port| Some(*port) != default) })
    }

    fn is(&self, admitted: &CorsOrigin) -> bool {
        admitted.scheme.as_deref().is_none_or(|scheme| scheme == self.scheme)
            && admitted.port == self.port
            && admitted.host.covers(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::{LinkedCors, Preflight};
    use http::{HeaderMap, HeaderName, HeaderValue, Method};
    use portcullis_model::{Cors, CorsNames, CorsOrigin, CorsOrigins, Hostname};

    fn origin(scheme: &str, host: &str, port: Option<u16>) -> CorsOrigin {
        CorsOrigin { scheme: Some(scheme.into()), host: Hostname::new(Some(host)), port }
    }

    fn names(names: &[&str]) -> CorsNames {
        match names {
            ["*"] => CorsNames::Any,
            names => CorsNames::List(names.iter().map(|name| (*name).into()).collect()),
        }
    }

    fn cors(
        origins: CorsOrigins,
        credentials: bool,
        methods: &[&str],
        headers: &[&str],
        expose: &[&str],
    ) -> LinkedCors {
        LinkedCors::new(&Cors {
            allow_origins: origins,
            allow_credentials: credentials,
            allow_methods: names(methods),
            allow_headers: names(headers),
            expose_headers: names(expose),
            max_age: 5,
        })
        .unwrap()
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let entries = list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        entries.collect()
    }

    const PREFLIGHT: &[(&str, &str)] = &[
        ("origin", "https://www.foo.com"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "x-header-1, x-header-2"),
    ];

    fn preflight(cors: &LinkedCors, request: &HeaderMap) -> HeaderMap {
        match cors.preflight(&Method::OPTIONS, request) {
            Some(Preflight::Admitted(headers)) => headers,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn origins() {
        let list = CorsOrigins::List(vec![
            origin("https", "www.foo.com", None),
            origin("https", "*.bar.com", None),
            origin("http", "port.example", Some(8080)),
        ]);
        let cors = cors(list, true, &[], &[], &[]);
        for (origin, admitted) in [
            ("https://www.foo.com", true),
            ("https://WWW.foo.com", true),
            ("https://www.foo.com:443", true),
            ("https://www.foo.com:8443", false),
            ("http://www.foo.com", false),
            ("https://foo.com", false),
            ("https://www.bar.com", true),
            ("https://xpto.www.bar.com", true),
            ("https://bar.com", false),
            ("https://xbar.com", false),
            ("https://www.bar.com.evil.example", false),
            ("http://port.example:8080", true),
            ("http://port.example", false),
            ("http://port.example:80", false),
            ("null", false),
            ("", false),
            ("https://", false),
            ("https://www.foo.com/", false),
            ("https://www.foo.com:x", false),
            ("https://[::1]", false),
        ] {
            let mut response = headers(&[("access-control-allow-origin", "https://backend.example")]);
            cors.edit_response(Some(&HeaderValue::from_str(origin).unwrap()), &mut response);
            let allowed = response.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(allowed, admitted.then_some(origin), "{origin}");
            assert_eq!(response.contains_key("access-control-allow-credentials"), admitted, "{origin}");
            assert_eq!(response["vary"], "Origin", "{origin}");
        }
    }

    #[test]
    fn a_preflight_lists_what_is_configured() {
        let list = CorsOrigins::List(vec![origin("https", "www.foo.com", None)]);
        let cors = cors(list, true, &["GET", "OPTIONS"], &["x-header-1", "x-header-2"], &["x-header-3", "x-header-4"]);
        let answer = preflight(&cors, &headers(PREFLIGHT));
        for (name, value) in [
            ("access-control-allow-origin", "https://www.foo.com"),
            ("access-control-allow-methods", "GET, OPTIONS"),
            ("access-control-allow-headers", "x-header-1, x-header-2"),
            ("access-control-expose-headers", "x-header-3, x-header-4"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "5"),
            ("vary", "Origin"),
        ] {
            assert_eq!(answer.get(name).map(|value| value.to_str().unwrap()), Some(value), "{name}");
        }
        let other = headers(&[("origin", "https://foobar.com"), ("access-control-request-method", "GET")]);
        match cors.preflight(&Method::OPTIONS, &other) {
            Some(Preflight::Refused(headers)) => assert_eq!(headers.len(), 1),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn wildcards() {
        let without = cors(CorsOrigins::Any, false, &["*"], &["*"], &["*"]);
        let answer = preflight(&without, &headers(PREFLIGHT));
        for name in ["origin", "methods", "headers"] {
            assert_eq!(answer[format!("access-control-allow-{name}")], "*");
        }
        assert_eq!(answer["access-control-expose-headers"], "*");
        assert!(!answer.contains_key("vary") && !answer.contains_key("access-control-allow-credentials"));

        let with = cors(CorsOrigins::Any, true, &["*"], &["*"], &["*"]);
        let answer = preflight(&with, &headers(PREFLIGHT));
        assert_eq!(answer["access-control-allow-origin"], "https://www.foo.com");
        assert_eq!(answer["access-control-allow-methods"], "PUT");
        assert_eq!(answer["access-control-allow-headers"], "x-header-1, x-header-2");
        assert!(!answer.contains_key("access-control-expose-headers"));
        let answer = preflight(&with, &headers(&PREFLIGHT[..2]));
        assert!(!answer.contains_key("access-control-allow-headers"));
    }

    #[test]
    fn only_preflights_are_answered() {
        let cors = cors(CorsOrigins::Any, false, &["*"], &["*"], &[]);
        assert!(cors.preflight(&Method::GET, &headers(PREFLIGHT)).is_none());
        assert!(cors.preflight(&Method::OPTIONS, &headers(&PREFLIGHT[..1])).is_none());
        assert!(cors.preflight(&Method::OPTIONS, &headers(&PREFLIGHT[1..])).is_none());
        let nobody = self::cors(CorsOrigins::List(vec![]), false, &[], &[], &[]);
        assert!(matches!(nobody.preflight(&Method::OPTIONS, &headers(PREFLIGHT)), Some(Preflight::Refused(_))));
        let mut response = HeaderMap::new();
        nobody.edit_response(None, &mut response);
        assert_eq!(response["vary"], "Origin");
    }
}
