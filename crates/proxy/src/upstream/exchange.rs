//! One request's way through its backend: endpoints, connections, tries, time limits.
//!
//! In flow the request, shaped for the backend's protocol, and the rule's limits. Out flows the response to be passed on, or
//! the failure to be answered.

use super::balance::Picker;
use super::connect::ConnectError;
use super::endpoints::{Backend, OpenRequest};
use super::http1;
use super::pool::{ExchangeError, Lease};
use super::request_body::Source;
use super::retry::{Circumstances, Next, Tries, Trouble, is_idempotent};
use crate::filter::mirror::drain;
use crate::http::Refusal;
use crate::record::{Flag, Record};
use crate::worker::Worker;
use http::{HeaderMap, StatusCode};
use portcullis_decide::LinkedRule;
use smallvec::SmallVec;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a response that is not passed on may take to end, so that its connection can be used again.
const DRAIN: Duration = Duration::from_secs(1);

/// A response to be passed on.
pub(crate) struct Received {
    /// Its head.
    pub(crate) head: http::response::Parts,
    /// The connection that its body comes on.
    pub(crate) lease: Lease,
    /// When it must have ended, and by which limit.
    pub(crate) deadline: Option<(Instant, Flag)>,
}

/// Why there is no response to be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The backend has no endpoints, or is not known.
    NoEndpoints,
    /// The last try failed.
    Try(Trouble),
    /// `timeouts.request` passed.
    RequestTimeout,
    /// The client broke the rules inside its body.
    Refused(Refusal),
}

impl Failure {
    /// The answer's status.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::NoEndpoints | Self::Try(Trouble::Connect(_) | Trouble::Unsent | Trouble::NotProcessed) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Try(Trouble::Stale | Trouble::Closed | Trouble::Broken | Trouble::Status) => StatusCode::BAD_GATEWAY,
            Self::Try(Trouble::TimedOut) | Self::RequestTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Try(Trouble::Client) => StatusCode::BAD_REQUEST,
            Self::Refused(refusal) => refusal.status(),
        }
    }

    /// The stable reason.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.as_str(),
            _ => self.flag().as_str(),
        }
    }

    /// What the record is flagged with.
    pub(crate) fn flag(self) -> Flag {
        match self {
            Self::NoEndpoints => Flag::NoEndpoints,
            Self::Try(trouble) => trouble.flag(),
            Self::RequestTimeout => Flag::RequestTimeout,
            Self::Refused(_) => Flag::ClientBodyFailure,
        }
    }
}

/// A request and what is needed to send it, as often as it takes.
pub(crate) struct Exchange<'a> {
    /// The worker.
    pub(crate) worker: &'a Rc<Worker>,
    /// Where to.
    pub(crate) backend: &'a Backend,
    /// Whose limits.
    pub(crate) rule: &'a LinkedRule,
    /// The body.
    pub(crate) source: &'a Source,
    /// The head.
    pub(crate) head: http::request::Parts,
    /// False once it was sent in a way that allows no other try.
    pub(crate) is_repeatable: bool,
}

