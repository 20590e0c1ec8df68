//! Why something could not be read, and what to do about it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use portcullis_api::Foreign;

/// Why the API server did not let something be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadError {
    /// What happened.
    pub problem: Problem,
    /// What was to be done, as in `list httproutes.gateway.networking.k8s.io in namespace infra`.
    pub attempt: String,
    /// What the API server, or the network, said: foreign text.
    pub message: String,
}

/// What kept something from being read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Problem {
    /// 403: a right is missing.
    Forbidden,
    /// 401: the API server does not know who asks.
    Unauthorized,
    /// 404: the object, or its whole kind, is not there.
    NotFound,
    /// 410: the version from which to go on is too old.
    Expired,
    /// 429 or 503, with the time after which to come again, if it was said.
    Busy(Option<Duration>),
    /// Another answer that is none, with its status.
    Refused(u16),
    /// No answer: the connection failed, or it took too long.
    Unreachable,
    /// An answer that makes no sense, or is too large.
    Malformed,
    /// The kind is served, but in no version that can be read here.
    Version,
    /// The selection of namespaces does not include it.
    Outside,
}

impl ReadError {
    pub(crate) fn new(problem: Problem, attempt: impl Into<String>, message: impl fmt::Display) -> Self {
        let mut message = message.to_string();
        if message.len() > MESSAGE_LIMIT {
            message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
            message.push('…');
        }
        Self { problem, attempt: attempt.into(), message }
    }

    /// No answer, for a request that was not made by this crate.
    pub fn unreachable(attempt: impl Into<String>, error: &kube::Error) -> Self {
        Self::new(Problem::Unreachable, attempt, chain(error))
    }

    /// No answer in time.
    pub fn silent(attempt: impl Into<String>, waited: Duration) -> Self {
        Self::new(Problem::Unreachable, attempt, format_args!("no answer within {} s", waited.as_secs()))
    }

    /// What to do; empty if waiting is all.
    pub fn remedy(&self) -> &'static str {
        match self.problem {
            Problem::Forbidden => "grant this to the ServiceAccount, as the chart's roles do",
            Problem::Unauthorized => "check the token or certificate that the API server is to accept",
            Problem::Version => {
                "install a release of the custom resource definitions that this release of Portcullis knows"
            }
            Problem::Outside => "include the namespace in those where it may be read, and grant the right",
            Problem::Unreachable => "check that the API server is up and can be reached from here",
            Problem::NotFound | Problem::Expired | Problem::Busy(_) | Problem::Refused(_) | Problem::Malformed => "",
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            let _ = write!(text, ": {message}");
        }
        cause = error.source();
    }
    text
}

/// How much of a foreign message is kept, in bytes.
const MESSAGE_LIMIT: usize = 1024;

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", Foreign(&self.attempt))?;
        if !self.message.is_empty() {
            write!(f, ": {}", Foreign(&self.message))?;
        }
        match self.remedy() {
            "" => Ok(()),
            remedy => write!(f, "; {remedy}"),
        }
    }
}

impl std::error::Error for ReadError {}
