//! The objects that a controller made for its Gateways, as far as it has to know about them.

use std::collections::BTreeMap;

use portcullis_api::meta::{Condition, ConditionStatus, OwnerReference};
use portcullis_model::ObjectName;
use serde::Deserialize;

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

/// What is known of an object, from its JSON.
pub(crate) fn decode(kind: OwnedKind, raw: &str) -> Result<OwnedState, serde_json::Error> {
    match kind {
        OwnedKind::Deployment => serde_json::from_str(raw).map(Json::<DeploymentSpec, DeploymentStatus>::into_state),
        OwnedKind::Pod => serde_json::from_str(raw).map(Json::<PodSpec, PodStatus>::into_state),
    }
}

#[derive(Deserialize)]
struct Json<Spec, Status> {
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    uid: String,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    deletion_timestamp: Option<String>,
}

impl<Spec: Default, Status: Default> Json<Spec, Status>
where
    OwnedDetails: From<(Spec, Status)>,
{
    fn into_state(self) -> OwnedState {
        OwnedState {
            uid: self.metadata.uid,
            generation: self.metadata.generation.unwrap_or_default(),
            labels: self.metadata.labels.unwrap_or_default(),
            annotations: self.metadata.annotations.unwrap_or_default(),
            owner_references: self.metadata.owner_references.unwrap_or_default(),
            deleting: self.metadata.deletion_timestamp.is_some(),
            details: OwnedDetails::from((self.spec.unwrap_or_default(), self.status.unwrap_or_default())),
        }
    }
}

#[derive(Default, Deserialize)]
struct DeploymentSpec {
    replicas: Option<i32>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeploymentStatus {
    observed_generation: Option<i64>,
    replicas: Option<i32>,
    updated_replicas: Option<i32>,
    ready_replicas: Option<i32>,
    available_replicas: Option<i32>,
    conditions: Option<Vec<Condition>>,
}

impl From<(DeploymentSpec, DeploymentStatus)> for OwnedDetails {
    fn from((spec, status): (DeploymentSpec, DeploymentStatus)) -> Self {
        Self::Deployment(DeploymentState {
            desired_replicas: spec.replicas.unwrap_or(1),
            observed_generation: status.observed_generation.unwrap_or_default(),
            replicas: status.replicas.unwrap_or_default(),
            updated_replicas: status.updated_replicas.unwrap_or_default(),
            ready_replicas: status.ready_replicas.unwrap_or_default(),
            available_replicas: status.available_replicas.unwrap_or_default(),
            conditions: status.conditions.unwrap_or_default(),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    service_account_name: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    conditions: Option<Vec<Condition>>,
    container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Deserialize)]
struct ContainerStatus {
    state: Option<ContainerState>,
}

#[derive(Deserialize)]
struct ContainerState {
    waiting: Option<Waiting>,
}

#[derive(Deserialize)]
struct Waiting {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl From<(PodSpec, PodStatus)> for OwnedDetails {
    fn from((spec, status): (PodSpec, PodStatus)) -> Self {
        let conditions = status.conditions.unwrap_or_default();
        let condition = |name: &str| conditions.iter().find(|condition| condition.r#type == name);
        let unscheduled = condition("PodScheduled").filter(|condition| condition.status == ConditionStatus::False);
        let waiting = status.container_statuses.into_iter().flatten().find_map(|container| container.state?.waiting);
        let trouble = match (unscheduled, waiting) {
            (Some(condition), _) => Some(one_line(&condition.reason, &condition.message)),
            (None, Some(waiting)) if !STARTING.contains(&waiting.reason.as_str()) => {
                Some(one_line(&waiting.reason, &waiting.message))
            }
            (None, _) => None,
        };
        Self::Pod(PodState {
            phase: match status.phase.as_deref() {
                Some("Pending") => PodPhase::Pending,
                Some("Running") => PodPhase::Running,
                Some("Succeeded") => PodPhase::Succeeded,
                Some("Failed") => PodPhase::Failed,
                _ => PodPhase::Unknown,
            },
            ready: condition("Ready").is_some_and(|condition| condition.status == ConditionStatus::True),
            ip: status.pod_ip.filter(|ip| !ip.is_empty()),
            node: spec.node_name.filter(|node| !node.is_empty()),
            service_account: spec.service_account_name,
            trouble,
        })
    }
}

/// Why a container waits when all goes well.
const STARTING: &[&str] = &["ContainerCreating", "PodInitializing"];
/// How much is kept of a trouble, in bytes.
const TROUBLE_LIMIT: usize = 512;

fn one_line(reason: &str, message: &str) -> String {
    let mut text = if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") };
    text = text.replace(['\n', '\r'], " ");
    text.truncate(text.floor_char_boundary(TROUBLE_LIMIT));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_says_whether_it_is_ready_and_what_keeps_it() {
        let raw = r#"{"metadata": {"name": "a", "uid": "u", "deletionTimestamp": "2026-11-23T00:00:00Z", "labels": {"b": "c"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "d", "uid": "e", "controller": true}]},
            "spec": {"nodeName": "n", "serviceAccountName": "s", "containers": [{"name": "x"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True", "lastProbeTime": null}],
            "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no\nimage"}}}]}}"#;
        let state = decode(OwnedKind::Pod, raw).unwrap();
        assert!(state.deleting);
        assert_eq!((state.uid.as_str(), state.owner_references[0].uid.as_str()), ("u", "e"));
        let OwnedDetails::Pod(pod) = state.details else { panic!("no pod") };
        assert_eq!((pod.phase, pod.ready, pod.ip.as_deref()), (PodPhase::Running, true, Some("10.0.0.1")));
        assert_eq!((pod.node.as_deref(), pod.service_account.as_deref()), (Some("n"), Some("s")));
        assert_eq!(pod.trouble.as_deref(), Some("ImagePullBackOff: no image"));
    }

    #[test]
    fn a_new_object_has_no_status() {
        let raw = r#"{"metadata": {"name": "a", "generation": 3}, "spec": {"replicas": 2}, "status": {}}"#;
        let OwnedState { generation, details, .. } = decode(OwnedKind::Deployment, raw).unwrap();
        assert_eq!(generation, 3);
        let expected = DeploymentState { desired_replicas: 2, ..DeploymentState::default() };
        assert_eq!(details, OwnedDetails::Deployment(expected));
        let OwnedDetails::Pod(pod) =
            decode(OwnedKind::Pod, r#"{"metadata": {}, "status": {"phase": "New"}}"#).unwrap().details
        else {
            panic!("no pod");
        };
        assert_eq!((pod.phase, pod.ready, pod.trouble), (PodPhase::Unknown, false, None));
    }
}
