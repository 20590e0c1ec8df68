//! The limits and clocks of a connection.

use std::time::Duration;

use http::uri::Scheme;

/// The limits and clocks of a connection. The defaults are the gateway's.
#[derive(Debug, Clone)]
pub struct Options {
    /// The scheme of the requests' URIs: what the listener speaks. An absolute request target must have the same.
    pub scheme: Scheme,
    /// Bytes of a whole head, with its line ends. At most 2^32-1.
    pub max_head_bytes: usize,
    /// Bytes of one line of the head, without its end.
    pub max_line_bytes: usize,
    /// Field lines of a head, and of a trailer section.
    pub max_fields: usize,
    /// Bytes of a trailer section, with its line ends.
    pub max_trailer_bytes: usize,
    /// Digits of a chunk size.
    pub max_chunk_digits: usize,
    /// What becomes of fields with an underscore in their name, which some servers behind us read as a hyphen.
    pub underscores: UnderscorePolicy,
    /// From the first byte of a head to its last, and from the start of a connection to the first byte of its first head.
    pub header_timeout: Duration,
    /// Without a request.
    pub idle_timeout: Duration,
    /// Without a byte of a body that is being waited for.
    pub body_idle_timeout: Duration,
    /// The slowest that a body may arrive, counted only while it is waited for.
    pub body_rate: Option<BodyRate>,
    /// Without a byte of a response being taken by the client.
    pub write_stall_timeout: Duration,
    /// How long a connection that is closed after a refusal or before the request's end is still read, so that the client
    /// gets the answer and not a reset; also the time for a body that nobody wants.
    pub linger: Duration,
    /// Bytes of a body that nobody wants which are read so that the connection can be kept.
    pub max_discard_bytes: u64,
    /// How long an idle connection of a draining listener waits for one last request, which then is answered with
    /// `Connection: close`. Zero closes at once.
    pub idle_drain: Duration,
}

/// What becomes of fields with an underscore in their name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnderscorePolicy {
    /// The field is left out; the request says how many were ([`DroppedFields`](super::DroppedFields)).
    #[default]
    Drop,
    /// The request is refused.
    Refuse,
    /// The field is like any other.
    Allow,
}

/// The slowest that a body may arrive: it may be waited for `grace` in all, and a second longer for each `bytes_per_second`
/// bytes that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyRate {
    /// Time that is always given.
    pub grace: Duration,
    /// Bytes per second.
    pub bytes_per_second: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            scheme: Scheme::HTTP,
            max_head_bytes: 32 * 1024,
            max_line_bytes: 8 * 1024,
            max_fields: 128,
            max_trailer_bytes: 8 * 1024,
            max_chunk_digits: 16,
            underscores: UnderscorePolicy::Drop,
            header_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(75),
            body_idle_timeout: Duration::from_secs(60),
            body_rate: Some(BodyRate { grace: Duration::from_secs(30), bytes_per_second: 240 }),
            write_stall_timeout: Duration::from_secs(60),
            linger: Duration::from_secs(2),
            max_discard_bytes: 64 * 1024,
            idle_drain: Duration::ZERO,
        }
    }
}
