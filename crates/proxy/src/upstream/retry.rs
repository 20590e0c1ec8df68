//! When a request is tried again (GEP-1731).
//!
//! In flows what became of a try; out flows whether there is another one, and when. A route's `retry` stanza is consent to
//! repeat any method: after the listed codes, after `timeouts.backendRequest`, and whenever the backend did not process the
//! request. Without one, only what cannot do harm is repeated: a request of which nothing was sent goes to another endpoint
//! (twice at most), and one whose connection was closed without a byte of a response is sent once more on a fresh one if its
//! method is idempotent (RFC 9110 section 9.2.2). So backends can restart without a failed request, as long as one is left.

use super::connect::ConnectError;
use crate::record::Flag;
use http::Method;
use portcullis_model::Retry;
use std::time::Duration;

/// How often a request of which nothing was sent goes to another endpoint, beside the route's attempts.
const MOVES: u32 = 2;

/// Longest interval between tries, as a multiple of the base interval.
const LONGEST: u32 = 8;

/// What became of a try that did not bring a response to be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// No connection; nothing was sent.
    Connect(ConnectError),
    /// The connection was closed before anything was sent.
    Unsent,
    /// HTTP/2: the backend says that it did not process the request (REFUSED_STREAM, GOAWAY).
    NotProcessed,
    /// A connection used before was closed, without a byte of a response: perhaps before it had the request.
    Stale,
    /// The same of a fresh connection.
    Closed,
    /// The connection failed while the backend had the request.
    Broken,
    /// The try took too long.
    TimedOut,
    /// A response with a status that the route lists, or gRPC's UNAVAILABLE.
    Status,
    /// The client's own body failed.
    Client,
}

impl Trouble {
    /// The stable text for metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Connect(ConnectError::Timeout) => "ConnectTimeout",
            Self::Connect(ConnectError::Failed(_)) => "ConnectFailure",
            Self::Connect(ConnectError::TooMany) => "Overflow",
            Self::Connect(ConnectError::Forbidden(_)) => "Forbidden",
            Self::Unsent => "Unsent",
            Self::NotProcessed => "NotProcessed",
            Self::Stale => "StaleConnection",
            Self::Closed => "ConnectionClosed",
            Self::Broken => "ConnectionFailure",
            Self::TimedOut => "Timeout",
            Self::Status => "Status",
            Self::Client => "ClientBody",
        }
    }

    /// What the record is flagged with when this is the end.
    pub(crate) fn flag(self) -> Flag {
        match self {
            Self::Connect(ConnectError::TooMany) => Flag::UpstreamOverflow,
            Self::Connect(_) | Self::Unsent => Flag::UpstreamConnectFailure,
            Self::NotProcessed | Self::Stale | Self::Closed | Self::Broken | Self::Status => Flag::UpstreamFailure,
            Self::TimedOut => Flag::UpstreamTimeout,
            Self::Client => Flag::ClientBodyFailure,
        }
    }
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another try, at once.
    Now,
    /// Another try, after a pause.
    After(Duration),
    /// No other try. `exhausted` says that the route's attempts are used up.
    End {
        /// Whether there would have been another one with more attempts.
        exhausted: bool,
    },
}

/// What is known of a request when a try has failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// Whether its head and body can be sent again. (Always, when nothing was sent.)
    pub(crate) can_repeat: bool,
    /// Whether an endpoint is left that was not tried.
    pub(crate) has_untried: bool,
    /// Whether its method is idempotent (RFC 9110 section 9.2.2).
    pub(crate) is_idempotent: bool,
}

/// The tries of one request.
pub(crate) struct Tries<'a> {
    retry: Option<&'a Retry>,
    base: Duration,
    left: u32,
    moves_left: u32,
    pauses: u32,
    /// From now on, on connections that were not used before.
    pub(crate) fresh: bool,
}

impl<'a> Tries<'a> {
    /// Before the first.
    pub(crate) fn new(retry: Option<&'a Retry>, default_backoff: Duration) -> Self {
        Self {
            retry,
            base: retry.and_then(|retry| retry.backoff).unwrap_or(default_backoff),
            left: retry.map_or(0, |retry| retry.attempts),
            moves_left: MOVES,
            pauses: 0,
            fresh: false,
        }
    }

    /// Whether the route may ask for another try after a response or a timeout.
    pub(crate) fn may_retry(&self) -> bool {
        self.left > 0
    }

    /// Whether a response with this status is to be tried again, as far as the route is concerned.
    pub(crate) fn covers(&self, status: u16) -> bool {
        self.retry.is_some_and(|retry| retry.codes.contains(&status))
    }

    /// Whether the route has a stanza.
    pub(crate) fn has_stanza(&self) -> bool {
        self.retry.is_some()
    }

