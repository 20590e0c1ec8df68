//! GatewayParameters (`portcullis.dev/v1alpha1`): how the data planes of a class, or of one Gateway, are run.
//!
//! A GatewayClass names one in `parametersRef`, a Gateway in `infrastructure.parametersRef`. In flow the two; out flows one
//! [`DataPlane`] ([`DataPlane::overlaid`]), of which [`problems`](DataPlane::problems) says what cannot be honoured. [`pod`] merges
//! and judges the patch of the pod.

mod metadata;
mod overlay;
pub mod pod;
mod problem;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use metadata::{MetadataAllowance, MetadataKey};
pub use overlay::Overlay;
pub use problem::ParameterProblem;

use crate::extra::Extra;
use crate::meta::{ApiVersion, Condition, IntOrString, KindName, LabelSelector, ObjectMeta};
use crate::service::ServiceType;
use crate::shared::GatewayDuration;
use crate::text::text_enum;

/// Settings for the Gateways of a class, or for one Gateway.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayParameters {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// The settings.
    #[serde(default)]
    pub spec: GatewayParametersSpec,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<GatewayParametersStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayParametersSpec {
    /// How data planes are run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_plane: Option<Box<DataPlane>>,
    /// Where data planes may connect to, beyond what is allowed anyway. Read from a GatewayClass's parameters only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstreams: Option<Box<Upstreams>>,
    /// What a Gateway's own parameters may set. Read from a GatewayClass's parameters only; empty means nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_gateway_fields: Vec<DataPlaneField>,
    /// Which labels and annotations a Gateway's `spec.infrastructure` may give to what is made for it. Read from a GatewayClass's
    /// parameters only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_gateway_metadata: Option<Box<MetadataAllowance>>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What became of parameters.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayParametersStatus {
    /// Accepted and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// A field of [`DataPlane`], by its path in the spec.
    pub enum DataPlaneField {
        /// `replicas`
        Replicas = "dataPlane.replicas",
        /// `autoscaling`
        Autoscaling = "dataPlane.autoscaling",
        /// `resources`
        Resources = "dataPlane.resources",
        /// `nodeSelector`
        NodeSelector = "dataPlane.nodeSelector",
        /// `affinity`
        Affinity = "dataPlane.affinity",
        /// `tolerations`
        Tolerations = "dataPlane.tolerations",
        /// `topologySpreadConstraints`
        TopologySpreadConstraints = "dataPlane.topologySpreadConstraints",
        /// `priorityClassName`
        PriorityClassName = "dataPlane.priorityClassName",
        /// `imagePullSecrets`
        ImagePullSecrets = "dataPlane.imagePullSecrets",
        /// `service.type`
        ServiceType = "dataPlane.service.type",
        /// `service.annotations`
        ServiceAnnotations = "dataPlane.service.annotations",
        /// `service.labels`
        ServiceLabels = "dataPlane.service.labels",
        /// `service.externalTrafficPolicy`
        ServiceExternalTrafficPolicy = "dataPlane.service.externalTrafficPolicy",
        /// `service.loadBalancerClass`
        ServiceLoadBalancerClass = "dataPlane.service.loadBalancerClass",
        /// `service.loadBalancerSourceRanges`
        ServiceLoadBalancerSourceRanges = "dataPlane.service.loadBalancerSourceRanges",
        /// `podDisruptionBudget`
        PodDisruptionBudget = "dataPlane.podDisruptionBudget",
        /// `podLabels`
        PodLabels = "dataPlane.podLabels",
        /// `podAnnotations`
        PodAnnotations = "dataPlane.podAnnotations",
        /// `pod`
        Pod = "dataPlane.pod",
        /// `shutdownDelay`
        ShutdownDelay = "dataPlane.shutdownDelay",
        /// `drainTimeout`
        DrainTimeout = "dataPlane.drainTimeout",
        /// `networkPolicy`
        NetworkPolicy = "dataPlane.networkPolicy",
        /// `logLevel`
        LogLevel = "dataPlane.logLevel",
        /// `workers`
        Workers = "dataPlane.workers",
    }
}

