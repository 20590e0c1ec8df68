//! A request's body on its way to a backend.
//!
//! In flows the client's body, once. Out flow a body for each try, which first repeats what earlier tries have read (kept up
//! to a limit, beyond which no other try is possible), and copies for mirrors, which are dropped rather than waited for.

use crate::body::{Body, BodyError};
use crate::filter::mirror::{Copier, CopyBody};
use crate::http::Refusal;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use smallvec::SmallVec;
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// The client's body, shared by the tries of one request.
#[derive(Clone)]
pub(crate) struct Source(Option<Rc<RefCell<State>>>);

pub(crate) struct State {
    body: Body,
    size: SizeHint,
    /// Which try may read; those before are superseded.
    turn: u32,
    replay: Replay,
    copiers: SmallVec<[Copier; 1]>,
    bytes: u64,
    is_started: bool,
    has_ended: bool,
    failure: Option<BodyError>,
}

/// What has been read, for another try.
enum Replay {
    /// Everything so far.
    Kept { frames: Vec<Kept>, bytes: usize, limit: usize },
    /// What the last try has to repeat; nothing is added.
    Last { frames: Vec<Kept> },
    /// Nobody wants it.
    Off,
    /// It was more than the limit.
    Exceeded,
}

#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl From<Kept> for Frame<Bytes> {
    fn from(kept: Kept) -> Self {
        match kept {
            Kept::Data(data) => Self::data(data),
            Kept::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

impl Source {
    /// The body of a request. `replay_limit` of `None` keeps nothing for another try.
    pub(crate) fn new(body: Body, replay_limit: Option<usize>) -> Self {
        if body.is_end_stream() {
            return Self(None);
        }
        let replay = match replay_limit {
            Some(limit) => Replay::Kept { frames: Vec::new(), bytes: 0, limit },
            None => Replay::Off,
        };
        let size = body.size_hint();
        Self(Some(Rc::new(RefCell::new(State {
            body,
            size,
            turn: 0,
            replay,
            copiers: SmallVec::new(),
            bytes: 0,
            is_started: false,
            has_ended: false,
            failure: None,
        }))))
    }

    /// Whether there is no body.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Copies every frame from now on.
    pub(crate) fn copy_to(&self, copier: Copier) {
        if let Some(state) = &self.0 {
            state.borrow_mut().copiers.push(copier);
        }
    }

    /// The body for the next try. The one before ends with an error if it is still read.
    pub(crate) fn next_try(&self) -> RequestBody {
        let Some(state) = &self.0 else { return RequestBody::Empty };
        let turn = {
            let mut state = state.borrow_mut();
            state.turn += 1;
            state.turn
        };
        RequestBody::Client { state: state.clone(), turn, position: 0 }
    }

    /// Whether another try would see the same body.
    pub(crate) fn can_repeat(&self) -> bool {
        let Some(state) = &self.0 else { return true };
        let state = state.borrow();
        state.failure.is_none() && (!state.is_started || matches!(state.replay, Replay::Kept { .. }))
    }

    /// Whether another try is impossible because the body is larger than what is kept.
    pub(crate) fn is_beyond_limit(&self) -> bool {
        self.0.as_ref().is_some_and(|state| matches!(state.borrow().replay, Replay::Exceeded))
    }

    /// No other try will come: what was kept is freed.
    pub(crate) fn stop_keeping(&self) {
        let Some(state) = &self.0 else { return };
        let mut state = state.borrow_mut();
        let is_first = state.turn <= 1;
        if let Replay::Kept { frames, .. } = &mut state.replay {
            let frames = std::mem::take(frames);
            state.replay = if is_first { Replay::Off } else { Replay::Last { frames } };
        }
    }

    /// Whether the client's side failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.as_ref().is_some_and(|state| state.borrow().failure.is_some())
    }

    /// The rule that the client broke, if it broke one.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match self.0.as_ref()?.borrow().failure {
            Some(BodyError::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }

    /// Bytes that were read from the client.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |state| state.borrow().bytes)
    }
}

impl State {
    fn poll_client(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        self.is_started = true;
        match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => {
                self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.copiers.iter().for_each(|copier| copier.push(&frame));
                self.keep(&frame);
                // Whoever knows the length does not ask for what is behind it.
                if self.body.is_end_stream() || self.size.exact() == Some(self.bytes) {
                    self.end_copies();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.failure = Some(error);
                self.has_ended = true;
                self.copiers.clear();
                Poll::Ready(Some(Err(SendError::Client)))
            }
            None => {
                self.has_ended = true;
                self.end_copies();
                Poll::Ready(None)
            }
        }
    }

