//! What of GatewayParameters cannot be honoured. The CRD refuses most of it when an object is written; these checks hold for
//! objects from elsewhere too, and for what only the parameters of a class and a Gateway together show.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::metadata::{MetadataKey, is_reserved, is_reserved_entry, is_reserved_label};
use super::{
    DataPlane, DataPlaneField, DataPlaneService, DisruptionBudget, ExternalTrafficPolicy, GatewayParameters, LogLevel,
    NetworkPolicyMode, Upstreams, pod,
};
use crate::meta::{IntOrString, is_dns_subdomain, is_label, is_label_key};
use crate::service::ServiceType;
use crate::shared::GatewayDuration;
use crate::text::Foreign;

/// A field that cannot be honoured.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParameterProblem {
    /// The field, as in `dataPlane.pod.spec.hostNetwork`, below `spec`.
    pub field: String,
    /// What is wrong, or what it must be.
    pub message: String,
}

impl ParameterProblem {
    pub(super) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Escaped, as fields may have names from a user.
impl fmt::Display for ParameterProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Foreign(&self.field), Foreign(&self.message))
    }
}

/// The longest that a pod may take to end.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);

impl GatewayParameters {
    /// What of these parameters cannot be honoured, in the order of the fields.
    pub fn problems(&self) -> Vec<ParameterProblem> {
        let mut found = self.spec.data_plane.as_deref().map(DataPlane::problems).unwrap_or_default();
        let mut refuse = |field: String, message: &str| found.push(ParameterProblem::new(field, message));
        if let Some(upstreams) = &self.spec.upstreams {
            check_upstreams(upstreams, &mut refuse);
        }
        for (index, field) in self.spec.allow_gateway_fields.iter().enumerate() {
            if let DataPlaneField::Unknown(text) = field {
                refuse(
                    format!("allowGatewayFields[{index}]"),
                    &format!("unknown field {:?}", Foreign(text).to_string()),
                );
            }
        }
        if let Some(allowance) = &self.spec.allow_gateway_metadata {
            check_allowance(allowance.labels.as_deref(), "allowGatewayMetadata.labels", true, &mut refuse);
            check_allowance(allowance.annotations.as_deref(), "allowGatewayMetadata.annotations", false, &mut refuse);
            for (name, _) in allowance.extra.iter() {
                refuse(format!("allowGatewayMetadata.{name}"), "unknown field");
            }
        }
        for (name, _) in self.spec.extra.iter() {
            refuse(name.to_owned(), "unknown field");
        }
        found
    }
}

impl DataPlane {
    /// What of this data plane cannot be honoured, in the order of the fields.
    pub fn problems(&self) -> Vec<ParameterProblem> {
        let mut found = Vec::new();
        let mut refuse =
            |field: String, message: &str| found.push(ParameterProblem::new(format!("dataPlane.{field}"), message));
        self.check_scale(&mut refuse);
        if let Some(resources) = &self.resources {
            check_quantities(&resources.requests, "resources.requests", &mut refuse);
            check_quantities(&resources.limits, "resources.limits", &mut refuse);
        }
        if self.affinity.as_ref().is_some_and(|affinity| !affinity.is_object()) {
            refuse("affinity".to_owned(), "must be a map of fields");
        }
        check_labels(&self.node_selector, "nodeSelector", false, &mut refuse);
        if let Some(service) = &self.service {
            check_service(service, &mut refuse);
        }
        if let Some(budget) = &self.pod_disruption_budget {
            check_budget(budget, &mut refuse);
        }
        check_labels(&self.pod_labels, "podLabels", true, &mut refuse);
        check_annotations(&self.pod_annotations, "podAnnotations", &mut refuse);
        check_delay(self.shutdown_delay.as_ref(), "shutdownDelay", &mut refuse);
        check_delay(self.drain_timeout.as_ref(), "drainTimeout", &mut refuse);
        if let Some(NetworkPolicyMode::Unknown(_)) = self.network_policy {
            refuse("networkPolicy".to_owned(), &one_of(NetworkPolicyMode::KNOWN));
        }
        if let Some(LogLevel::Unknown(_)) = self.log_level {
            refuse("logLevel".to_owned(), &one_of(LogLevel::KNOWN));
        }
        if self.workers.is_some_and(|workers| !(1..=1024).contains(&workers)) {
            refuse("workers".to_owned(), "must be between 1 and 1024");
        }
        for (name, _) in self.extra.iter() {
            refuse(name.to_owned(), "unknown field");
        }
        found.extend(self.pod.iter().flat_map(pod::problems));
        found
    }