/// How a data plane is run. What is absent has the default that its field states.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataPlane {
    /// How many pods. Default 1. Not together with `autoscaling`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// As many pods as the load needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// CPU and memory. Default: requests of 5m CPU and 32Mi, no limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// As in a pod's spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Value>,
    /// As in a pod's spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// As in a pod's spec; without a `labelSelector` the data plane's own pods are spread.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// As in a pod's spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// As in a pod's spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<ImagePullSecret>,
    /// The Service that clients reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Box<DataPlaneService>>,
    /// How many pods may be evicted at a time. Default: one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_disruption_budget: Option<DisruptionBudget>,
    /// Labels of pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations of pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_annotations: BTreeMap<String, String>,
    /// A patch of the pod template; see [`pod`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Value>,
    /// How long a pod that is asked to end goes on accepting connections, as load balancers learn of it. Default 5 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shutdown_delay: Option<GatewayDuration>,
    /// How long open requests may take to end after that. Default 25 s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<GatewayDuration>,
    /// Whether a NetworkPolicy is made. Default Enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicyMode>,
    /// What the program's own log holds. Default Info.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Worker threads. Default: as many as the CPU limit, or the node, has CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// As many pods as the load needs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Autoscaling {
    /// Default 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// At least `minReplicas`.
    pub max_replicas: i32,
    /// Percent of the requested CPU, averaged over the pods. Default 80.
    #[serde(rename = "targetCPUUtilization", skip_serializing_if = "Option::is_none")]
    pub target_cpu_utilization: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Resources of the container.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceRequirements {
    /// What is kept free for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What it may not exceed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, IntOrString>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A taint that is put up with.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Toleration {
    /// The taint's key; absent with `Exists` means every taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `Exists`, `Equal` (the default) and what Kubernetes adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The taint's value, for `Equal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// `NoSchedule`, `PreferNoSchedule` or `NoExecute`; absent means each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
    /// How long, for `NoExecute`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How pods are spread over zones, nodes and the like.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopologySpreadConstraint {
    /// How much the numbers of pods may differ.
    pub max_skew: i32,
    /// The node label whose values are the places.
    pub topology_key: String,
    /// `DoNotSchedule` or `ScheduleAnyway`.
    pub when_unsatisfiable: String,
    /// Which pods count; absent means those of the data plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Labels whose values of the pod are added to the selector.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_label_keys: Vec<String>,
    /// How many places there must be at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_domains: Option<i32>,
    /// `Honor` or `Ignore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_affinity_policy: Option<String>,
    /// `Honor` or `Ignore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_taints_policy: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A Secret of the Gateway's namespace with which the image is pulled.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImagePullSecret {
    /// Its name.
    pub name: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The Service that clients reach.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneService {
    /// Default LoadBalancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<ServiceType>,
    /// Annotations of the Service alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the Service alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether nodes without a pod of the data plane take traffic. Default Cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Which load balancer; it cannot be changed once the Service exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer_class: Option<String>,
    /// Which clients the load balancer lets in, in CIDR notation; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub load_balancer_source_ranges: Vec<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// Whether nodes without a pod of the data plane take traffic.
    pub enum ExternalTrafficPolicy {
        /// Every node does, and the client's address is lost.
        Cluster = "Cluster",
        /// Only those with a pod; the client's address is kept.
        Local = "Local",
    }
}

/// How many pods may be evicted at a time: exactly one of these.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DisruptionBudget {
    /// A number or a percentage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
    /// A number or a percentage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_available: Option<IntOrString>,
    /// No budget is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// Whether a NetworkPolicy is made.
    pub enum NetworkPolicyMode {
        /// It is.
        Enabled = "Enabled",
        /// It is not.
        Disabled = "Disabled",
    }
}

text_enum! {
    /// What the program's own log holds.
    pub enum LogLevel {
        /// What failed.
        Error = "Error",
        /// Also what somebody should look at.
        Warn = "Warn",
        /// Also what happened.
        Info = "Info",
        /// Also why.
        Debug = "Debug",
        /// Everything.
        Trace = "Trace",
    }
}

/// Where data planes may connect to. Loopback, link-local and node addresses, metadata services and the API server are refused
/// unless they are listed here.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstreams {
    /// In CIDR notation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_addresses: Vec<String>,
    /// Domains whose names, with all below them, a Service of type ExternalName may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_external_names: Vec<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
