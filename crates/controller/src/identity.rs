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

use portcullis_model::ObjectName;

/// The Gateways that this controller serves, with their UIDs.
pub type KnownGateways = Arc<BTreeMap<ObjectName, Arc<str>>>;

/// One right that this part needs from the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// API group; empty for the core.
    pub group: &'static str,
    /// Resource, in plural.
    pub resource: &'static str,
    /// What is done with it.
    pub verbs: &'static [&'static str],
    /// Where: in the controller's own namespace, in those of Gateways, or without one.
    pub place: Place,
    /// The one object that the right can be limited to.
    pub name: Option<&'static str>,
    /// What for.
    pub purpose: &'static str,
}

/// Where a [`Right`] is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The controller's namespace.
    Own,
    /// Every namespace with a Gateway.
    Gateways,
    /// The cluster: the resource has no namespace.
    Cluster,
}

/// Everything that this part asks of the API server.
pub const RIGHTS: &[Right] = &[
    Right {
        group: "",
        resource: "secrets",
        verbs: &["get", "update"],
        place: Place::Own,
        name: Some(authority::SECRET_NAME),
        purpose: "the certificate authority; only the holder of the lease updates it",
    },
    Right {
        group: "",
        resource: "secrets",
        verbs: &["create"],
        place: Place::Own,
        name: None,
        purpose: "the certificate authority of a new installation; RBAC cannot limit create to a name",
    },
    Right {
        group: "authentication.k8s.io",
        resource: "tokenreviews",
        verbs: &["create"],
        place: Place::Cluster,
        name: None,
        purpose: "whose token a data plane shows",
    },
    Right {
        group: "",
        resource: "pods",
        verbs: &["get"],
        place: Place::Gateways,
        name: None,
        purpose: "the pod of that token, when its certificate is issued",
    },
    Right {
        group: "apps",
        resource: "replicasets",
        verbs: &["get"],
        place: Place::Gateways,
        name: None,
        purpose: "the owner of that pod",
    },
    Right {
        group: "apps",
        resource: "deployments",
        verbs: &["get"],
        place: Place::Gateways,
        name: None,
        purpose: "the owner of that ReplicaSet",
    },
];
