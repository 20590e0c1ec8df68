//! Request head → answer or need.
//!
//! Host → listener (no fall-through to a less specific one) → normal form of the path → route → the rule's action.
//! Among routes the better hostname comes first; what its rules do not match falls through to the next hostname.

use crate::condition::Lookup;
use crate::filter::{self, LinkedFilter, LinkedRedirect, Preflight, RedirectFrom, RewrittenPath};
use crate::linked::LinkedAction;
use crate::path::{NormalPath, normalize};
use crate::table::{Candidate, LinkedPath};
use crate::{Answer, LinkedListener, LinkedMirror, LinkedRule, Matched, Port, Step, Why, host};
use http::header::{HOST, ORIGIN};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use portcullis_model::{BackendKey, Failure, ListenerProtocol};
use std::sync::Arc;

/// The connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The server name of the ClientHello.
    pub server_name: Option<&'a str>,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// Host or `:authority` as received, with its port; empty if there is none.
    pub host: &'a str,
    /// The path as received, without the query.
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// What is needed to go on.
#[derive(Clone, Debug)]
pub enum Need {
    /// A choice among the rule's backends, and then its response.
    Backend(Forward),
}

/// Why a Host cannot be read. Each is answered with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostRefusal {
    /// Longer than 253 characters.
    TooLong,
    /// A character that no host name has, or an empty label.
    InvalidName,
    /// What follows the colon is not a port.
    InvalidPort,
}

impl HostRefusal {
    /// The stable text for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "HostTooLong",
            Self::InvalidName => "HostInvalidName",
            Self::InvalidPort => "HostInvalidPort",
        }
    }
}

/// A request that goes to one of a rule's backends.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The rule that takes it.
    pub matched: Matched,
    /// Its path, in normal form, before any rewrite.
    pub path: NormalPath,
}

impl Port {
    /// Decides on a request. The caller passes the head as received; the connection's server name says which listener
    /// terminated TLS.
    pub fn request(&self, connection: &Connection<'_>, head: &RequestHead<'_>) -> Step {
        match self.decide(connection, head) {
            Ok(forward) => Step::Need(Need::Backend(forward)),
            Err(answer) => Step::Done(answer),
        }
    }

    #[expect(clippy::result_large_err, reason = "both are results, moved once")]
    fn decide(&self, connection: &Connection<'_>, head: &RequestHead<'_>) -> Result<Forward, Answer> {
        let host = host::parse(head.host).map_err(|refusal| Answer::new(400, Why::InvalidHost(refusal), None))?;
        let listener = self.select(connection, &host)?;
        let refused = |why, status| Answer::new(status, why, Some(listener.clone()));
        if !listener.state.is_serving() {
            return Err(refused(Why::ListenerInvalid, 404));
        }
        let path = normalize(head.path).map_err(|refusal| refused(Why::InvalidPath(refusal), 400))?;
        let matched = find(listener, &host, &Lookup::new(head, &path)).ok_or_else(|| refused(Why::NoRoute, 404))?;
        if let Some(answer) = matched.answer(head, &host, &path) {
            return Err(answer);
        }
        Ok(Forward { matched, path: NormalPath::from_normalized(path) })
    }

    /// The most specific listener that covers the Host. On HTTPS it must be the one that the server name selected
    /// (GatewayHTTPSListenerDetectMisdirectedRequests): another one is 421, none is 404.
    #[expect(clippy::result_large_err, reason = "both are results, moved once")]
    fn select(&self, connection: &Connection<'_>, host: &str) -> Result<&Arc<LinkedListener>, Answer> {
        let by_host = self.listener(host).ok_or_else(|| Answer::new(404, Why::NoListener, None))?;
        if self.protocol == ListenerProtocol::Http {
            return Ok(by_host);
        }
        let by_name = match host::parse_name(connection.server_name.unwrap_or_default()) {
            Ok(name) if connection.tls => self.listener(&name),
            _ => None,
        };
        match by_name {
            Some(by_name) if Arc::ptr_eq(by_name, by_host) => Ok(by_host),
            _ => Err(Answer::new(421, Why::MisdirectedRequest, Some(by_host.clone()))),
        }
    }
}

