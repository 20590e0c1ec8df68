//! The compiled configuration of a Gateway, as plain data.
//!
//! What flows in: nothing; this crate only names shapes. `compile` makes these values from Kubernetes objects,
//! `decide` links them into its lookup structures, `proxy` serves from them.
//!
//! - One [`Resource`] per user-visible object, each under a [`ResourceKey`]. Children point to their parents by key
//!   (a route names the listeners that it is attached to), so a small change of an object is a small message.
//! - Nothing wrong disappears: a broken listener, rule or backend is a variant ([`ListenerState::Invalid`],
//!   [`RuleAction::Fail`], [`BackendTarget::Invalid`]) that keeps its place, its weight and its reason.
//! - Values that came from a Secret are [`SecretBytes`]: redacted when printed or serialised, zeroed when dropped.
//!   Only [`wire`], the form that goes from the controller to a data plane, has the bytes themselves.
//! - Maps are ordered and lists keep the order of the specification: equal inputs give equal bytes.

mod backend;
mod certificate;
mod config;
mod filter;
mod hostname;
mod key;
mod listener;
mod name;
mod pattern;
mod port;
mod route;
mod secret;
mod upstreams;
pub mod wire;

pub use backend::{Backend, BackendKey, BackendProtocol, Discovery, Endpoint, Endpoints};
pub use certificate::{Certificate, CertificateKey, PrivateKey, PrivateKeyFormat};
pub use config::{Config, ConfigDelta, Gateway, Resource, ResourceKey};
pub use filter::{
    Cors, CorsNames, CorsOrigin, CorsOrigins, FRAMING_HEADERS, Filter, Fraction, HeaderModifier, HeaderValueEntry,
    Mirror, PathModifier, Redirect, UrlRewrite,
};
pub use hostname::Hostname;
pub use key::{ResourceKeyError, ResourceKind};
pub use listener::{Listener, ListenerKey, ListenerProtocol, ListenerState, ListenerTls};
pub use name::ObjectName;
pub use pattern::{PATTERN_LENGTH_LIMIT, PATTERN_NEST_LIMIT, PATTERN_SIZE_LIMIT};
pub use port::{TELEMETRY_PORT, pod_port};
pub use route::{
    Attachment, BackendTarget, Failure, FailureReason, PathMatch, Retry, Route, RouteHostname, RouteKey, RouteKind,
    RouteMatch, Rule, RuleAction, StringMatch, Timeouts, ValueMatch, WeightedBackend,
};
pub use secret::SecretBytes;
pub use upstreams::{Cidr, CidrError, Upstreams};
