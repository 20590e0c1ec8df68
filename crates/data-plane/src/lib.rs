//! One data plane of a Gateway, as it runs in a pod.
//!
//! In flow the words of the controller: a certificate for this pod, then changes of its Gateway's configuration. Out flow
//! what the proxy serves, and what the controller is told of it. When the controller is away, the last configuration is served,
//! and `portcullis_controller_connected` and the log say so.
//!
//! | module | what it is |
//! |---|---|
//! | `options` | settings |
//! | `identity`, `key`, `trust` | a certificate against the pod's token, renewed at half of its life; whom to trust |
//! | `connection`, `stream`, `message` | TLS towards the controller; one stream of gRPC over HTTP/2, and its framing |
//! | `follower` | follows the stream: applies what is complete, answers, comes again when it broke |
//! | `plane` | the parts together, from the first configuration to the end of the drain |
//! | `metrics`, `told`, `backoff` | counts; problems in the log, once each; pauses between tries |
//!
//! Nothing is served, and the pod is not ready, before a first complete configuration came over a connection on which both sides
//! showed certificates of the controller's authority.

mod backoff;
mod connection;
mod follower;
mod identity;
mod key;
mod message;
mod metrics;
mod options;
mod plane;
mod stream;
mod told;
mod trust;

pub use options::{ControllerAddress, Options};
pub use plane::{DataPlane, Defect, StartError};
