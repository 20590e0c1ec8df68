//! RequestMirror: copies of requests to another backend, whose answers are ignored.
//!
//! In flow a request's head and, frame by frame, its body. Out flows one request to one endpoint, at the same time as the
//! request itself, which never waits for it: a copy whose buffer is full is dropped and counted, and so is one beyond the
//! number of copies that may be under way.

use crate::record::Record;
use crate::route::NO_BACKEND;
use crate::telemetry::MirrorOutcome;
use crate::upstream::balance::Picker;
use crate::upstream::endpoints::{Backend, OpenRequest};
use crate::upstream::pool::Lease;
use crate::upstream::request_body::{RequestBody, SendError, Source};
use crate::upstream::shape;
use crate::worker::Worker;
use bytes::Bytes;
use http_body::{Body as _, Frame};
use portcullis_decide::{Forward, LinkedMirror};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;

/// Bytes of a mirror's response that are read so that its connection can be used again.
const DRAINED: u64 = 256 * 1024;

/// Sends the copies that the filters ask for. `head` is the request before its filters; copies are what the rule's filters
/// make of it, without those of the backend that was chosen.
pub(crate) fn send_copies(
    worker: &Rc<Worker>,
    record: &Record,
    forward: &Forward,
    choice: usize,
    head: &http::request::Parts,
    source: &Source,
) {
    for mirror in forward.mirrors(choice).filter(|mirror| is_drawn(worker, mirror)) {
        let mut head = head.clone();
        let edited = forward.edit_request(NO_BACKEND, &mut head);
        match (worker.upstreams.backends.find(record.gateway(), &mirror.target), edited) {
            (Some(backend), Ok(())) => send_copy(worker, backend, head, source),
            _ => worker.telemetry.mirrored(MirrorOutcome::Failed),
        }
    }
}

fn is_drawn(worker: &Worker, mirror: &LinkedMirror) -> bool {
    let (share, of) = (mirror.fraction.numerator, mirror.fraction.denominator.get());
    share >= of || worker.upstreams.random.borrow_mut().u32(..of) < share
}

fn send_copy(worker: &Rc<Worker>, backend: Rc<Backend>, mut head: http::request::Parts, source: &Source) {
    let Some(place) = Place::take(worker) else {
        worker.telemetry.mirrored(MirrorOutcome::Dropped);
        return;
    };
    let dropped = Rc::new(Notify::new());
    let body = match source.is_empty() {
        true => RequestBody::Empty,
        false => {
            let (copier, body) = copy(worker.upstreams.options.mirror_buffer, dropped.clone());
            source.copy_to(copier);
            RequestBody::Copy(body)
        }
    };
    shape::for_protocol(&mut head, backend.protocol(), !source.is_empty(), None);
    let worker = worker.clone();
    tokio::task::spawn_local(async move {
        let outcome = tokio::select! {
            biased;
            // First, because the exchange fails of it too, unless the backend does not read: then the body is not looked at.
            () = dropped.notified() => MirrorOutcome::Dropped,
            outcome = exchange(&worker, &backend, &head, body) => outcome,
            () = tokio::time::sleep(worker.upstreams.options.mirror_timeout) => MirrorOutcome::Failed,
        };
        worker.telemetry.mirrored(outcome);
        drop(place);
    });
}

async fn exchange(
    worker: &Rc<Worker>,
    backend: &Backend,
    head: &http::request::Parts,
    body: RequestBody,
) -> MirrorOutcome {
    let endpoints = backend.endpoints(&worker.upstreams.resolver).await;
    let picker = Picker { tried: &[], failure_memory: worker.upstreams.options.failure_memory };
    let picked = picker.pick(&endpoints, &mut worker.upstreams.random.borrow_mut()).cloned();
    let Some(endpoint) = picked else { return MirrorOutcome::Failed };
    // A body cannot be repeated, so it does not go on a connection that may have been closed.
    let fresh = !body.is_end_stream();
    let Ok(mut lease) = Lease::take(worker, OpenRequest::new(endpoint), fresh).await else {
        return MirrorOutcome::Failed;
    };
    if lease.send(head, body).await.is_err() {
        return MirrorOutcome::Failed;
    }
    drain(worker, lease).await;
    MirrorOutcome::Sent
}

/// Reads a response that nobody wants, if it is short, so that its connection can be used again.
pub(crate) async fn drain(worker: &Worker, mut lease: Lease) {
    let mut bytes = 0;
    while let Some(frame) = poll_fn(|context| lease.poll_frame(context)).await {
        let Ok(frame) = frame else { return };
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        if bytes > DRAINED {
            return;
        }
    }
    lease.give_back(worker);
}

/// One of the copies that may be under way on this worker.
struct Place(Rc<Worker>);

