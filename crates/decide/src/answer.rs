//! What a request comes to.

use crate::path::PathRefusal;
use crate::{HostRefusal, LinkedListener, LinkedRoute, LinkedRule, Need};
use http::{HeaderMap, StatusCode};
use portcullis_model::FailureReason;
use std::sync::Arc;

/// One step of a decision.
#[derive(Clone, Debug)]
pub enum Step {
    /// Decided: this is the answer.
    Done(Answer),
    /// Something has to be asked for first.
    Need(Need),
}

/// An answer made by the gateway itself. It has no body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: StatusCode,
    /// Headers of the answer, without any about framing.
    pub headers: HeaderMap,
    /// Why.
    pub why: Why,
    /// The rule that matched, if one did.
    pub matched: Option<Matched>,
    /// The listener that took the request, if one did.
    pub listener: Option<Arc<LinkedListener>>,
}

/// The rule that took a request.
#[derive(Clone, Debug)]
pub struct Matched {
    /// The rule's route.
    pub route: Arc<LinkedRoute>,
    /// The rule.
    pub rule: Arc<LinkedRule>,
    /// Which of the rule's matches.
    pub match_index: usize,
    /// The listener that took the request.
    pub listener: Arc<LinkedListener>,
}

/// Why the gateway answers by itself: the stable reason of logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// 400: the Host cannot be read.
    InvalidHost(HostRefusal),
    /// 400: the path has no normal form.
    InvalidPath(PathRefusal),
    /// 404: no listener of the port covers the Host.
    NoListener,
    /// 404: the listener that covers the Host is not valid.
    ListenerInvalid,
    /// 404: no rule of the listener matches.
    NoRoute,
    /// 421: the Host belongs to another listener than the connection's server name.
    MisdirectedRequest,
    /// A RequestRedirect filter.
    Redirect,
    /// 204: a CORS preflight from an admitted origin.
    CorsPreflight,
    /// 204 without CORS headers: a preflight from an origin that is not admitted.
    CorsPreflightRefused,
    /// The rule as a whole cannot be honoured; [`LinkedRule::failure`] says which field.
    RuleFailed(FailureReason),
    /// The chosen backend is not valid, or one of its filters.
    BackendInvalid(FailureReason),
    /// 500: no backend has a weight.
    NoBackendRefs,
    /// 500: the rewritten path or host is not a valid URI.
    InvalidRewrite,
}

impl Why {
    /// The stable text, in the style of condition reasons.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidHost(refusal) => refusal.as_str(),
            Self::InvalidPath(refusal) => refusal.as_str(),
            Self::NoListener => "NoListener",
            Self::ListenerInvalid => "ListenerInvalid",
            Self::NoRoute => "NoRoute",
            Self::MisdirectedRequest => "MisdirectedRequest",
            Self::Redirect => "Redirect",
            Self::CorsPreflight => "CorsPreflight",
            Self::CorsPreflightRefused => "CorsPreflightRefused",
            Self::RuleFailed(reason) | Self::BackendInvalid(reason) => reason.as_str(),
            Self::NoBackendRefs => "NoBackendRefs",
            Self::InvalidRewrite => "InvalidRewrite",
        }
    }
}
