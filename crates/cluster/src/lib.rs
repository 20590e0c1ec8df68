//! Reading a Kubernetes cluster.
//!
//! What flows in: a [`Client`] and a [`Selection`], which says where to look. What flows out:
//! - from [`Watch::start`], [`Event`]s: objects as they are, then each change within about a millisecond of the API
//!   server's word, and what cannot be read, with the remedy;
//! - from [`list`] and [`read`], the same once, for commands.
//!
//! Which kinds the API server serves, and in which versions, is found out by asking it, again whenever it may have
//! changed. A kind that is missing is none; one that appears is picked up; one that goes takes its objects with it once
//! its absence is certain. One object that cannot be read never harms another, nor one kind another.
//!
//! Nothing is kept of an object but two hashes beside its name, by which a new list is told from the old one. Bodies of
//! Secrets and ConfigMaps are read one by one, and only those that are [wanted](Watch::want).
//!
//! What it takes to be allowed to do all this stands in one table: [`rights`].

mod backoff;
mod bodies;
mod buffer;
mod connect;
mod decode;
mod discovery;
mod error;
mod event;
mod kinds;
mod known;
mod list;
mod owned;
mod pages;
mod request;
mod rights;
mod selection;
mod served;
mod statistics;
mod watch;
mod watcher;

pub use connect::{Client, ConnectError, connect, server};
pub use error::{Problem, ReadError};
pub use event::Event;
pub use kinds::{KindId, OwnedKind};
pub use list::{Listing, Unread, list, read};
pub use owned::{DeploymentState, Owned, OwnedDetails, OwnedState, PodPhase, PodState};
pub use rights::{Place, RIGHTS, Right, Rule, Where, rights};
pub use selection::{Namespaces, Scope, SecretAccess, Selection};
pub use served::{Definition, ServedKind, ServedSchema};
pub use watch::{KindStatistics, Watch};
