//! The Deployment.

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_api::gateway_parameters::{DataPlane, LogLevel, ResourceRequirements, pod};
use portcullis_api::meta::IntOrString;
use portcullis_api::shared::GatewayDuration;
use portcullis_model::TELEMETRY_PORT;
use serde_json::{Map, Value, json};

use super::{Context, Kind, Rendered, overlaid};
use crate::identity::AUDIENCE;

/// How long a pod that is asked to end goes on accepting connections.
const SHUTDOWN_DELAY: Duration = Duration::from_secs(5);
/// How long open requests may take to end after that.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// What is left to end in before the kubelet ends the pod.
const MARGIN: Duration = Duration::from_secs(5);
/// How long a token is good for; the kubelet renews it in time.
const TOKEN_SECONDS: u32 = 3600;

impl Context<'_> {
    pub(super) fn deployment(&self) -> Rendered {
        let mut spec = json!({
            "selector": {"matchLabels": self.names.selector()},
            "revisionHistoryLimit": 2,
            // A new pod serves before an old one leaves.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": self.template(),
        });
        // With an autoscaler the number is its own.
        if self.parameters.autoscaling.is_none() {
            spec["replicas"] = json!(self.parameters.replicas.unwrap_or(1));
        }
        self.object(Kind::Deployment, json!({"spec": spec}))
    }

    fn template(&self) -> Value {
        let (infrastructure, parameters) = (self.infrastructure, self.parameters);
        let mut template = pod::skeleton();
        template["metadata"] = json!({
            "labels": overlaid([&infrastructure.labels, &parameters.pod_labels, &self.names.pod_labels()]),
            "annotations": overlaid([&infrastructure.annotations, &parameters.pod_annotations, &self.names.annotations()]),
        });
        pod::merge(&mut template, &json!({"spec": self.pod_spec()}));
        if let Some(patch) = parameters.pod.as_ref().filter(|patch| pod::problems(patch).is_empty()) {
            pod::merge(&mut template, patch);
        }
        template
    }

    fn pod_spec(&self) -> Value {
        let grace = self.shutdown_delay() + self.drain_timeout() + MARGIN;
        let mut spec = json!({
            "serviceAccountName": self.names.base,
            // Addresses of a namespace's Services are none of its business.
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": grace.as_millis().div_ceil(1000) as u64,
            "containers": [self.container()],
            "volumes": [
                {"name": "portcullis-ca", "configMap": {"name": self.names.base}},
                {"name": "portcullis-token", "projected": {"sources": [{"serviceAccountToken": {
                    "audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token",
                }}]}},
            ],
        });
        if let Value::Object(spec) = &mut spec {
            self.place(spec);
        }
        spec
    }

    /// Where pods run.
    fn place(&self, spec: &mut Map<String, Value>) {
        let parameters = self.parameters;
        let constraints = parameters.topology_spread_constraints.iter().map(|constraint| {
            let mut constraint = json!(constraint);
            if constraint.get("labelSelector").is_none() {
                constraint["labelSelector"] = json!({"matchLabels": self.names.selector()});
            }
            constraint
        });
        let lists = [
            ("tolerations", json!(parameters.tolerations)),
            ("topologySpreadConstraints", Value::Array(constraints.collect())),
            ("imagePullSecrets", json!(parameters.image_pull_secrets)),
            ("nodeSelector", json!(parameters.node_selector)),
        ];
        let is_set = |value: &Value| value.as_array().map(Vec::is_empty) != Some(true) && *value != json!({});
        spec.extend(lists.into_iter().filter(|(_, value)| is_set(value)).map(|(name, value)| (name.to_owned(), value)));
        if let Some(affinity) = &parameters.affinity {
            spec.insert("affinity".to_owned(), affinity.clone());
        }
        if let Some(class) = &parameters.priority_class_name {
            spec.insert("priorityClassName".to_owned(), json!(class));
        }
    }

    fn container(&self) -> Value {
        let probe = |path: &str, period: u32, failures: u32| {
            // By number: a named port would need a containerPort.
            json!({"httpGet": {"path": path, "port": TELEMETRY_PORT}, "periodSeconds": period, "timeoutSeconds": 2, "failureThreshold": failures})
        };
        let mut container = json!({
            "name": pod::CONTAINER,
            "image": self.options.image,
            "args": self.arguments(),
            "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "resources": resources(self.parameters.resources.as_ref()),
            // Asked every second, so that a Gateway serves as soon as it can.
            "readinessProbe": probe("/readyz", 1, 3),
            "livenessProbe": probe("/healthz", 10, 6),
            "volumeMounts": [
                {"name": "portcullis-ca", "mountPath": format!("{}/ca", pod::MOUNT_ROOT), "readOnly": true},
                {"name": "portcullis-token", "mountPath": format!("{}/token", pod::MOUNT_ROOT), "readOnly": true},
            ],
        });
        if let Some(policy) = &self.options.image_pull_policy {
            container["imagePullPolicy"] = json!(policy);
        }
        container
    }

    fn arguments(&self) -> Vec<String> {
        let root = pod::MOUNT_ROOT;
        let mut arguments = vec!["data-plane".to_owned()];
        let mut add = |name: &str, value: String| arguments.push(format!("--{name}={value}"));
        add("gateway", self.infrastructure.gateway.to_string());
        add("gateway-uid", self.infrastructure.uid.to_string());
        add("controller", self.options.controller.clone());
        add("identity", self.options.identity.clone());
        add("ca-file", format!("{root}/ca/ca.crt"));
        add("token-file", format!("{root}/token/token"));
        add("pod-name", "$(POD_NAME)".to_owned());
        add("telemetry-address", format!("0.0.0.0:{TELEMETRY_PORT}"));
        add("shutdown-delay", seconds(self.shutdown_delay()));
        add("drain-timeout", seconds(self.drain_timeout()));
        add("access-log", "-".to_owned());
        if let Some(level) = self.parameters.log_level.as_ref().filter(|level| !matches!(level, LogLevel::Unknown(_))) {
            add("log-level", level.as_str().to_lowercase());
        }
        if let Some(workers) = self.parameters.workers {
            add("workers", workers.to_string());
        }
        arguments
    }

    fn shutdown_delay(&self) -> Duration {
        shutdown_delay(self.parameters)
    }

    fn drain_timeout(&self) -> Duration {
        parsed(self.parameters.drain_timeout.as_ref(), DRAIN_TIMEOUT)
    }
}

/// How long data planes go on accepting what is about to close.
pub(crate) fn shutdown_delay(parameters: &DataPlane) -> Duration {
    parsed(parameters.shutdown_delay.as_ref(), SHUTDOWN_DELAY)
}

/// What cannot be parsed has been refused before.
fn parsed(text: Option<&GatewayDuration>, default: Duration) -> Duration {
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// As the command line reads it: seconds.
fn seconds(duration: Duration) -> String {
    duration.as_secs_f64().to_string()
}

fn resources(asked: Option<&ResourceRequirements>) -> Value {
    let least =
        [("cpu", "5m"), ("memory", "32Mi")].map(|(name, text)| (name.to_owned(), IntOrString::String(text.to_owned())));
    let Some(asked) = asked else { return json!({"requests": BTreeMap::from(least)}) };
    // A limit without a request is the request too; what has neither keeps the least.
    let mut requests = asked.requests.clone();
    for (name, quantity) in least {
        if !asked.limits.contains_key(&name) {
            requests.entry(name).or_insert(quantity);
        }
    }
    let mut resources = json!({});
    for (name, quantities) in [("requests", &requests), ("limits", &asked.limits)] {
        if !quantities.is_empty() {
            resources[name] = json!(quantities);
        }
    }
    resources
}
