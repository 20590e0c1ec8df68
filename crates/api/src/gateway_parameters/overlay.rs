//! One Gateway's own parameters over those of its class.

use super::{DataPlane, DataPlaneField, DataPlaneService};

/// What became of a class's data plane and a Gateway's own.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overlay {
    /// Both together.
    pub data_plane: DataPlane,
    /// Fields that the Gateway's own parameters set, and that its class does not let them set: they have no effect.
    pub ignored: Vec<DataPlaneField>,
}

impl DataPlane {
    /// This (a class's) data plane with the fields of a Gateway's own that the class allows. A field is replaced whole, lists and
    /// maps too; `replicas` and `autoscaling` replace each other.
    pub fn overlaid(&self, own: &Self, allowed: &[DataPlaneField]) -> Overlay {
        let mut overlay = Overlay { data_plane: self.clone(), ignored: Vec::new() };
        let set = own.fields_set().into_iter().filter(|(_, set)| *set).map(|(field, _)| field);
        if set.clone().any(|field| field.is_of_scale() && allowed.contains(&field)) {
            (overlay.data_plane.replicas, overlay.data_plane.autoscaling) = (None, None);
        }
        for field in set {
            if allowed.contains(&field) {
                overlay.data_plane.take(&field, own);
            } else {
                overlay.ignored.push(field);
            }
        }
        // Unknown fields come from a later release, and go the way of the known ones: only a class may set them.
        overlay
    }

