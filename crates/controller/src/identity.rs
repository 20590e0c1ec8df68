//! Identities: the controller's certificate authority, its own certificates, and those of data planes.
//!
//! In flow the Secret that holds the authority, and requests of data planes, each with a token of its ServiceAccount that is
//! bound to its pod. Out flow certificates, and a bundle of what is trusted. A data plane gets a certificate only for the
//! Gateway that the chain of owners of its pod leads to; what that takes is in [`issue`].
//!
//! | module | what it is |
//! |---|---|
//! | [`name`] | whom a certificate names |
//! | `key`, `csr`, `pem` | private keys that are made here, public keys that are sent here, their text form |
//! | `ca` | the authority as data: succession, signing |
//! | [`authority`] | the authority as a running part: the Secret, the configurations of TLS |
//! | `token`, `owner` | what is asked of the API server |
//! | [`issue`] | the checks, in their order, and their outcomes |
//! | [`endpoint`], `rate` | HTTP for it, with its bounds |

pub mod authority;
pub mod endpoint;
pub mod issue;
pub mod name;

mod ca;
mod csr;
mod key;
mod owner;
mod pem;
pub(crate) mod rate;
mod token;

pub use authority::{Authority, AuthorityError, AuthorityOptions};
pub use issue::AUDIENCE;
pub use name::{DataPlaneIdentity, Identity, Peer};

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_cluster::{Place, Right};
use portcullis_model::ObjectName;

/// The Gateways that this controller serves, with their UIDs.
pub type KnownGateways = Arc<BTreeMap<ObjectName, Arc<str>>>;

/// What issuing asks of the API server, beyond what reading a cluster takes ([`portcullis_cluster::rights`]): whose token it is, and by name
/// the pod, its ReplicaSet and its Deployment.
pub const RIGHTS: &[Right] = &[
    Right {
        group: "authentication.k8s.io",
        resource: "tokenreviews",
        verbs: &["create"],
        place: Place::Cluster,
        owned: false,
    },
    Right { group: "", resource: "pods", verbs: &["get"], place: Place::Namespaces, owned: false },
    Right { group: "apps", resource: "replicasets", verbs: &["get"], place: Place::Namespaces, owned: false },
    Right { group: "apps", resource: "deployments", verbs: &["get"], place: Place::Namespaces, owned: false },
];

/// What is done with the Secret [`SECRET_NAME`](authority::SECRET_NAME) in the controller's own namespace. Besides, Secrets may be created there:
/// Kubernetes cannot confine that to a name.
pub const SECRET_VERBS: &[&str] = &["get", "update"];