/// The rule that takes the request: of the best hostname that has one.
fn find(listener: &Arc<LinkedListener>, host: &str, lookup: &Lookup<'_>) -> Option<Matched> {
    let candidate = listener.hosts.covering(host).find_map(|table| table.find(lookup))?;
    Some(candidate.matched(listener))
}

impl Candidate {
    fn matched(&self, listener: &Arc<LinkedListener>) -> Matched {
        Matched {
            route: self.route.clone(),
            rule: self.rule().clone(),
            match_index: self.match_index as usize,
            listener: listener.clone(),
        }
    }
}

impl Matched {
    /// What the rule answers by itself.
    fn answer(&self, head: &RequestHead<'_>, host: &str, path: &str) -> Option<Answer> {
        if let LinkedAction::Fail(failure) = &self.rule.action {
            return Some(self.failed(failure, Why::RuleFailed(failure.reason)));
        }
        if let Some(answer) = self.preflight(head) {
            return Some(answer);
        }
        let mut answer = match &self.rule.action {
            LinkedAction::Redirect(redirect) => self.redirect(redirect, head, host, path),
            _ if self.rule.has_weight() => return None,
            _ => self.answered(500, Why::NoBackendRefs),
        };
        filter::edit_response(&self.rule.filters, head.headers.get(ORIGIN), &mut answer.headers);
        Some(answer)
    }

    fn preflight(&self, head: &RequestHead<'_>) -> Option<Answer> {
        let preflight = self.rule.filters.iter().find_map(|filter| match filter {
            LinkedFilter::Cors(cors) => cors.preflight(head.method, head.headers),
            _ => None,
        });
        let (mut headers, why) = match preflight? {
            Preflight::Admitted(headers) => (headers, Why::CorsPreflight),
            Preflight::Refused(headers) => (headers, Why::CorsPreflightRefused),
        };
        for filter in &self.rule.filters {
            if let LinkedFilter::ResponseHeaders(changes) = filter {
                changes.apply(&mut headers);
            }
        }
        Some(Answer { headers, ..self.answered(204, why) })
    }

    fn redirect(&self, redirect: &LinkedRedirect, head: &RequestHead<'_>, host: &str, path: &str) -> Answer {
        let location = redirect.location(RedirectFrom {
            tls: self.listener.protocol == ListenerProtocol::Https,
            listener_port: self.listener.port,
            host,
            path: RewrittenPath { path: path.into(), prefix: self.prefix(path) },
            query: head.query,
        });
        let Some(location) = location else { return self.answered(500, Why::InvalidRewrite) };
        let mut answer = self.answered(redirect.status.as_u16(), Why::Redirect);
        answer.headers.insert(http::header::LOCATION, location);
        answer
    }

    fn failed(&self, failure: &Failure, why: Why) -> Answer {
        self.answered(failure.status_code, why)
    }

    fn answered(&self, status: u16, why: Why) -> Answer {
        Answer { matched: Some(self.clone()), ..Answer::new(status, why, Some(self.listener.clone())) }
    }

    /// How much of the path the rule's PathPrefix matched.
    fn prefix(&self, path: &str) -> usize {
        match self.rule.matches.get(self.match_index).map(|entry| &entry.path) {
            Some(LinkedPath::Prefix(prefix)) => prefix.len(),
            _ => path.len(),
        }
    }
}

impl Answer {
    fn new(status: u16, why: Why, listener: Option<Arc<LinkedListener>>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, headers: HeaderMap::new(), why, matched: None, listener }
    }
}

impl LinkedRule {
    fn has_weight(&self) -> bool {
        self.backends.iter().any(|backend| backend.weight > 0)
    }

    fn backend_filters(&self, choice: Option<usize>) -> &[LinkedFilter] {
        choice.and_then(|choice| self.backends.get(choice)).map(|backend| &*backend.filters).unwrap_or_default()
    }
}

