//! The linked form of a configuration, and the decisions made with it.
//!
//! What flows in: a [`portcullis_model::Config`] ([`Linked::link`]), then, per connection, the server name of a
//! ClientHello ([`Port::client_hello`]) and, per request, its head ([`Port::request`]).
//! What flows out: which listener terminates TLS, and for a request either an [`Answer`] or a [`Need`].
//!
//! Nothing here has a clock, I/O or randomness: the same input gives the same output. What must come from outside (the
//! choice among weighted backends, the share of mirrored requests) is asked for and given as data.
//!
//! - [`path`]: the normal form of a path, used by matching and forwarding alike.
//! - [`Linked`] → [`Port`] → [`LinkedListener`] → host → path → rule: the order in which a request is looked up. The cost
//!   follows the length of Host and path, not the number of routes.
//! - What the specification leaves open is decided where it is done, and documented there: patterns match the whole
//!   value, repeated header lines count as one joined by `,`, of a repeated query parameter the first value counts, a
//!   Host is compared in lower case without port and trailing dot, a request without a Host is a catch-all listener's.
//! - Filters are parsed when linking; one that cannot be honoured makes its rule answer 500 ([`LinkProblem`]).

mod answer;
mod condition;
mod filter;
mod hello;
mod host;
mod link;
mod linked;
mod literal;
pub mod path;
mod pattern;
mod query;
mod request;
mod shared;
mod table;
mod weight;

pub use answer::{Answer, Matched, Step, Why};
pub use filter::LinkedMirror;
pub use hello::{ClientHello, HelloRefusal};
pub use linked::{
    LinkProblem, Linked, LinkedBackend, LinkedListener, LinkedObject, LinkedRoute, LinkedRule, Port, RuleId,
    RulePosition, TelemetrySlot,
};
pub use request::{Connection, Forward, HostRefusal, Need, RequestHead};
pub use weight::WeightedRoundRobin;

#[cfg(test)]
mod tests {
    #[test]
    fn a_linked_configuration_is_shared_among_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<super::Linked>();
        shared::<super::Forward>();
    }
}
