//! From Kubernetes objects to configurations, statuses and findings.
//!
//! In flow objects, as a snapshot or change by change; out flow, for each Gateway, a [`Config`](portcullis_model::Config) with everything that
//! its proxies need, the status of each object as it would stand in a cluster, and findings: what a user should know beyond conditions.
//! This is the only place that decides about attachment and grants.
//!
//! Pure: no clock, no files, no network, no randomness. Time is an option, and results say when they would next change. The same objects give
//! the same results, byte for byte, in whatever order they came.
//!
//! Fail closed. What is invalid, unknown or not supported yet keeps its place and answers 404, 500 or refuses the handshake; nothing is
//! skipped so that a broader rule or a less specific listener would answer in its place. Nothing is dropped silently: each such thing has
//! a condition of the specification, or a finding where it knows none.
//!
//! Decisions where the specification leaves room:
//! - A rule is invalid as a whole if one of its matches, filters or settings is. It goes on matching and answers 500; `PartiallyInvalid` names
//!   it. A match that cannot be read is widened to one that certainly covers what it was meant for.
//! - `Accepted` of a listener is about its own spec; a reference that is not resolved shows in `ResolvedRefs` and `Programmed`. A Gateway is
//!   accepted if one of its listeners is, and programmed if one of them serves.
//! - Parameters that are absent or invalid make a Gateway not accepted, but what it serves goes on, and its data planes stay as they are:
//!   one bad object of an operator must not take down every Gateway of a class.
//! - A Service of type ExternalName is reached by a route only if every Gateway of ours that the route names allows it.
//! - Listeners of one port with the same hostname are all refused, and keep the hostname to themselves.

mod attachment;
mod backend;
mod certificate;
mod compiler;
mod conditions;
mod features;
mod filter;
mod findings;
mod gateway;
mod gateway_class;
mod grants;
mod http_route;
mod index;
mod infrastructure;
mod listener;
mod other;
mod own_addresses;
mod parameters;
mod route_match;
mod secrets;
mod served;
mod shared;
mod small;
mod snapshot;
mod status;
mod text;

pub use compiler::{Compiled, Compiler, Delta, FindingsChange, Options, StatusChange, Wanted, compile};
pub use findings::{Finding, FindingCode, Severity};
pub use infrastructure::{
    AddressKind, AddressRequest, AddressScope, Infrastructure, InfrastructureChange, TransportProtocol,
};
pub use secrets::SecretNamespaces;
pub use served::{Definition, Served};
pub use status::ObjectStatus;
