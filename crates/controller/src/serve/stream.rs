//! One config stream of one data plane.
//!
//! In flow its requests, word that its Gateway's configuration changed, and word that it must end. Out flow responses, one generation
//! at a time: while one is being sent or waits for its answer nothing else is gathered. Requests are read only when nothing waits to be
//! sent, so that a data plane cannot make memory grow by asking and not reading.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use portcullis_model::ObjectName;
use portcullis_runtime::metrics::Counter;
use portcullis_xds::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use portcullis_xds::{Refused, ServerStream, StreamEvent};
use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::{Code, Status, Streaming};

use super::hub::{Hub, Seat};
use super::picture::{Name, State};

/// How long a response may wait for a data plane that does not read.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a data plane may take to answer a generation that it has got.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Requests beyond the answers to what was sent: at once, and per second.
const REQUEST_BURST: f64 = 256.0;
const REQUESTS_PER_SECOND: f64 = 16.0;

/// Why a stream ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its Gateway is gone, not ours any more, or another one under the same name.
    Revoked,
    /// The certificate of its connection has expired.
    Expired,
    /// The data plane has a newer stream.
    Superseded,
    /// This replica stops.
    Draining,
    /// The data plane does not read.
    Stalled,
    /// The data plane does not answer.
    Unanswered,
    /// The data plane asks too often.
    TooManyRequests,
    /// A request that is not allowed.
    Refused(Refused),
    /// The data plane has ended it, or its connection broke.
    Closed,
}

impl Ending {
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Superseded => "superseded",
            Self::Draining => "draining",
            Self::Stalled => "stalled",
            Self::Unanswered => "unanswered",
            Self::TooManyRequests => "too_many_requests",
            Self::Refused(_) => "refused",
            Self::Closed => "closed",
        }
    }

    /// What the data plane is told.
    pub(super) fn status(&self) -> Status {
        let (code, message) = match self {
            Self::Revoked => (Code::PermissionDenied, "the Gateway of this certificate is not served here"),
            Self::Expired => (Code::Unauthenticated, "the certificate has expired; connect with the renewed one"),
            Self::Superseded => (Code::Aborted, "this data plane has a newer stream"),
            Self::Draining => (Code::Unavailable, "this replica stops; connect to another one"),
            Self::Stalled => (Code::DeadlineExceeded, "responses are not read"),
            Self::Unanswered => (Code::DeadlineExceeded, "responses are not answered"),
            Self::TooManyRequests => (Code::ResourceExhausted, "too many requests"),
            Self::Refused(Refused { code, message }) => return Status::new(Code::from_i32(*code), message.clone()),
            Self::Closed => (Code::Cancelled, "closed"),
        };
        Status::new(code, message)
    }
}

/// The responses of a stream, as the server of HTTP/2 takes them: one by one, when the connection has room.
pub(super) struct Responses {
    messages: mpsc::Receiver<DeltaDiscoveryResponse>,
    /// `None` when it was given out.
    end: Option<oneshot::Receiver<Status>>,
    sent_bytes: Counter,
}

impl Stream for Responses {
    type Item = Result<DeltaDiscoveryResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        // The end goes before what waits: who has lost the right gets nothing more.
        if let Poll::Ready(status) = Pin::new(end).poll(context) {
            self.end = None;
            return Poll::Ready(Some(Err(status.unwrap_or_else(|_| Status::internal("the stream broke")))));
        }
        match self.messages.poll_recv(context) {
            Poll::Ready(Some(message)) => {
                self.sent_bytes.add_shared(message.encoded_len() as u64);
                Poll::Ready(Some(Ok(message)))
            }
            // The status follows.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

/// Begins a stream; its end is in its responses.
pub(super) fn begin(
    hub: Arc<Hub>,
    seat: Seat,
    requests: Streaming<DeltaDiscoveryRequest>,
    connection: watch::Receiver<Option<Ending>>,
) -> Responses {
    let (sender, messages) = mpsc::channel(1);
    let (end, ended) = oneshot::channel();
    let sent_bytes = hub.metrics.sent_bytes.clone();
    tokio::spawn(async move {
        let ending = Driver::new(&hub, &seat, requests, sender).drive(connection).await;
        let identity = &seat.line.identity;
        tracing::debug!(gateway = %identity.gateway, pod = %identity.pod, reason = ending.label(), "a config stream ended");
        hub.metrics.ended.with([ending.label()]).add_shared(1);
        // Nobody is there to be told when the connection broke.
        let _ = end.send(ending.status());
    });
    Responses { messages, end: Some(ended), sent_bytes }
}

struct Driver<'a> {
    hub: &'a Hub,
    seat: &'a Seat,
    requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::Sender<DeltaDiscoveryResponse>,
    protocol: ServerStream,
    waiting: VecDeque<DeltaDiscoveryResponse>,
    name: Name,
    state: State,
    budget: Budget,
    /// When the generation that was sent last must have been answered.
    answer_by: Option<Instant>,
}

impl<'a> Driver<'a> {
    fn new(
        hub: &'a Hub,
        seat: &'a Seat,
        requests: Streaming<DeltaDiscoveryRequest>,
        responses: mpsc::Sender<DeltaDiscoveryResponse>,
    ) -> Self {
        let identity = &seat.line.identity;
        Self {
            hub,
            seat,
            requests,
            responses,
            protocol: ServerStream::new(identity.gateway.clone()),
            waiting: VecDeque::new(),
            name: Name { gateway: identity.gateway.clone(), pod: identity.pod.clone() },
            state: State { session: seat.line.session, ..State::default() },
            budget: Budget { left: REQUEST_BURST, at: Instant::now() },
            answer_by: None,
        }
    }