    fn check_scale(&self, refuse: &mut impl FnMut(String, &str)) {
        if self.replicas.is_some_and(|replicas| replicas < 0) {
            refuse("replicas".to_owned(), "must not be negative");
        }
        let Some(autoscaling) = &self.autoscaling else { return };
        if self.replicas.is_some() {
            refuse("replicas".to_owned(), "must be absent where autoscaling is set");
        }
        let least = autoscaling.min_replicas.unwrap_or(1);
        if least < 1 {
            refuse("autoscaling.minReplicas".to_owned(), "must be at least 1");
        }
        if autoscaling.max_replicas < least {
            refuse("autoscaling.maxReplicas".to_owned(), "must not be less than minReplicas");
        }
        if autoscaling.target_cpu_utilization.is_some_and(|percent| percent < 1) {
            refuse("autoscaling.targetCPUUtilization".to_owned(), "must be at least 1");
        }
        let requests_cpu = self.resources.as_ref().is_some_and(|resources| resources.requests.contains_key("cpu"));
        if !requests_cpu {
            let message = "must be set where autoscaling is: the load is measured against it";
            refuse("resources.requests.cpu".to_owned(), message);
        }
    }
}

fn one_of(texts: &[&str]) -> String {
    format!("must be one of {}", texts.join(", "))
}

fn check_quantities(quantities: &BTreeMap<String, IntOrString>, field: &str, refuse: &mut impl FnMut(String, &str)) {
    for (name, quantity) in quantities {
        let holds = match quantity {
            IntOrString::Int(number) => *number >= 0,
            IntOrString::String(text) => is_quantity(text),
        };
        if !holds {
            refuse(format!("{field}.{name}"), "must be a quantity, as in 500m, 2 or 64Mi");
        }
    }
}

