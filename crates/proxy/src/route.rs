//! What happens to a request.
//!
//! In flows a request as its connection read it. Out flows a response: the gateway's own answer, or a backend's. The order:
//! [`head::receive`] (hop-by-hop and forwarding fields) → `decide` → [`turns`] (whose turn it is among the rule's backends) →
//! filters → mirrors → [`upstream`](crate::upstream) → filters on the response.

mod answer;
mod head;
pub(crate) mod turns;

pub use head::ForwardingOptions;

use crate::body::Body;
use crate::connection::Connection;
use crate::filter::mirror;
use crate::http::Reply;
use crate::record::{Flag, Record};
use crate::upstream::endpoints::Backend;
use crate::upstream::exchange::{Exchange, Failure, Received};
use crate::upstream::pool::Lease;
use crate::upstream::request_body::Source;
use crate::upstream::response_body::ResponseBody;
use crate::upstream::retry::is_idempotent;
use crate::upstream::{shape, upgrade};
use crate::worker::Worker;
use answer::Answering;
use bytes::Bytes;
use http::header::ORIGIN;
use http::{HeaderValue, Method, Response, StatusCode};
use portcullis_decide::{Answer, Forward, Need, RequestHead, Step};
use portcullis_model::BackendProtocol;
use std::rc::Rc;

/// A place that no backend has.
pub(crate) const NO_BACKEND: usize = usize::MAX;

/// Answers a request; never fails: errors are responses.
pub(crate) async fn handle(worker: &Rc<Worker>, connection: &Rc<Connection>, request: http::Request<Body>) -> Reply {
    let (mut head, body) = request.into_parts();
    head::to_origin_form(&mut head);
    let client = head::client(worker, connection, &head);
    let mut record = Record::begin(worker, connection, &head, client);
    let upgrade = head::receive(worker, connection, &mut head, &mut record);
    let answering = Answering::new(&head);
    if head.method == Method::CONNECT {
        return answering.refuse(record, StatusCode::METHOD_NOT_ALLOWED, "ConnectRefused");
    }
    match decide(connection, &head) {
        Step::Done(answer) => answering.reply(record, answer),
        Step::Need(Need::Backend(forward)) => {
            record.set_matched(forward.matched.clone());
            record.set_path(forward.path.as_str());
            let request = Request { worker, connection, forward, head, body, upgrade, answering };
            request.forward(record).await
        }
    }
}

fn decide(connection: &Connection, head: &http::request::Parts) -> Step {
    let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let request = RequestHead {
        method: &head.method,
        host,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
    };
    connection.current().linked.request(&connection.facts(), &request)
}

/// A request that goes to a backend.
struct Request<'a> {
    worker: &'a Rc<Worker>,
    connection: &'a Rc<Connection>,
    forward: Forward,
    head: http::request::Parts,
    body: Body,
    upgrade: Option<HeaderValue>,
    answering: Answering,
}

impl Request<'_> {
    async fn forward(mut self, mut record: Record) -> Reply {
        let worker = self.worker;
        let turn = {
            let upstreams = &worker.upstreams;
            upstreams.turns.next(self.connection.gateway(), &self.forward.matched.rule, &upstreams.random)
        };
        let choice = turn.unwrap_or(NO_BACKEND);
        let origin = self.head.headers.get(ORIGIN).cloned();
        let backend = match self.forward.backend(choice) {
            Ok(key) => {
                record.set_backend(key);
                worker.upstreams.backends.find(self.connection.gateway(), key)
            }
            Err(answer) => return self.answer(record, origin.as_ref(), answer),
        };
        let Some(backend) = backend else { return self.fail(record, origin.as_ref(), Failure::NoEndpoints) };
        let source = self.source(&backend);
        mirror::send_copies(worker, &record, &self.forward, choice, &self.head, &source);
        if let Err(answer) = self.forward.edit_request(choice, &mut self.head) {
            return self.answer(record, origin.as_ref(), answer);
        }
        match self.exchange(&backend, &source, &mut record).await {
            Ok(received) => self.pass_on(choice, received, source, origin.as_ref(), record),
            Err(failure) => {
                record.set_request_bytes(source.bytes());
                self.fail(record, origin.as_ref(), failure)
            }
        }
    }

    /// What is read of the body is kept only when there may be another try. On HTTP/2 the backend may say, however late, that
    /// it did not process the request.
    fn source(&mut self, backend: &Backend) -> Source {
        let may_repeat = self.forward.matched.rule.retry.is_some()
            || is_idempotent(&self.head.method)
            || backend.protocol() == BackendProtocol::H2c;
        let limit = may_repeat.then_some(self.worker.upstreams.options.retry_buffer);
        Source::new(std::mem::take(&mut self.body), limit)
    }

    async fn exchange(&mut self, backend: &Backend, source: &Source, record: &mut Record) -> Result<Received, Failure> {
        let mut head = std::mem::replace(&mut self.head, http::Request::new(()).into_parts().0);
        shape::for_protocol(&mut head, backend.protocol(), !source.is_empty(), self.upgrade.as_ref());
        let rule = &self.forward.matched.rule;
        let exchange = Exchange { worker: self.worker, backend, rule, source, head, is_repeatable: true };
        let received = exchange.run(record).await?;
        record.set_upstream_answered();
        Ok(received)
    }

    fn pass_on(
        self,
        choice: usize,
        received: Received,
        source: Source,
        origin: Option<&HeaderValue>,
        mut record: Record,
    ) -> Reply {
        let Received { mut head, lease, deadline } = received;
        let is_switching = head.status == StatusCode::SWITCHING_PROTOCOLS;
        if is_switching && self.upgrade.is_none() {
            return self.fail(record, origin, Failure::Try(crate::upstream::retry::Trouble::Broken));
        }
        head::of_response(&mut head, is_switching);
        self.forward.edit_response(Some(choice), origin, &mut head);
        record.set_status(head.status);
        if is_switching {
            record.flag(Flag::Tunnel);
            let connection = self.connection.clone();
            let tunnel = move |client| -> futures_util::future::LocalBoxFuture<'static, ()> {
                Box::pin(upgrade::tunnel(connection, client, lease, record))
            };
            return Reply { response: Response::from_parts(head, Body::Empty), upgrade: Some(Box::new(tunnel)) };
        }
        let body = self.body_of(lease, record, source, deadline);
        Reply::from(Response::from_parts(head, body))
    }

    fn body_of(
        &self,
        mut lease: Lease,
        mut record: Record,
        source: Source,
        deadline: Option<(std::time::Instant, Flag)>,
    ) -> Body {
        let received = if lease.is_end_stream() { Some(Bytes::new()) } else { lease.take_received() };
        let Some(received) = received else {
            return Body::boxed(ResponseBody::new(lease, record, source, deadline));
        };
        record.set_request_bytes(source.bytes());
        record.add_response_bytes(received.len() as u64);
        lease.give_back(self.worker);
        Body::full(received)
    }

    fn answer(&self, record: Record, origin: Option<&HeaderValue>, mut answer: Answer) -> Reply {
        let (mut head, ()) = Response::new(()).into_parts();
        head.headers = std::mem::take(&mut answer.headers);
        self.forward.edit_response(None, origin, &mut head);
        answer.headers = head.headers;
        self.answering.reply(record, answer)
    }

    fn fail(&self, mut record: Record, origin: Option<&HeaderValue>, failure: Failure) -> Reply {
        record.flag(failure.flag());
        self.answering.fail(record, failure, |head| self.forward.edit_response(None, origin, head))
    }
}