impl Exchange<'_> {
    /// Sends the request, within the rule's limits.
    pub(crate) async fn run(mut self, record: &mut Record) -> Result<Received, Failure> {
        let deadline = self.rule.timeouts.request.map(|limit| record.began() + limit);
        let received = match deadline {
            None => self.tries(record).await,
            Some(at) => {
                let tries = self.tries(record);
                tokio::time::timeout_at(at.into(), tries).await.unwrap_or(Err(Failure::RequestTimeout))
            }
        };
        self.source.stop_keeping();
        let mut received = received?;
        if let Some(at) = deadline
            && received.deadline.is_none_or(|(sooner, _)| at < sooner)
        {
            received.deadline = Some((at, Flag::RequestTimeout));
        }
        Ok(received)
    }

    async fn tries(&mut self, record: &mut Record) -> Result<Received, Failure> {
        let options = &self.worker.upstreams.options;
        let mut tries = Tries::new(self.rule.retry.as_deref(), options.retry_backoff);
        let mut tried: SmallVec<[SocketAddr; 4]> = SmallVec::new();
        loop {
            let endpoints = self.backend.endpoints(&self.worker.upstreams.resolver).await;
            let picker = Picker { tried: &tried, failure_memory: options.failure_memory };
            let picked = picker.pick(&endpoints, &mut self.worker.upstreams.random.borrow_mut()).cloned();
            let Some(endpoint) = picked else { return Err(Failure::NoEndpoints) };
            record.set_endpoint(&endpoint);
            let trouble = match self.one_try(OpenRequest::new(endpoint.clone()), &tries).await {
                Ok(received) => {
                    endpoint.mark_reached();
                    match self.pass_on(received, &tries, record) {
                        Ok(received) => return Ok(received),
                        Err(trouble) => trouble,
                    }
                }
                Err(trouble) => trouble,
            };
            if matches!(trouble, Trouble::Connect(ConnectError::Timeout | ConnectError::Failed(_)) | Trouble::Closed) {
                endpoint.mark_failed();
            }
            self.count(trouble);
            if !matches!(trouble, Trouble::Unsent | Trouble::Stale) {
                tried.push(endpoint.address);
            }
            drop(endpoint);
            let picker = Picker { tried: &tried, failure_memory: options.failure_memory };
            let next = tries.next(trouble, self.circumstances(picker.has_untried(&endpoints)), &mut self.random());
            self.prepare(next, trouble, record).await?;
        }
    }

    /// Connects, sends, and waits for the head of the response.
    async fn one_try(&mut self, open: OpenRequest, tries: &Tries<'_>) -> Result<Received, Trouble> {
        let Some(limit) = self.rule.timeouts.backend_request else {
            return self.send(open, tries, None).await;
        };
        let at = Instant::now() + limit;
        let sent = self.send(open, tries, Some((at, Flag::UpstreamTimeout)));
        tokio::time::timeout_at(at.into(), sent).await.unwrap_or(Err(Trouble::TimedOut))
    }

    async fn send(
        &mut self,
        open: OpenRequest,
        tries: &Tries<'_>,
        deadline: Option<(Instant, Flag)>,
    ) -> Result<Received, Trouble> {
        let mut lease = Lease::take(self.worker, open, tries.fresh).await.map_err(Trouble::Connect)?;
        let is_idempotent = is_idempotent(&self.head.method);
        if lease.is_reused && !is_idempotent {
            // Such a request cannot be repeated once it is sent, so the peer's closing is given a chance to be noticed first.
            tokio::task::yield_now().await;
            if lease.is_closed() {
                return Err(Trouble::Unsent);
            }
        }
        self.is_repeatable = tries.has_stanza() || lease.is_reused || is_idempotent;
        match lease.send(&self.head, self.source.next_try()).await {
            Ok(head) => Ok(Received { head, lease, deadline }),
            Err(ExchangeError::Unsent) => {
                self.is_repeatable = true;
                Err(Trouble::Unsent)
            }
            Err(_) if self.source.has_failed() => Err(Trouble::Client),
            Err(ExchangeError::Http1(error)) => Err(Self::classify_http1(&error, lease.is_reused)),
            Err(ExchangeError::Http2(error)) => Err(Self::classify_http2(&error, lease.is_reused)),
        }
    }

    fn classify_http1(error: &http1::Error, is_reused: bool) -> Trouble {
        use http1::Error::{Closed, Incomplete, Io, Malformed, RequestBody, RequestLength, Unsent};
        match error {
            Unsent => Trouble::Unsent,
            Closed if is_reused => Trouble::Stale,
            Io(error) if is_reused && error.kind() != std::io::ErrorKind::TimedOut => Trouble::Stale,
            Closed => Trouble::Closed,
            Io(error) if error.kind() != std::io::ErrorKind::TimedOut => Trouble::Closed,
            Io(_) | Incomplete | Malformed(_) | RequestBody(_) | RequestLength => Trouble::Broken,
        }
    }

    fn classify_http2(error: &hyper::Error, is_reused: bool) -> Trouble {
        let cause = error.source();
        if let Some(error) = cause.and_then(|cause| cause.downcast_ref::<h2::Error>()) {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return match refused || (error.is_go_away() && error.is_remote()) {
                true => Trouble::NotProcessed,
                false => Trouble::Broken,
            };
        }
        let io = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
        let is_closed = error.is_incomplete_message() || error.is_canceled() || error.is_closed();
        match is_closed || io.is_some_and(|io| io.kind() != std::io::ErrorKind::TimedOut) {
            true if is_reused => Trouble::Stale,
            true => Trouble::Closed,
            false => Trouble::Broken,
        }
    }

    /// The response, unless the route wants another try.
    fn pass_on(&self, received: Received, tries: &Tries<'_>, record: &mut Record) -> Result<Received, Trouble> {
        let status = received.head.status.as_u16();
        let listed = tries.covers(status) || (tries.has_stanza() && is_grpc_unavailable(&received.head.headers));
        if !listed {
            return Ok(received);
        }
        if !tries.may_retry() {
            record.flag(Flag::RetryLimitReached);
            return Ok(received);
        }
        if !self.is_repeatable || !self.source.can_repeat() {
            record.flag(Flag::RetryBufferExceeded);
            return Ok(received);
        }
        let worker = self.worker.clone();
        tokio::task::spawn_local(async move {
            let _ = tokio::time::timeout(DRAIN, drain(&worker, received.lease)).await;
        });
        Err(Trouble::Status)
    }

    fn circumstances(&self, has_untried: bool) -> Circumstances {
        Circumstances {
            can_repeat: self.is_repeatable && self.source.can_repeat(),
            has_untried,
            is_idempotent: is_idempotent(&self.head.method),
        }
    }

    /// Waits until the next try may begin, or says why there is none.
    async fn prepare(&self, next: Next, trouble: Trouble, record: &mut Record) -> Result<(), Failure> {
        match next {
            Next::Now => {}
            Next::After(pause) => tokio::time::sleep(pause).await,
            Next::End { exhausted } => {
                if exhausted {
                    record.flag(Flag::RetryLimitReached);
                } else if self.source.is_beyond_limit() {
                    record.flag(Flag::RetryBufferExceeded);
                }
                return Err(match self.source.refusal() {
                    Some(refusal) if trouble == Trouble::Client => Failure::Refused(refusal),
                    _ => Failure::Try(trouble),
                });
            }
        }
        record.flag(Flag::Retried);
        self.worker.telemetry.retried(trouble.as_str());
        Ok(())
    }

    fn count(&self, trouble: Trouble) {
        if !matches!(trouble, Trouble::Status | Trouble::Client) {
            self.worker.telemetry.upstream_failed(self.backend.key(), trouble.as_str());
        }
    }

    fn random(&self) -> std::cell::RefMut<'_, fastrand::Rng> {
        self.worker.upstreams.random.borrow_mut()
    }
}

/// A response of headers alone that says that the request was not processed (grpc-status 14).
fn is_grpc_unavailable(headers: &HeaderMap) -> bool {
    headers.get("grpc-status").is_some_and(|status| status == "14")
}