/// A decimal number that is not negative, with a suffix or exponent.
/// Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.
fn is_quantity(text: &str) -> bool {
    let number_end = text.bytes().position(|byte| !byte.is_ascii_digit() && byte != b'.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let is_number = |number: &str| {
        number.bytes().any(|byte| byte.is_ascii_digit()) && number.bytes().filter(|byte| *byte == b'.').count() <= 1
    };
    let is_exponent = || {
        let exponent = suffix.strip_prefix(['e', 'E']).map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
        exponent.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let suffixes = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    text.len() <= 64 && is_number(number) && (suffixes.contains(&suffix) || is_exponent())
}

fn check_service(service: &DataPlaneService, refuse: &mut impl FnMut(String, &str)) {
    if !matches!(
        service.r#type,
        None | Some(ServiceType::LoadBalancer | ServiceType::NodePort | ServiceType::ClusterIp)
    ) {
        refuse("service.type".to_owned(), "must be one of LoadBalancer, NodePort, ClusterIP");
    }
    check_annotations(&service.annotations, "service.annotations", refuse);
    check_labels(&service.labels, "service.labels", true, refuse);
    if let Some(ExternalTrafficPolicy::Unknown(_)) = service.external_traffic_policy {
        refuse("service.externalTrafficPolicy".to_owned(), &one_of(ExternalTrafficPolicy::KNOWN));
    }
    let is_balanced = matches!(service.r#type, None | Some(ServiceType::LoadBalancer));
    if !is_balanced && (service.load_balancer_class.is_some() || !service.load_balancer_source_ranges.is_empty()) {
        refuse(
            "service.type".to_owned(),
            "must be LoadBalancer where loadBalancerClass or loadBalancerSourceRanges is set",
        );
    }
    if service.r#type == Some(ServiceType::ClusterIp) && service.external_traffic_policy.is_some() {
        refuse("service.externalTrafficPolicy".to_owned(), "must be absent where the type is ClusterIP");
    }
    if service.load_balancer_class.as_deref().is_some_and(|class| !is_label_key(class)) {
        refuse("service.loadBalancerClass".to_owned(), "must be a name, as in example.com/balancer");
    }
    for (index, range) in service.load_balancer_source_ranges.iter().enumerate() {
        check_range(range, format!("service.loadBalancerSourceRanges[{index}]"), refuse);
    }
    for (name, _) in service.extra.iter() {
        refuse(format!("service.{name}"), "unknown field");
    }
}

fn check_budget(budget: &DisruptionBudget, refuse: &mut impl FnMut(String, &str)) {
    let disabled = budget.disabled == Some(true);
    let set = [budget.max_unavailable.is_some(), budget.min_available.is_some(), disabled];
    if set.iter().filter(|set| **set).count() != 1 {
        let message = "exactly one of maxUnavailable, minAvailable and disabled: true must be set";
        refuse("podDisruptionBudget".to_owned(), message);
    }
    for (value, name) in [(&budget.max_unavailable, "maxUnavailable"), (&budget.min_available, "minAvailable")] {
        let holds = match value {
            None => true,
            Some(IntOrString::Int(number)) => (0..=i64::from(i32::MAX)).contains(number),
            Some(IntOrString::String(text)) => text
                .strip_suffix('%')
                .and_then(|percent| percent.parse::<u8>().ok())
                .is_some_and(|percent| percent <= 100),
        };
        if !holds {
            refuse(format!("podDisruptionBudget.{name}"), "must be a number that is not negative, or a percentage");
        }
    }
}

fn check_labels(labels: &BTreeMap<String, String>, field: &str, ours: bool, refuse: &mut impl FnMut(String, &str)) {
    for (key, value) in labels {
        if !is_label(key, value) {
            refuse(format!("{field}.{key}"), "not a label: at most 63 letters, digits, '-', '_' or '.' on either side");
        } else if ours && is_reserved_label(key) {
            refuse(format!("{field}.{key}"), "set by the controller");
        }
    }
}

fn check_annotations(annotations: &BTreeMap<String, String>, field: &str, refuse: &mut impl FnMut(String, &str)) {
    for key in annotations.keys() {
        if !is_label_key(key) {
            refuse(format!("{field}.{key}"), "not an annotation: at most 63 letters, digits, '-', '_' or '.'");
        } else if is_reserved(key) {
            refuse(format!("{field}.{key}"), "set by the controller");
        }
    }
}

fn check_allowance(keys: Option<&[String]>, field: &str, is_label: bool, refuse: &mut impl FnMut(String, &str)) {
    for (index, text) in keys.unwrap_or_default().iter().enumerate() {
        let field = format!("{field}[{index}]");
        match MetadataKey::parse(text) {
            None => refuse(field, "must be a key, as in example.com/team, a prefix, as in example.com/, or *"),
            Some(entry) if is_reserved_entry(&entry, is_label) => refuse(field, "set by the controller"),
            Some(_) => {}
        }
    }
}

fn check_delay(delay: Option<&GatewayDuration>, field: &str, refuse: &mut impl FnMut(String, &str)) {
    match delay.map(GatewayDuration::parse) {
        None => {}
        Some(Ok(delay)) if delay <= LONGEST_DELAY => {}
        Some(Ok(_)) => refuse(field.to_owned(), "must not be more than 1h"),
        Some(Err(error)) => refuse(field.to_owned(), &error.to_string()),
    }
}

fn check_upstreams(upstreams: &Upstreams, refuse: &mut impl FnMut(String, &str)) {
    for (index, range) in upstreams.allowed_addresses.iter().enumerate() {
        check_range(range, format!("upstreams.allowedAddresses[{index}]"), refuse);
    }
    for (index, domain) in upstreams.allowed_external_names.iter().enumerate() {
        if !is_dns_subdomain(domain) {
            let message = "must be a domain in lower case, as in example.com; the names below it are allowed with it";
            refuse(format!("upstreams.allowedExternalNames[{index}]"), message);
        }
    }
    for (name, _) in upstreams.extra.iter() {
        refuse(format!("upstreams.{name}"), "unknown field");
    }
}

fn check_range(range: &str, field: String, refuse: &mut impl FnMut(String, &str)) {
    let parts = range.split_once('/').and_then(|(address, length)| {
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        Some((address.parse::<IpAddr>().ok()?, if digits { length.parse::<u8>().ok()? } else { return None }))
    });
    let longest = |address| if matches!(address, IpAddr::V4(_)) { 32 } else { 128 };
    if parts.is_none_or(|(address, length)| length > longest(address)) {
        refuse(field, "must be a range in CIDR notation, as in 10.0.0.0/8 or fd00::/8");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decode::decode;

    fn said(spec: Value) -> Vec<String> {
        let value = json!({"apiVersion": "portcullis.dev/v1alpha1", "kind": "GatewayParameters", "metadata": {"name": "p"}, "spec": spec});
        decode::<GatewayParameters>(value).unwrap().problems().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_can_be_honoured() {
        for spec in [
            json!({}),
            json!({"dataPlane": {}}),
            json!({"dataPlane": {"replicas": 0}}),
            json!({"dataPlane": {"autoscaling": {"maxReplicas": 1}, "resources": {"requests": {"cpu": 1}}}}),
            json!({"dataPlane": {"resources": {"requests": {"cpu": "0.5", "memory": "1e3"}, "limits": {"memory": "64Mi", "example.com/x": 2}}}}),
            json!({"dataPlane": {"service": {"type": "NodePort", "externalTrafficPolicy": "Local"}}}),
            json!({"dataPlane": {"service": {"loadBalancerClass": "example.com/x", "loadBalancerSourceRanges": ["10.0.0.0/8", "::/0"]}}}),
            json!({"dataPlane": {"podDisruptionBudget": {"minAvailable": "50%"}, "shutdownDelay": "0s", "drainTimeout": "1h"}}),
            json!({"dataPlane": {"podLabels": {"example.com/team": "red"}, "podAnnotations": {"a": "any text\u{e9}"}}}),
            json!({"upstreams": {"allowedAddresses": ["169.254.0.0/16"], "allowedExternalNames": ["example.com"]}}),
            json!({"allowGatewayFields": ["dataPlane.replicas", "dataPlane.service.type"]}),
            json!({"allowGatewayMetadata": {}}),
            json!({"allowGatewayMetadata": {"labels": [], "annotations": ["*", "team", "app", "example.com/", "example.com/team"]}}),
        ] {
            assert_eq!(said(spec.clone()), Vec::<String>::new(), "{spec}");
        }
    }

    #[test]
    fn what_cannot_be_honoured() {
        let of = |data_plane: Value| json!({"dataPlane": data_plane});
        let service = |service: Value| json!({"dataPlane": {"service": service}});
        for (spec, expected) in [
            (of(json!({"replicas": -1})), "dataPlane.replicas: must not be negative"),
            (
                of(json!({"autoscaling": {"maxReplicas": 2}})),
                "dataPlane.resources.requests.cpu: must be set where autoscaling is",
            ),
            (
                of(json!({"autoscaling": {"minReplicas": 3, "maxReplicas": 2}})),
                "autoscaling.maxReplicas: must not be less",
            ),
            (
                of(json!({"autoscaling": {"minReplicas": 0, "maxReplicas": 2}})),
                "autoscaling.minReplicas: must be at least 1",
            ),
            (of(json!({"autoscaling": {"maxReplicas": 2}, "replicas": 2})), "dataPlane.replicas: must be absent"),
            (
                of(json!({"resources": {"limits": {"memory": "much"}}})),
                "dataPlane.resources.limits.memory: must be a quantity",
            ),
            (
                of(json!({"resources": {"limits": {"memory": "-1"}}})),
                "dataPlane.resources.limits.memory: must be a quantity",
            ),
            (
                of(json!({"resources": {"limits": {"memory": -1}}})),
                "dataPlane.resources.limits.memory: must be a quantity",
            ),
            (
                of(json!({"resources": {"limits": {"memory": "1.2.3"}}})),
                "dataPlane.resources.limits.memory: must be a quantity",
            ),
            (of(json!({"nodeSelector": {"a b": "c"}})), "dataPlane.nodeSelector.a b: not a label"),
            (service(json!({"type": "ExternalName"})), "dataPlane.service.type: must be one of"),
            (service(json!({"type": "Novel"})), "dataPlane.service.type: must be one of"),
            (
                service(json!({"type": "ClusterIP", "externalTrafficPolicy": "Local"})),
                "service.externalTrafficPolicy: must be absent",
            ),
            (
                service(json!({"type": "ClusterIP", "loadBalancerClass": "a/b"})),
                "dataPlane.service.type: must be LoadBalancer",
            ),
            (
                service(json!({"externalTrafficPolicy": "Novel"})),
                "service.externalTrafficPolicy: must be one of Cluster, Local",
            ),
            (
                service(json!({"loadBalancerSourceRanges": ["10.0.0.0"]})),
                "service.loadBalancerSourceRanges[0]: must be a range",
            ),
            (
                service(json!({"loadBalancerSourceRanges": ["10.0.0.0/33"]})),
                "service.loadBalancerSourceRanges[0]: must be a range",
            ),
            (
                service(json!({"loadBalancerSourceRanges": ["10.0.0.0/+8"]})),
                "service.loadBalancerSourceRanges[0]: must be a range",
            ),
            (
                service(json!({"labels": {"app.kubernetes.io/name": "x"}})),
                "app.kubernetes.io/name: set by the controller",
            ),
            (
                service(json!({"annotations": {"portcullis.dev/gateway-name": "x"}})),
                "gateway-name: set by the controller",
            ),
            (service(json!({"novelty": 1})), "dataPlane.service.novelty: unknown field"),
            (of(json!({"podDisruptionBudget": {}})), "dataPlane.podDisruptionBudget: exactly one of"),
            (of(json!({"podDisruptionBudget": {"disabled": false}})), "dataPlane.podDisruptionBudget: exactly one of"),
            (of(json!({"podDisruptionBudget": {"maxUnavailable": 1, "minAvailable": 1}})), "exactly one of"),
            (
                of(json!({"podDisruptionBudget": {"maxUnavailable": "some"}})),
                "podDisruptionBudget.maxUnavailable: must be",
            ),
            (
                of(json!({"podDisruptionBudget": {"maxUnavailable": "101%"}})),
                "podDisruptionBudget.maxUnavailable: must be",
            ),
            (of(json!({"podLabels": {"app": "x"}})), "dataPlane.podLabels.app: set by the controller"),
            (of(json!({"podLabels": {"a": "b c"}})), "dataPlane.podLabels.a: not a label"),
            (of(json!({"podAnnotations": {"a b": ""}})), "dataPlane.podAnnotations.a b: not an annotation"),
            (of(json!({"shutdownDelay": "5"})), "dataPlane.shutdownDelay: a duration is"),
            (of(json!({"drainTimeout": "2h"})), "dataPlane.drainTimeout: must not be more than 1h"),
            (of(json!({"networkPolicy": "Maybe"})), "dataPlane.networkPolicy: must be one of Enabled, Disabled"),
            (of(json!({"logLevel": "info"})), "dataPlane.logLevel: must be one of Error"),
            (of(json!({"workers": 0})), "dataPlane.workers: must be between 1 and 1024"),
            (of(json!({"novelty": 1})), "dataPlane.novelty: unknown field"),
            (of(json!({"affinity": []})), "dataPlane.affinity: must be a map"),
            (of(json!({"pod": {"spec": {"hostPID": true}}})), "dataPlane.pod.spec.hostPID: "),
            (
                json!({"upstreams": {"allowedAddresses": ["localhost"]}}),
                "upstreams.allowedAddresses[0]: must be a range",
            ),
            (
                json!({"upstreams": {"allowedExternalNames": ["*.example.com"]}}),
                "upstreams.allowedExternalNames[0]: must be a domain",
            ),
            (json!({"allowGatewayFields": ["replicas"]}), "allowGatewayFields[0]: unknown field \"replicas\""),
            (json!({"guardrails": {}}), "guardrails: unknown field"),
            (
                json!({"allowGatewayMetadata": {"labels": ["example.com/*"]}}),
                "allowGatewayMetadata.labels[0]: must be a key",
            ),
            (json!({"allowGatewayMetadata": {"labels": ["a", "/"]}}), "allowGatewayMetadata.labels[1]: must be a key"),
            (json!({"allowGatewayMetadata": {"labels": ["app"]}}), "labels[0]: set by the controller"),
            (
                json!({"allowGatewayMetadata": {"annotations": ["portcullis.dev/"]}}),
                "annotations[0]: set by the controller",
            ),
            (json!({"allowGatewayMetadata": {"annotations": ["app.kubernetes.io/name"]}}), "annotations[0]: set by"),
            (json!({"allowGatewayMetadata": {"keys": []}}), "allowGatewayMetadata.keys: unknown field"),
        ] {
            let said = said(spec.clone());
            assert!(said.iter().any(|problem| problem.contains(expected)), "{spec}: {said:?}");
        }
    }

    #[test]
    fn quantities() {
        for text in ["0", "1", "0.5", ".5", "5.", "100m", "64Mi", "1e3", "1E-3", "2k", "1Ei", "1E"] {
            assert!(is_quantity(text), "{text}");
        }
        for text in ["", ".", "m", "1 ", " 1", "-1", "+1", "1mi", "1e", "1e+", "1.2.3", "0x1", "1KiB"] {
            assert!(!is_quantity(text), "{text}");
        }
    }
}
