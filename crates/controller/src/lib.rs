//! The control plane: watches a cluster, compiles, writes status, provisions data planes and streams their configuration.
//!
//! In flow the objects of a cluster and the word of data planes. Out flow configurations over mutually authenticated streams, and, from the
//! replica that holds the lease, statuses and the objects of data planes.
//!
//! | module | what it is |
//! |---|---|
//! | [`options`] | settings |
//! | [`control_plane`] | what controls the cluster, where only some namespaces are read |
//! | `leader` | which replica writes |
//! | `reconcile` | the loop: events of the cluster to the compiler, and what it says to everyone else |
//! | `gateway_status` | what only the controller knows, laid over the status that the compiler gave |
//! | `status` | writes statuses, and keeps what others wrote |
//! | [`events`] | tells findings as Events on the objects that they are about |
//! | [`identity`] | certificates for data planes |
//! | [`serve`] | streams of configuration |
//! | [`infrastructure`] | Deployments, Services and the like of data planes |

pub mod options;

pub mod control_plane;
pub mod events;
pub mod identity;
pub mod infrastructure;
pub mod serve;

mod clock;
mod gateway_status;
mod leader;
mod reconcile;
mod request;
mod run;
mod status;
#[cfg(test)]
mod testing;

pub use options::Options;
pub use run::{RunError, run};
