//! What comes out, as text for people: one line for each condition.

use std::fmt::Write as _;

use portcullis_api::ObjectKey;
use portcullis_api::gateway::{GatewayStatus, ListenerStatus};
use portcullis_api::gateway_class::GatewayClassStatus;
use portcullis_api::meta::Condition;
use portcullis_api::shared::{ParentReference, RouteStatus};
use portcullis_compile::{Compiled, Finding, ObjectStatus};
use serde_json::{Map, Value, json};

use super::Case;

/// `status.yaml`: statuses and findings, by object. Of GatewayClasses only those that the case's own input has.
pub(crate) fn status(compiled: &Compiled, case: &Case) -> String {
    let mut objects: Map<String, Value> = Map::new();
    for (key, status) in &compiled.statuses {
        if key.kind() == "GatewayClass" && !case.own.contains(key) {
            continue;
        }
        let status = match status {
            ObjectStatus::GatewayClass(status) => gateway_class(status, key.name() == "portcullis"),
            ObjectStatus::Gateway(status) => gateway(status),
            ObjectStatus::Route(status) => route(status),
        };
        objects.insert(name(key), status);
    }
    for (key, findings) in &compiled.findings {
        let entry = objects.entry(name(key)).or_insert_with(|| json!({}));
        entry["findings"] = findings.iter().map(finding).collect();
    }
    if let Some(at) = compiled.next_change_at {
        objects.insert("nextChangeAt".to_owned(), json!(at));
    }
    yaml(&Value::Object(objects))
}

/// `config.yaml`: the configuration of each Gateway.
pub(crate) fn config(compiled: &Compiled) -> String {
    yaml(&serde_json::to_value(&compiled.configs).unwrap())
}

/// `infrastructure.yaml`: what must exist for each Gateway.
pub(crate) fn infrastructure(compiled: &Compiled) -> String {
    yaml(&serde_json::to_value(&compiled.infrastructure).unwrap())
}

fn name(key: &ObjectKey) -> String {
    key.to_string()
}

fn gateway_class(status: &GatewayClassStatus, with_features: bool) -> Value {
    let mut value = json!({ "conditions": conditions(&status.conditions) });
    if with_features {
        value["supportedFeatures"] = status.supported_features.iter().map(|feature| feature.name.as_str()).collect();
    }
    value
}

fn gateway(status: &GatewayStatus) -> Value {
    let mut value = json!({});
    if !status.addresses.is_empty() {
        value["addresses"] = serde_json::to_value(&status.addresses).unwrap();
    }
    value["conditions"] = conditions(&status.conditions);
    value["listeners"] =
        status.listeners.iter().map(|listener| (listener.name.clone(), self::listener(listener))).collect();
    value
}

fn listener(status: &ListenerStatus) -> Value {
    let kinds = status.supported_kinds.iter().flatten();
    let kinds: Vec<_> = kinds.map(|kind| format!("{}/{}", kind.group(), kind.kind)).collect();
    json!({
        "attachedRoutes": status.attached_routes,
        "supportedKinds": kinds.join(" ").replace("gateway.networking.k8s.io/", ""),
        "conditions": conditions(&status.conditions),
    })
}

fn route(status: &RouteStatus) -> Value {
    let parents =
        status.parents.iter().map(|parent| (self::parent(&parent.parent_ref), conditions(&parent.conditions)));
    json!({ "parents": parents.collect::<Map<_, _>>() })
}

/// `Gateway infra/gw, sectionName http, port 80`, with what stands in the parentRef alone.
fn parent(parent_ref: &ParentReference) -> String {
    let mut text = String::new();
    if parent_ref.group.as_deref() != Some("gateway.networking.k8s.io") {
        write!(text, "{} ", parent_ref.group.as_deref().unwrap_or("(no group)")).unwrap();
    }
    write!(text, "{} ", parent_ref.kind.as_deref().unwrap_or("(no kind)")).unwrap();
    if let Some(namespace) = &parent_ref.namespace {
        write!(text, "{namespace}/").unwrap();
    }
    text.push_str(&parent_ref.name);
    if let Some(section) = &parent_ref.section_name {
        write!(text, ", sectionName {section}").unwrap();
    }
    if let Some(port) = parent_ref.port {
        write!(text, ", port {port}").unwrap();
    }
    text
}

fn conditions(conditions: &[Condition]) -> Value {
    let text = |condition: &Condition| {
        let generation = condition.observed_generation.map(|generation| format!(", generation {generation}"));
        let generation = generation.unwrap_or_default();
        format!("{} ({}{generation}) {}", condition.status.as_str(), condition.reason, condition.message)
    };
    Value::Object(conditions.iter().map(|condition| (condition.r#type.clone(), json!(text(condition)))).collect())
}

fn finding(finding: &Finding) -> Value {
    let mut value = serde_json::to_value(finding).unwrap();
    value.as_object_mut().unwrap().shift_remove("object");
    value
}

fn yaml(value: &Value) -> String {
    let mut text = serde_saphyr::to_string(value).unwrap();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