impl Place {
    fn take(worker: &Rc<Worker>) -> Option<Self> {
        let open = &worker.upstreams.mirrors;
        if open.get() >= worker.upstreams.options.max_mirrors {
            return None;
        }
        open.set(open.get() + 1);
        Some(Self(worker.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = &self.0.upstreams.mirrors;
        open.set(open.get().saturating_sub(1));
    }
}

/// A bounded queue of frames: what the request pushes, and what the copy reads.
fn copy(limit: usize, dropped: Rc<Notify>) -> (Copier, CopyBody) {
    let queue = Rc::new(RefCell::new(Queue { limit, dropped, ..Queue::default() }));
    (Copier(queue.clone()), CopyBody(queue))
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Copied>,
    bytes: usize,
    limit: usize,
    state: QueueState,
    waker: Option<Waker>,
    /// Told when the copy is dropped.
    dropped: Rc<Notify>,
}

enum Copied {
    Data(Bytes),
    Trailers(http::HeaderMap),
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum QueueState {
    #[default]
    Open,
    Ended,
    /// Fell behind, or the request itself ended before its end.
    Dropped,
    /// Nobody reads.
    Closed,
}

/// The request's end of a queue. Dropping it before the end drops the copy.
pub(crate) struct Copier(Rc<RefCell<Queue>>);

impl Copier {
    /// Copies a frame, unless the copy fell behind.
    pub(crate) fn push(&self, frame: &Frame<Bytes>) {
        let mut queue = self.0.borrow_mut();
        if queue.state != QueueState::Open {
            return;
        }
        let (copied, length) = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => (Copied::Data(data.clone()), data.len()),
            (None, Some(trailers)) => (Copied::Trailers(trailers.clone()), 0),
            (None, None) => return,
        };
        if queue.bytes + length > queue.limit && !queue.frames.is_empty() {
            queue.finish(QueueState::Dropped);
            return;
        }
        queue.bytes += length;
        queue.frames.push_back(copied);
        queue.wake();
    }

    /// The request's body is complete.
    pub(crate) fn end(self) {
        let mut queue = self.0.borrow_mut();
        if queue.state == QueueState::Open {
            queue.state = QueueState::Ended;
            queue.wake();
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        let mut queue = self.0.borrow_mut();
        if queue.state == QueueState::Open {
            queue.finish(QueueState::Dropped);
        }
    }
}

impl Queue {
    fn finish(&mut self, state: QueueState) {
        self.state = state;
        self.frames.clear();
        self.bytes = 0;
        if state == QueueState::Dropped {
            self.dropped.notify_one();
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The copy's end of a queue.
pub(crate) struct CopyBody(Rc<RefCell<Queue>>);

impl CopyBody {
    /// The next frame.
    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        let mut queue = self.0.borrow_mut();
        match queue.frames.pop_front() {
            Some(Copied::Data(data)) => {
                queue.bytes = queue.bytes.saturating_sub(data.len());
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            Some(Copied::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            None => {}
        }
        match queue.state {
            QueueState::Open => {
                queue.waker = Some(context.waker().clone());
                Poll::Pending
            }
            QueueState::Ended | QueueState::Closed => Poll::Ready(None),
            QueueState::Dropped => Poll::Ready(Some(Err(SendError::Dropped))),
        }
    }

    /// Whether nothing more comes.
    pub(crate) fn is_end_stream(&self) -> bool {
        let queue = self.0.borrow();
        queue.state == QueueState::Ended && queue.frames.is_empty()
    }
}

impl Drop for CopyBody {
    fn drop(&mut self) {
        self.0.borrow_mut().finish(QueueState::Closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    fn next(body: &mut CopyBody) -> Poll<Option<Result<Bytes, SendError>>> {
        let frame = body.poll_frame(&mut Context::from_waker(Waker::noop()));
        frame.map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap())))
    }

    #[test]
    fn frames_come_in_order_and_end() {
        let (copier, mut body) = copy(8, Rc::default());
        assert_eq!(next(&mut body), Poll::Pending);
        copier.push(&data("one"));
        copier.push(&data("two"));
        copier.end();
        assert_eq!(next(&mut body), Poll::Ready(Some(Ok("one".into()))));
        assert!(!body.is_end_stream());
        assert_eq!(next(&mut body), Poll::Ready(Some(Ok("two".into()))));
        assert!(body.is_end_stream());
        assert_eq!(next(&mut body), Poll::Ready(None));
    }

    #[test]
    fn a_copy_that_falls_behind_is_dropped_as_a_whole() {
        let (copier, mut body) = copy(8, Rc::default());
        copier.push(&data("a frame larger than the limit goes when nothing waits"));
        assert!(matches!(next(&mut body), Poll::Ready(Some(Ok(_)))));
        copier.push(&data("12345678"));
        copier.push(&data("9"));
        assert_eq!(next(&mut body), Poll::Ready(Some(Err(SendError::Dropped))));
    }

    #[test]
    fn a_request_that_breaks_off_takes_its_copy_along() {
        let (copier, mut body) = copy(8, Rc::default());
        copier.push(&data("half"));
        drop(copier);
        assert_eq!(next(&mut body), Poll::Ready(Some(Err(SendError::Dropped))));
        let (copier, body) = copy(8, Rc::default());
        drop(body);
        copier.push(&data("nobody reads"));
        assert!(copier.0.borrow().frames.is_empty());
    }
}