    /// Decides what comes after a try.
    pub(crate) fn next(&mut self, trouble: Trouble, known: Circumstances, random: &mut fastrand::Rng) -> Next {
        let is_free = match trouble {
            Trouble::Connect(_) | Trouble::Unsent if self.moves_left > 0 && known.has_untried => {
                self.moves_left -= 1;
                true
            }
            Trouble::Unsent | Trouble::NotProcessed => known.can_repeat && !self.fresh,
            Trouble::Stale | Trouble::Closed => known.can_repeat && known.is_idempotent && !self.fresh,
            _ => false,
        };
        if is_free {
            // A connection that was closed meanwhile has siblings that were, too.
            self.fresh |= !matches!(trouble, Trouble::Connect(_));
            return Next::Now;
        }
        let by_route = match trouble {
            Trouble::Connect(_) => true,
            Trouble::Unsent | Trouble::NotProcessed | Trouble::TimedOut | Trouble::Status => known.can_repeat,
            Trouble::Stale | Trouble::Closed | Trouble::Broken | Trouble::Client => false,
        };
        if !by_route || self.left == 0 {
            return Next::End { exhausted: by_route && self.retry.is_some() };
        }
        self.left -= 1;
        Next::After(self.pause(random))
    }

    /// At least the base interval, doubled each time, and up to half of it more, so that tries do not come in waves.
    fn pause(&mut self, random: &mut fastrand::Rng) -> Duration {
        let interval = self.base.saturating_mul(1u32.checked_shl(self.pauses).unwrap_or(LONGEST).min(LONGEST));
        self.pauses += 1;
        interval.saturating_add(interval.mul_f64(random.f64() / 2.0))
    }
}

/// RFC 9110 section 9.2.2.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    const REFUSED: Trouble = Trouble::Connect(ConnectError::Failed(ErrorKind::ConnectionRefused));
    const EASY: Circumstances = Circumstances { can_repeat: true, has_untried: false, is_idempotent: true };
    const POST: Circumstances = Circumstances { is_idempotent: false, ..EASY };
    const OTHERS: Circumstances = Circumstances { has_untried: true, ..EASY };
    const END: Next = Next::End { exhausted: false };

    fn retry(attempts: u32) -> Retry {
        Retry { codes: vec![500, 503], attempts, backoff: Some(Duration::from_millis(100)) }
    }

    fn tries<'a>(retry: Option<&'a Retry>) -> Tries<'a> {
        Tries::new(retry, Duration::from_millis(25))
    }

    fn next(tries: &mut Tries<'_>, trouble: Trouble, known: Circumstances) -> Next {
        tries.next(trouble, known, &mut fastrand::Rng::with_seed(1))
    }

    #[test]
    fn without_a_stanza_only_what_does_no_harm_is_repeated() {
        for (trouble, known, first) in [
            (REFUSED, EASY, END),
            (REFUSED, OTHERS, Next::Now),
            (Trouble::Unsent, EASY, Next::Now),
            (Trouble::NotProcessed, POST, Next::Now),
            (Trouble::Stale, EASY, Next::Now),
            (Trouble::Stale, POST, END),
            (Trouble::Closed, EASY, Next::Now),
            (Trouble::Closed, POST, END),
            (Trouble::Stale, Circumstances { can_repeat: false, ..EASY }, END),
            (Trouble::Broken, EASY, END),
            (Trouble::TimedOut, EASY, END),
            (Trouble::Status, EASY, END),
            (Trouble::Client, EASY, END),
        ] {
            assert_eq!(next(&mut tries(None), trouble, known), first, "{trouble:?} {known:?}");
        }
    }

    #[test]
    fn free_tries_are_bounded() {
        let mut refused = tries(None);
        let all: Vec<_> = (0..4).map(|_| next(&mut refused, REFUSED, OTHERS)).collect();
        assert_eq!(all, [Next::Now, Next::Now, END, END]);
        let mut stale = tries(None);
        assert_eq!(next(&mut stale, Trouble::Stale, EASY), Next::Now);
        assert!(stale.fresh);
        assert_eq!(next(&mut stale, Trouble::Stale, EASY), END);
    }

    #[test]
    fn a_stanza_repeats_any_method_as_often_as_it_says() {
        for trouble in [REFUSED, Trouble::TimedOut, Trouble::Status] {
            let stanza = retry(2);
            let mut tries = tries(Some(&stanza));
            let mut pauses = Vec::new();
            while let Next::After(pause) = next(&mut tries, trouble, POST) {
                pauses.push(pause.as_millis());
            }
            assert_eq!(pauses.len(), 2, "{trouble:?}");
            assert!((100..=150).contains(&pauses[0]) && (200..=300).contains(&pauses[1]), "{pauses:?}");
            assert_eq!(next(&mut tries, trouble, POST), Next::End { exhausted: true });
        }
        let stanza = retry(2);
        assert_eq!(next(&mut tries(Some(&stanza)), Trouble::Broken, EASY), END, "the backend may have done its work");
        let large = Circumstances { can_repeat: false, ..EASY };
        assert_eq!(next(&mut tries(Some(&stanza)), Trouble::Status, large), END);
        assert!(tries(Some(&stanza)).covers(503) && !tries(Some(&stanza)).covers(502) && !tries(None).covers(503));
    }

    #[test]
    fn pauses_stop_growing() {
        let stanza = retry(100);
        let mut tries = tries(Some(&stanza));
        for _ in 0..100 {
            let Next::After(pause) = next(&mut tries, Trouble::Status, EASY) else { panic!("attempts are left") };
            assert!(pause <= Duration::from_millis(1200));
        }
    }
}