    fn end_copies(&mut self) {
        self.copiers.drain(..).for_each(Copier::end);
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let Replay::Kept { frames, bytes, limit } = &mut self.replay else { return };
        let kept = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Kept::Data(data.clone()),
            (None, Some(trailers)) => Kept::Trailers(trailers.clone()),
            (None, None) => return,
        };
        *bytes += frame.data_ref().map_or(0, Bytes::len);
        if *bytes > *limit {
            self.replay = Replay::Exceeded;
        } else {
            frames.push(kept);
        }
    }

    fn kept(&self, position: usize) -> Option<Kept> {
        match &self.replay {
            Replay::Kept { frames, .. } | Replay::Last { frames } => frames.get(position).cloned(),
            Replay::Off | Replay::Exceeded => None,
        }
    }
}

/// What hyper sends to a backend.
pub(crate) enum RequestBody {
    /// Nothing.
    Empty,
    /// The client's body, in one try.
    Client {
        /// Shared with the other tries.
        state: Rc<RefCell<State>>,
        /// Which try.
        turn: u32,
        /// The next frame to repeat.
        position: usize,
    },
    /// A copy for a mirror.
    Copy(CopyBody),
}

/// Why a body could not be sent to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// The client's side failed; [`Source::refusal`] may say why.
    #[error("the client's body failed")]
    Client,
    /// Another try has begun.
    #[error("another try has begun")]
    Superseded,
    /// A copy that fell behind.
    #[error("the copy fell behind")]
    Dropped,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Client { state, turn, position } => {
                let mut state = state.borrow_mut();
                if state.turn != *turn {
                    return Poll::Ready(Some(Err(SendError::Superseded)));
                }
                if let Some(kept) = state.kept(*position) {
                    *position += 1;
                    return Poll::Ready(Some(Ok(kept.into())));
                }
                let frame = ready!(state.poll_client(context));
                *position += 1;
                Poll::Ready(frame)
            }
            Self::Copy(body) => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client { state, position, .. } => {
                let state = state.borrow();
                let is_repeated = state.kept(*position).is_none();
                is_repeated && (state.has_ended || state.body.is_end_stream()) && state.failure.is_none()
            }
            Self::Copy(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            // Asked for when a try begins.
            Self::Client { state, .. } => state.borrow().size,
            // A Content-Length stands in the head.
            Self::Copy(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::task::Waker;

    struct Frames(VecDeque<Result<Frame<Bytes>, BodyError>>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn client(parts: &[&'static str]) -> Body {
        Body::boxed(Frames(parts.iter().map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))).collect()))
    }

    fn next(body: &mut RequestBody) -> Option<Result<String, SendError>> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => Some(Ok(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())),
            Poll::Ready(Some(Err(error))) => Some(Err(error)),
            Poll::Ready(None) => None,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    fn rest(body: &mut RequestBody) -> String {
        std::iter::from_fn(|| next(body)).collect::<Result<Vec<_>, _>>().unwrap().concat()
    }

    #[test]
    fn every_try_sees_the_whole_body() {
        let source = Source::new(client(&["one ", "two ", "three"]), Some(64));
        let mut first = source.next_try();
        assert_eq!(next(&mut first), Some(Ok("one ".to_owned())));
        assert_eq!(next(&mut first), Some(Ok("two ".to_owned())));
        assert!(source.can_repeat());
        let mut second = source.next_try();
        assert_eq!(next(&mut first), Some(Err(SendError::Superseded)));
        assert_eq!(rest(&mut second), "one two three");
        assert!(second.is_end_stream());
        let mut third = source.next_try();
        assert!(!third.is_end_stream());
        assert_eq!(rest(&mut third), "one two three");
        assert_eq!(source.bytes(), 13, "read from the client once");
    }

    #[test]
    fn beyond_the_limit_there_is_no_other_try() {
        let source = Source::new(client(&["12345678", "9"]), Some(8));
        let mut body = source.next_try();
        next(&mut body);
        assert!(source.can_repeat() && !source.is_beyond_limit());
        next(&mut body);
        assert!(!source.can_repeat() && source.is_beyond_limit());
    }

    #[test]
    fn without_a_limit_only_an_unread_body_can_be_repeated() {
        let source = Source::new(client(&["one"]), None);
        assert!(source.can_repeat());
        drop(source.next_try());
        let mut body = source.next_try();
        assert!(source.can_repeat());
        assert_eq!(rest(&mut body), "one");
        assert!(!source.can_repeat() && !source.is_beyond_limit());
    }

    #[test]
    fn the_clients_failure_is_told_apart() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"x"))), Err(BodyError::ClientClosed)];
        let source = Source::new(Body::boxed(Frames(frames.into())), Some(64));
        let mut body = source.next_try();
        next(&mut body);
        assert_eq!(next(&mut body), Some(Err(SendError::Client)));
        assert!(!source.can_repeat());
        assert!(source.has_failed() && source.refusal().is_none());
    }

    #[test]
    fn no_body_can_always_be_repeated() {
        let source = Source::new(Body::Empty, Some(64));
        assert!(source.is_empty() && source.can_repeat());
        assert!(source.next_try().is_end_stream());
    }
}
