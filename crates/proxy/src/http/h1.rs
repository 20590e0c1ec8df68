//! HTTP/1.1 towards clients: our own strict connection.
//!
//! In: a transport whose TLS, if any, is done, and a [`Service`]. Out: for each request that is unambiguous a call of the
//! service, for each that is not an answer with the reason, and how the connection ended. [`sniff`] tells before whether a
//! cleartext connection speaks HTTP/2.
//!
//! | module | what it does |
//! |---|---|
//! | `head` | bytes → [`Head`] or [`Refusal`]; pure |
//! | `chunk` | the chunked coding, both ways; pure |
//! | `response` | framing and bytes of the response head; pure |
//! | `transport`, `output` | what connection and request body share: the transport, read-ahead, bytes to write |
//! | `body` | [`RequestBody`], read as it is asked for, 100 (Continue) when it first is |
//! | `connection` | one request after the other: [`serve()`] |
//!
//! # Nothing is repaired
//! What RFC 9112 lets a recipient mend is refused ([`Refusal`] has the whole list), and after a refusal nothing that the client
//! sent is looked at again: it gets the answer, `Connection: close`, and a close that waits for it. Choices that the RFC
//! leaves open:
//! - One empty line (CR LF) before a request line is skipped, a second one refused.
//! - The request target is in origin-form; in absolute-form with the listener's scheme and the very authority of Host; `*`
//!   with OPTIONS. CONNECT is 501. Bytes that no target may hold are refused; `[ ] \ ^ { | }` and the backtick, which
//!   browsers send, are left to the path's normal form.
//! - Host is there once, in HTTP/1.0 too: a host name of letters, digits, `-`, `_` and points, or an address, and a port that is
//!   neither empty nor 0.
//! - Content-Length is there once and is digits alone; Transfer-Encoding is there once and is `chunked` (in any case); both, or
//!   the latter in HTTP/1.0, are refused. Chunk extensions are refused.
//! - Field values may hold tabs and bytes from 0x80 (passed on as they are), no other control characters.
//! - Trailer fields that frame, route or authorise are refused.
//! - Connection may not name a field that is meant for the recipient. What else it names is taken out.
//! - Upgrade to HTTP/2 or TLS is not offered: the field is ignored. An upgrade request with a body is refused.
//!
//! # What it costs
//! A small request is one read and one write. An idle connection holds no buffers: reads go through a buffer of the thread's,
//! write buffers are handed on, and what a request needs is on the heap until it is over. Header values are slices of what
//! was read. Everything runs in the connection's task, on one thread.
//!
//! # Full duplex
//! A response may begin and end before the request's body does. What nobody read of it is discarded up to
//! [`Options::max_discard_bytes`] within [`Options::linger`]; beyond that the connection closes. While a request has no body
//! left, the client is watched: if it closes, the service's future is dropped.

mod body;
mod chunk;
mod connection;
pub mod fuzz;
mod head;
mod options;
mod output;
mod preface;
mod refusal;
mod response;
mod service;
mod timer;
mod transport;
mod upgrade;

pub(crate) use chunk::{is_forbidden_trailer, write_end};
pub(crate) use head::content_length;
pub(in crate::http) use head::{is_authority, is_target};
pub(crate) use output::Output;
pub(crate) use response::write_field;
pub(crate) use transport::poll_read_scratch;

pub use body::{BodyError, RequestBody};
pub use chunk::{ChunkDecoder, Decoded};
pub use connection::{Ended, Outcome, serve};
pub use head::{BodyFraming, Head, HeadParser};
pub use options::{BodyRate, Options, UnderscorePolicy};
pub use preface::{HTTP2_PREFACE, Protocol, Rewound, sniff};
pub use refusal::Refusal;
pub use service::{DroppedFields, Refused, Reply, RequestEnd, RequestSummary, Service, ServiceFn, service_fn};
pub use upgrade::{UpgradeHandler, Upgraded};