    /// Every field that parameters can set, and whether this data plane sets it.
    fn fields_set(&self) -> [(DataPlaneField, bool); 24] {
        use DataPlaneField as Field;
        let service = |is_set: fn(&DataPlaneService) -> bool| self.service.as_deref().is_some_and(is_set);
        [
            (Field::Replicas, self.replicas.is_some()),
            (Field::Autoscaling, self.autoscaling.is_some()),
            (Field::Resources, self.resources.is_some()),
            (Field::NodeSelector, !self.node_selector.is_empty()),
            (Field::Affinity, self.affinity.is_some()),
            (Field::Tolerations, !self.tolerations.is_empty()),
            (Field::TopologySpreadConstraints, !self.topology_spread_constraints.is_empty()),
            (Field::PriorityClassName, self.priority_class_name.is_some()),
            (Field::ImagePullSecrets, !self.image_pull_secrets.is_empty()),
            (Field::ServiceType, service(|service| service.r#type.is_some())),
            (Field::ServiceAnnotations, service(|service| !service.annotations.is_empty())),
            (Field::ServiceLabels, service(|service| !service.labels.is_empty())),
            (Field::ServiceExternalTrafficPolicy, service(|service| service.external_traffic_policy.is_some())),
            (Field::ServiceLoadBalancerClass, service(|service| service.load_balancer_class.is_some())),
            (
                Field::ServiceLoadBalancerSourceRanges,
                service(|service| !service.load_balancer_source_ranges.is_empty()),
            ),
            (Field::PodDisruptionBudget, self.pod_disruption_budget.is_some()),
            (Field::PodLabels, !self.pod_labels.is_empty()),
            (Field::PodAnnotations, !self.pod_annotations.is_empty()),
            (Field::Pod, self.pod.is_some()),
            (Field::ShutdownDelay, self.shutdown_delay.is_some()),
            (Field::DrainTimeout, self.drain_timeout.is_some()),
            (Field::NetworkPolicy, self.network_policy.is_some()),
            (Field::LogLevel, self.log_level.is_some()),
            (Field::Workers, self.workers.is_some()),
        ]
    }

    fn take(&mut self, field: &DataPlaneField, own: &Self) {
        use DataPlaneField as Field;
        let own = own.clone();
        match field {
            Field::Replicas => self.replicas = own.replicas,
            Field::Autoscaling => self.autoscaling = own.autoscaling,
            Field::Resources => self.resources = own.resources,
            Field::NodeSelector => self.node_selector = own.node_selector,
            Field::Affinity => self.affinity = own.affinity,
            Field::Tolerations => self.tolerations = own.tolerations,
            Field::TopologySpreadConstraints => self.topology_spread_constraints = own.topology_spread_constraints,
            Field::PriorityClassName => self.priority_class_name = own.priority_class_name,
            Field::ImagePullSecrets => self.image_pull_secrets = own.image_pull_secrets,
            Field::PodDisruptionBudget => self.pod_disruption_budget = own.pod_disruption_budget,
            Field::PodLabels => self.pod_labels = own.pod_labels,
            Field::PodAnnotations => self.pod_annotations = own.pod_annotations,
            Field::Pod => self.pod = own.pod,
            Field::ShutdownDelay => self.shutdown_delay = own.shutdown_delay,
            Field::DrainTimeout => self.drain_timeout = own.drain_timeout,
            Field::NetworkPolicy => self.network_policy = own.network_policy,
            Field::LogLevel => self.log_level = own.log_level,
            Field::Workers => self.workers = own.workers,
            Field::ServiceType
            | Field::ServiceAnnotations
            | Field::ServiceLabels
            | Field::ServiceExternalTrafficPolicy
            | Field::ServiceLoadBalancerClass
            | Field::ServiceLoadBalancerSourceRanges => {
                let own = own.service.map(|service| *service).unwrap_or_default();
                self.service.get_or_insert_default().take(field, own);
            }
            Field::Unknown(_) => {}
        }
    }
}

impl DataPlaneField {
    /// The two ways to say how many pods there are.
    fn is_of_scale(&self) -> bool {
        matches!(self, Self::Replicas | Self::Autoscaling)
    }
}

impl DataPlaneService {
    fn take(&mut self, field: &DataPlaneField, own: Self) {
        use DataPlaneField as Field;
        match field {
            Field::ServiceType => self.r#type = own.r#type,
            Field::ServiceAnnotations => self.annotations = own.annotations,
            Field::ServiceLabels => self.labels = own.labels,
            Field::ServiceExternalTrafficPolicy => self.external_traffic_policy = own.external_traffic_policy,
            Field::ServiceLoadBalancerClass => self.load_balancer_class = own.load_balancer_class,
            Field::ServiceLoadBalancerSourceRanges => {
                self.load_balancer_source_ranges = own.load_balancer_source_ranges
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decode::decode;

    fn data_plane(value: Value) -> DataPlane {
        decode(value).unwrap()
    }

    /// A data plane in which every field is set.
    fn everything() -> Value {
        json!({
            "replicas": 2, "autoscaling": {"maxReplicas": 3}, "resources": {"requests": {"cpu": "1"}}, "nodeSelector": {"a": "b"},
            "affinity": {"nodeAffinity": {}}, "tolerations": [{"operator": "Exists"}],
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
            "priorityClassName": "high", "imagePullSecrets": [{"name": "pull"}],
            "service": {"type": "NodePort", "annotations": {"a": "b"}, "labels": {"a": "b"}, "externalTrafficPolicy": "Local",
                        "loadBalancerClass": "x/y", "loadBalancerSourceRanges": ["10.0.0.0/8"]},
            "podDisruptionBudget": {"disabled": true}, "podLabels": {"a": "b"}, "podAnnotations": {"a": "b"},
            "pod": {"spec": {"dnsPolicy": "Default"}}, "shutdownDelay": "1s", "drainTimeout": "2s", "networkPolicy": "Disabled",
            "logLevel": "Debug", "workers": 1,
        })
    }

    #[test]
    fn each_field_is_taken_when_its_class_allows_it_and_ignored_otherwise() {
        let own = data_plane(everything());
        assert!(own.extra.is_empty());
        assert_eq!(own.fields_set().len(), DataPlaneField::KNOWN.len());
        for (field, set) in own.fields_set() {
            assert!(set, "{field}: not set by the sample");
            let overlay = DataPlane::default().overlaid(&own, std::slice::from_ref(&field));
            let taken: Vec<_> =
                overlay.data_plane.fields_set().into_iter().filter(|(_, set)| *set).map(|(field, _)| field).collect();
            assert_eq!(taken, std::slice::from_ref(&field));
            assert_eq!(overlay.ignored.len(), DataPlaneField::KNOWN.len() - 1);
            assert!(!overlay.ignored.contains(&field));
        }
        let nothing = DataPlane::default().overlaid(&own, &[]);
        assert_eq!(nothing.data_plane, DataPlane::default());
        assert_eq!(nothing.ignored.len(), DataPlaneField::KNOWN.len());
        let all: Vec<DataPlaneField> = DataPlaneField::KNOWN.iter().map(|text| DataPlaneField::from(*text)).collect();
        assert_eq!(DataPlane::default().overlaid(&own, &all).data_plane, own);
    }

    #[test]
    fn what_a_gateway_does_not_set_stays_its_class_s() {
        let class = data_plane(
            json!({"replicas": 3, "podLabels": {"team": "red"}, "service": {"type": "NodePort", "labels": {"a": "b"}}}),
        );
        let allowed = [DataPlaneField::PodLabels, DataPlaneField::ServiceType, DataPlaneField::Autoscaling];
        let own = data_plane(
            json!({"podLabels": {"tier": "edge"}, "service": {"type": "ClusterIP"}, "autoscaling": {"maxReplicas": 9}}),
        );
        let overlay = class.overlaid(&own, &allowed);
        assert_eq!(
            overlay.data_plane,
            data_plane(json!({
                "podLabels": {"tier": "edge"}, "service": {"type": "ClusterIP", "labels": {"a": "b"}}, "autoscaling": {"maxReplicas": 9}
            }))
        );
        assert_eq!(overlay.ignored, []);
    }
}
