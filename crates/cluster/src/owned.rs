//! The objects that a controller made for its Gateways, as far as it has to know about them.

use std::collections::BTreeMap;

use portcullis_api::meta::{Condition, OwnerReference};
use portcullis_model::ObjectName;

use crate::kinds::OwnedKind;

/// An object that carries `app.kubernetes.io/managed-by: portcullis`, and what is to be known of it now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owned {
    /// The kind.
    pub kind: OwnedKind,
    /// Namespace and name.
    pub name: ObjectName,
    /// What is known; none if it is gone, or no longer carries the label.
    pub state: Option<Box<OwnedState>>,
}

/// What is known of such an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnedState {
    /// Unique in time and space.
    pub uid: String,
    /// Counts changes of the spec: another number than one's own last write gave means that someone else wrote.
    pub generation: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The owners.
    pub owner_references: Vec<OwnerReference>,
    /// Whether it is about to go (`metadata.deletionTimestamp`).
    pub deleting: bool,
    /// What only its kind has.
    pub details: OwnedDetails,
}

/// What a kind has beyond metadata.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OwnedDetails {
    /// A Deployment's status.
    Deployment(DeploymentState),
    /// A Pod's status.
    Pod(PodState),
}

/// The status of a Deployment (`apps/v1` DeploymentStatus).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeploymentState {
    /// `spec.replicas`.
    pub desired_replicas: i32,
    /// The generation that the status is about.
    pub observed_generation: i64,
    /// Pods of any template.
    pub replicas: i32,
    /// Pods of the current template.
    pub updated_replicas: i32,
    /// Pods that are ready.
    pub ready_replicas: i32,
    /// Pods that have been ready for long enough.
    pub available_replicas: i32,
    /// `Available`, `Progressing`, `ReplicaFailure`.
    pub conditions: Vec<Condition>,
}

/// The status of a Pod (`v1` PodStatus).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodState {
    /// Where it stands in its life.
    pub phase: PodPhase,
    /// Whether its condition `Ready` is true.
    pub ready: bool,
    /// `status.podIP`; none as long as it has none.
    pub ip: Option<String>,
    /// `spec.nodeName`; none as long as it has not been scheduled.
    pub node: Option<String>,
    /// `spec.serviceAccountName`.
    pub service_account: Option<String>,
    /// Why it cannot run, in one line: of an unscheduled pod what the scheduler says, of a waiting container its reason.
    pub trouble: Option<String>,
}

/// The phase of a Pod (`v1` PodPhase).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodPhase {
    /// Not all containers have started.
    Pending,
    /// Bound to a node, containers started.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, one of them badly.
    Failed,
    /// Anything else.
    Unknown,
}