impl Forward {
    /// The backend of a choice, an index of `matched.rule.backends`. The caller chooses by weight.
    ///
    /// An error is the answer for that backend's share of requests; no filter has run on it yet, see
    /// [`Forward::edit_response`].
    #[expect(clippy::result_large_err, reason = "the error is the answer that is sent")]
    pub fn backend(&self, choice: usize) -> Result<&BackendKey, Answer> {
        match self.matched.rule.backends.get(choice).map(|backend| &backend.target) {
            Some(Ok(key)) => Ok(key),
            Some(Err(failure)) => Err(self.matched.failed(failure, Why::BackendInvalid(failure.reason))),
            None => Err(self.matched.answered(500, Why::NoBackendRefs)),
        }
    }

    /// Runs the rule's filters, then those of the chosen backend, on the request: URI, Host and headers. The path
    /// forwarded is the normal form, rewritten; the query stays as it is. A rewritten host replaces the Host header and
    /// the URI's authority, if it has one.
    ///
    /// An error is the answer to give instead: the rewritten path is too long for a URI.
    #[expect(clippy::result_large_err, reason = "the error is the answer that is sent")]
    pub fn edit_request(&self, choice: usize, request: &mut http::request::Parts) -> Result<(), Answer> {
        let rule = &self.matched.rule;
        let path = self.path.as_str();
        let mut path = RewrittenPath { path: path.into(), prefix: self.matched.prefix(path) };
        let mut authority = None;
        for filter in rule.filters.iter().chain(rule.backend_filters(Some(choice))) {
            match filter {
                LinkedFilter::RequestHeaders(changes) => changes.apply(&mut request.headers),
                LinkedFilter::UrlRewrite(rewrite) => {
                    rewrite.edit_path(&mut path);
                    if let Some((host, name)) = &rewrite.host {
                        request.headers.insert(HOST, host.clone());
                        authority = Some(name);
                    }
                }
                LinkedFilter::ResponseHeaders(_) | LinkedFilter::Mirror(_) | LinkedFilter::Cors(_) => {}
            }
        }
        if let Some(uri) = edited(&request.uri, &path.path, authority) {
            request.uri = uri.map_err(|_| self.matched.answered(500, Why::InvalidRewrite))?;
        }
        Ok(())
    }

    /// Runs the filters on a response: those of the chosen backend, then the rule's. `choice` is `None` for answers of
    /// the gateway itself; `request_origin` is the request's Origin as received.
    pub fn edit_response(
        &self,
        choice: Option<usize>,
        request_origin: Option<&HeaderValue>,
        response: &mut http::response::Parts,
    ) {
        let rule = &self.matched.rule;
        filter::edit_response(rule.backend_filters(choice), request_origin, &mut response.headers);
        filter::edit_response(&rule.filters, request_origin, &mut response.headers);
    }

    /// Where copies go, the rule's first. The share of each is the caller's to draw.
    pub fn mirrors(&self, choice: usize) -> impl Iterator<Item = &LinkedMirror> {
        let rule = &self.matched.rule;
        rule.filters.iter().chain(rule.backend_filters(Some(choice))).filter_map(|filter| match filter {
            LinkedFilter::Mirror(mirror) => Some(&**mirror),
            _ => None,
        })
    }
}

/// The URI with another path and authority; `None` if nothing changes.
fn edited(uri: &Uri, path: &str, authority: Option<&Authority>) -> Option<Result<Uri, http::Error>> {
    let authority = authority.filter(|_| uri.authority().is_some());
    if uri.path() == path && authority.is_none() {
        return None;
    }
    let build = || {
        let target = match uri.query() {
            Some(query) => [path, "?", query].concat(),
            None => path.to_owned(),
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(target)?);
        if let Some(authority) = authority {
            parts.authority = Some(authority.clone());
        }
        Ok(Uri::from_parts(parts)?)
    };
    Some(build())
}
