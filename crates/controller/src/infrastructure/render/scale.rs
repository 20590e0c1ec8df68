//! How many pods there are, and how many may be evicted at a time.

use serde_json::json;

use super::{Context, Kind, Rendered};

/// Percent of the requested CPU.
const TARGET_CPU: i32 = 80;

impl Context<'_> {
    pub(super) fn disruption_budget(&self) -> Option<Rendered> {
        let mut spec = json!({
            "selector": {"matchLabels": self.names.selector()},
            // A pod that serves nobody never keeps a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        });
        match &self.parameters.pod_disruption_budget {
            None => spec["maxUnavailable"] = json!(1),
            Some(budget) if budget.disabled == Some(true) => return None,
            Some(budget) => match &budget.min_available {
                Some(least) => spec["minAvailable"] = json!(least),
                None => spec["maxUnavailable"] = budget.max_unavailable.as_ref().map_or(json!(1), |most| json!(most)),
            },
        }
        Some(self.object(Kind::PodDisruptionBudget, json!({"spec": spec})))
    }

    pub(super) fn autoscaler(&self) -> Option<Rendered> {
        let autoscaling = self.parameters.autoscaling.as_ref()?;
        let target = autoscaling.target_cpu_utilization.unwrap_or(TARGET_CPU);
        let spec = json!({
            "scaleTargetRef": {"apiVersion": Kind::Deployment.api_version(), "kind": "Deployment", "name": self.names.base},
            "minReplicas": autoscaling.min_replicas.unwrap_or(1),
            "maxReplicas": autoscaling.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": target}}}],
        });
        Some(self.object(Kind::HorizontalPodAutoscaler, json!({"spec": spec})))
    }
}
