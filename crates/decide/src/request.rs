//! Request head → answer or need.

use crate::path::NormalPath;
use crate::{Answer, LinkedMirror, Matched, Port, Step, Why};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use portcullis_model::BackendKey;

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

impl Forward {
    /// The backend of a choice, an index of `matched.rule.backends`. The caller chooses by weight.
    ///
    /// An error is the answer for that backend's share of requests.
    pub fn backend(&self, choice: usize) -> Result<&BackendKey, Answer> {
        let _ = choice;
        Err(Answer {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            headers: HeaderMap::new(),
            why: Why::NoBackendRefs,
            matched: Some(self.matched.clone()),
            listener: Some(self.matched.listener.clone()),
        })
    }

    /// Runs the rule's filters, then those of the chosen backend, on the request: URI, Host and headers. The path
    /// forwarded is the normal form, rewritten; the query stays as it is.
    pub fn edit_request(&self, choice: usize, request: &mut http::request::Parts) {
        let _ = (choice, request);
    }

    /// Runs the filters on a response: those of the chosen backend, then the rule's. `choice` is `None` for answers of
    /// the gateway itself; `request_origin` is the request's Origin as received.
    pub fn edit_response(
        &self,
        choice: Option<usize>,
        request_origin: Option<&HeaderValue>,
        response: &mut http::response::Parts,
    ) {
        let _ = (choice, request_origin, response);
    }

    /// Where copies go, rule's first. The share of each is the caller's to draw.
    pub fn mirrors(&self, choice: usize) -> impl Iterator<Item = &LinkedMirror> {
        let _ = choice;
        std::iter::empty()
    }
}

impl Port {
    /// Decides on a request. The caller passes the head as received; the connection's server name says which listener
    /// terminated TLS.
    pub fn request(&self, connection: &Connection<'_>, head: &RequestHead<'_>) -> Step {
        let _ = (connection, head);
        Step::Done(Answer {
            status: StatusCode::NOT_FOUND,
            headers: HeaderMap::new(),
            why: Why::NoRoute,
            matched: None,
            listener: None,
        })
    }
}