    async fn drive(mut self, mut connection: watch::Receiver<Option<Ending>>) -> Ending {
        let mut own = self.seat.line.ending.subscribe();
        let hub = self.hub;
        let (name, session) = (self.name.clone(), self.state.session);
        let work = async {
            self.hub.ready().await;
            self.hub.picture.set(self.name.clone(), self.state.clone());
            loop {
                if let Err(ending) = self.step().await {
                    return ending;
                }
            }
        };
        let ending = tokio::select! {
            biased;
            ending = told(&mut own) => ending,
            ending = told(&mut connection) => ending,
            ending = work => ending,
        };
        hub.picture.unset(&name, session);
        ending
    }

    /// Sends what waits, or takes in the next thing that happens.
    async fn step(&mut self) -> Result<(), Ending> {
        if let Some(response) = self.waiting.pop_front() {
            let sent = tokio::time::timeout(SEND_TIMEOUT, self.responses.send(response)).await;
            self.budget.earn();
            return sent.map_err(|_| Ending::Stalled)?.map_err(|_| Ending::Closed);
        }
        self.answer_by = match self.protocol.is_waiting() {
            true => self.answer_by.or_else(|| Some(Instant::now() + ANSWER_TIMEOUT)),
            false => None,
        };
        tokio::select! {
            biased;
            () = self.responses.closed() => Err(Ending::Closed),
            request = self.requests.message() => self.take_in(request),
            () = self.seat.line.changed.notified() => {
                let changed: &[ObjectName] = std::slice::from_ref(&self.name.gateway);
                let identity = &self.seat.line.identity;
                let responses = self.hub.with_catalog_of(identity, |catalog| self.protocol.on_change(changed, catalog));
                self.waiting.extend(responses.ok_or(Ending::Revoked)?);
                Ok(())
            }
            () = until(self.answer_by) => Err(Ending::Unanswered),
        }
    }

    fn take_in(&mut self, request: Result<Option<DeltaDiscoveryRequest>, Status>) -> Result<(), Ending> {
        let Ok(Some(request)) = request else { return Err(Ending::Closed) };
        if !self.budget.spend() {
            return Err(Ending::TooManyRequests);
        }
        let identity = &self.seat.line.identity;
        let step = self.hub.with_catalog_of(identity, |catalog| self.protocol.on_request(request, catalog));
        let step = step.ok_or(Ending::Revoked)?.map_err(|refused| {
            let Name { gateway, pod } = &self.name;
            if let Some(others) = self.hub.lines.next() {
                tracing::warn!(%gateway, %pod, reason = refused.message, others, "a data plane asked for what it may not");
            }
            Ending::Refused(refused)
        })?;
        self.waiting.extend(step.responses);
        if let Some(event) = step.event {
            self.answer_by = None;
            self.note(event);
        }
        Ok(())
    }

    fn note(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Acknowledged { version, gateway_generation } => {
                self.hub.metrics.acknowledged.add_shared(1);
                self.state.acknowledged = Some((gateway_generation, version));
                self.state.refused = None;
            }
            StreamEvent::Refused { version, message } => {
                self.hub.metrics.refused.add_shared(1);
                let Name { gateway, pod } = &self.name;
                let message = portcullis_runtime::escape::line(&message);
                if let Some(others) = self.hub.lines.next() {
                    tracing::warn!(%gateway, %pod, %message, others, "a data plane does not serve all of its configuration");
                }
                self.state.refused = Some((version, message.as_ref().into()));
            }
        }
        self.hub.picture.set(self.name.clone(), self.state.clone());
    }
}

/// Waits for word that it must end; for ever when nobody is left to say so.
async fn told(ending: &mut watch::Receiver<Option<Ending>>) -> Ending {
    match ending.wait_for(Option::is_some).await.map(|ending| ending.clone()) {
        Ok(Some(ending)) => ending,
        _ => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// How many requests a data plane may send: an answer to each response, and some more.
struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    fn earn(&mut self) {
        self.left = (self.left + 2.0).min(2.0 * REQUEST_BURST);
    }

    fn spend(&mut self) -> bool {
        let now = Instant::now();
        let refill = now.duration_since(self.at).as_secs_f64() * REQUESTS_PER_SECOND;
        self.at = now;
        self.left = (self.left + refill).min(2.0 * REQUEST_BURST);
        self.left -= 1.0;
        self.left >= 0.0
    }
}
