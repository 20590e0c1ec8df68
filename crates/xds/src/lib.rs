//! The delta protocol between controller and data planes, as two state machines without I/O of their own.
//!
//! In flow, at the controller: changes of configurations ([`Catalog::publish`]) and the messages of data planes
//! ([`ServerStream`]). Out flow the messages to them, and what they acknowledged or refused. At a data plane: the controller's
//! messages ([`ClientStream`]); out flow whole changes, ready to be applied, and the answers.
//!
//! The transport is delta xDS (the `DeltaAggregatedResources` method of Envoy's `AggregatedDiscoveryService`), the resources
//! are [`portcullis_model`]'s, one for each user-visible object. A stream goes like this:
//!
//! 1. The client subscribes to each type with the one name `NAMESPACE/GATEWAY/*`, and says which versions it holds; the last
//!    subscription is that to the [`Commit`] type. Versions are hashes of content, so another replica of the controller sends
//!    nothing again.
//! 2. The server sends what differs, in responses of at most [`CHUNK_BYTES`], each of one type, and at the end a [`Commit`]. The
//!    client stages the pieces, compares the [`ConfigVersion`] of what it would then hold with the commit's, and swaps.
//! 3. The client answers the commit alone. An acknowledgement means that the proxy serves it. A refusal (`error_detail`) names
//!    what is wrong: [`proto::code::INVALID_ARGUMENT`] for a piece that cannot be read, with which nothing is swapped and the
//!    other pieces stay staged; [`proto::code::DATA_LOSS`], with a new subscription, for a version that differs: the server sends
//!    everything anew; [`proto::code::FAILED_PRECONDITION`] for a configuration that is served except for what the message names.
//! 4. Until the answer, the server sends nothing more: changes meet in the catalog, and the next generation has the last of each.
//!
//! A removed Gateway is the removal of the piece `NAMESPACE/GATEWAY/gateway`: with it goes everything that the client holds.

mod catalog;
mod client;
mod name;
pub mod proto;
mod server;
mod unbound;
mod version;

pub use catalog::Catalog;
pub use client::{ClientCommit, ClientStep, ClientStream, Violation};
pub use name::{COMMIT_TYPE_URL, Commit, METHOD_PATH, type_url};
pub use server::{Refused, ServerStep, ServerStream, StreamEvent};
pub use unbound::UnboundPorts;
pub use version::{ConfigVersion, ConfigVersionError};

/// How many bytes of resources one response holds at most; a single larger resource stands alone.
pub const CHUNK_BYTES: usize = 1 << 20;

/// What a client must be ready to receive as one message.
pub const RESPONSE_LIMIT: usize = 16 << 20;

/// What a server must be ready to receive as one message.
pub const REQUEST_LIMIT: usize = 4 << 20;

/// How many held versions a client may tell, and their bytes. One that holds more says nothing, and gets everything.
const HELD_LIMIT: usize = 250_000;
const HELD_BYTES: usize = 32 << 20;
