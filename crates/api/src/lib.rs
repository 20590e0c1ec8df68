//! The types of Kubernetes and the Gateway API (v1.7.0, standard and experimental), and the validation that an API
//! server would do.
//!
//! In flow YAML and JSON; out flow typed objects, which keep every field and every value that they do not know, or
//! errors that name the object and the field. One type per concept: all kinds share [`shared::ParentReference`],
//! [`meta::Condition`] and their like.

mod decode;
mod extra;
pub mod object;
mod text;

pub mod diagnostic;
pub mod manifest;
pub mod meta;
pub mod schema;
pub mod shared;

pub mod backend;
pub mod backend_tls_policy;
pub mod backend_traffic_policy;
pub mod gateway;
pub mod gateway_class;
pub mod grpc_route;
pub mod http_route;
pub mod listener_set;
pub mod mesh;
pub mod reference_grant;
pub mod tcp_route;
pub mod telemetry_policy;
pub mod tls_route;
pub mod udp_route;

pub mod gateway_parameters;

pub mod cluster_trust_bundle;
pub mod config_map;
pub mod endpoint_slice;
pub mod namespace;
pub mod node;
pub mod secret;
pub mod service;

pub use extra::Extra;
pub use object::{Change, Object, ObjectError, ObjectKey, Resource};
pub use text::Foreign;

/// The API group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The API group of the experimental kinds whose names begin with X.
pub const EXPERIMENTAL_GATEWAY_GROUP: &str = "gateway.networking.x-k8s.io";
/// The API group of the kinds of our own.
pub const GROUP: &str = "portcullis.dev";
