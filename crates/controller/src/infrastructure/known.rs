//! What is known of objects that exist, and whose they are.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_compile::TransportProtocol;
use portcullis_model::ObjectName;
use serde_json::{Value, json};

use super::address::Asked;
use super::apply::FIELD_MANAGER;
use super::kind::Kind;
use super::names::{CONTROLLER_NAME, FULL_GATEWAY_NAME, MANAGED_BY};

/// An object of a data plane that exists.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) uid: String,
    /// Changes with every change: the generation where a kind has one, else the resource version.
    pub(crate) mark: String,
    /// The hash of what was applied last; nothing if that is not known, or another has changed the object since.
    pub(crate) applied: Option<u64>,
    /// The resource version.
    pub(crate) version: String,
    /// Whether it has no owner any more.
    pub(crate) is_orphan: bool,
    /// Whether it was made by POST, and nothing has been applied since.
    pub(crate) was_posted: bool,
    /// Of a Service.
    pub(crate) service: Option<KnownService>,
}

/// What is known of a Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct KnownService {
    pub(crate) asked: Asked,
    pub(crate) ports: BTreeSet<(u16, TransportProtocol)>,
    /// What was applied last.
    pub(crate) body: Option<Arc<Value>>,
}

impl Known {
    /// Reads an object as the API server gives it.
    pub(crate) fn read(kind: Kind, object: &Value) -> Self {
        let metadata = &object["metadata"];
        let mark = match metadata["generation"].as_i64() {
            Some(generation) if generation > 0 => generation.to_string(),
            _ => text(&metadata["resourceVersion"]).to_owned(),
        };
        Self {
            uid: text(&metadata["uid"]).to_owned(),
            mark,
            applied: None,
            version: text(&metadata["resourceVersion"]).to_owned(),
            is_orphan: owners(object).all(|owner| owner["controller"] != true),
            was_posted: posted_entry(object).is_some(),
            service: (kind == Kind::Service).then(|| KnownService::read(&object["spec"])),
        }
    }
}

impl KnownService {
    fn read(spec: &Value) -> Self {
        let address = |name: &str| text(&spec[name]).parse::<IpAddr>().ok();
        let asked = Asked {
            is_cluster_ip: text(&spec["type"]) == "ClusterIP",
            load_balancer_ip: address("loadBalancerIP"),
            cluster_ip: address("clusterIP"),
        };
        let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|port| {
            let number = u16::try_from(port["port"].as_u64()?).ok()?;
            let udp = port["protocol"] == "UDP";
            Some((number, if udp { TransportProtocol::Udp } else { TransportProtocol::Tcp }))
        });
        Self { asked, ports: ports.collect(), body: None }
    }
}

/// Whose an object is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    /// This Gateway's, by its UID or, after the Gateway was made anew, by the name in our annotation.
    Gateway(ObjectName),
    /// Not of this controller's making.
    Foreign,
}

/// Whose an object is, as far as it says so itself. Labels alone are not enough: anybody can write them, but a controller's own objects
/// carry its name, and an owner that is a Gateway, or none at all and fields that we wrote.
pub(crate) fn claim(object: &Value, controller_name: &str) -> Claim {
    let metadata = &object["metadata"];
    let ours = metadata["labels"][MANAGED_BY.0] == MANAGED_BY.1
        && metadata["annotations"][CONTROLLER_NAME] == controller_name
        && match owners(object).find(|owner| owner["controller"] == true) {
            Some(owner) => is_gateway(owner),
            None => managers(object).any(|(_, entry)| entry["manager"] == FIELD_MANAGER),
        };
    match (ours, metadata["annotations"][FULL_GATEWAY_NAME].as_str()) {
        (true, Some(name)) => Claim::Gateway(ObjectName::new(text(&metadata["namespace"]), name)),
        _ => Claim::Foreign,
    }
}

/// What is needed of an object that was listed: whose it is, and what [`Known::read`] reads.
pub(crate) fn slimmed(kind: Kind, mut object: Value) -> Value {
    let mut metadata = object["metadata"].take();
    if let Some(annotations) = metadata["annotations"].as_object_mut() {
        annotations.retain(|name, _| [CONTROLLER_NAME, FULL_GATEWAY_NAME].contains(&name.as_str()));
    }
    if let Some(Value::Array(entries)) = metadata.get_mut("managedFields") {
        entries.retain(|entry| entry["manager"] == FIELD_MANAGER);
        entries.iter_mut().filter_map(Value::as_object_mut).for_each(|entry| _ = entry.remove("fieldsV1"));
    }
    match kind {
        Kind::Service => json!({"metadata": metadata, "spec": object["spec"].take()}),
        _ => json!({"metadata": metadata}),
    }
}

/// Whether an object is owned, and controlled, by this very Gateway.
pub(crate) fn is_owned_by(object: &Value, uid: &str) -> bool {
    owners(object)
        .any(|owner| owner["controller"] == true && is_gateway(owner) && owner["uid"] == uid && !uid.is_empty())
}

/// Which entry of `managedFields` says that we made the object by POST; nothing once something was applied.
pub(crate) fn posted_entry(object: &Value) -> Option<usize> {
    let ours =
        || managers(object).filter(|(_, entry)| entry["manager"] == FIELD_MANAGER && entry["subresource"].is_null());
    let posted = ours().find(|(_, entry)| entry["operation"] == "Update").map(|(index, _)| index);
    posted.filter(|_| ours().all(|(_, entry)| entry["operation"] != "Apply"))
}

fn managers(object: &Value) -> impl Iterator<Item = (usize, &Value)> {
    object["metadata"]["managedFields"].as_array().into_iter().flatten().enumerate()
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

fn is_gateway(owner: &Value) -> bool {
    owner["kind"] == "Gateway" && text(&owner["apiVersion"]).starts_with("gateway.networking.k8s.io/")
}

/// Whether an object has everything that was applied: maps may have more, and lists may have more and another order.
pub(crate) fn holds(observed: &Value, applied: &Value) -> bool {
    match (observed, applied) {
        (Value::Object(observed), Value::Object(applied)) => {
            applied.iter().all(|(name, value)| observed.get(name).is_some_and(|observed| holds(observed, value)))
        }
        (Value::Array(observed), Value::Array(applied)) => {
            applied.iter().all(|value| observed.iter().any(|observed| holds(observed, value)))
        }
        _ => observed == applied,
    }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> Value {
        json!({"metadata": {
            "name": "edge-portcullis", "namespace": "infra",
            "labels": {"app.kubernetes.io/managed-by": "portcullis"},
            "annotations": {"portcullis.dev/controller-name": "portcullis.dev/gateway-controller", "portcullis.dev/gateway-name": "edge"},
            "ownerReferences": [{"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "edge", "uid": "u", "controller": true}],
            "managedFields": [{"manager": "portcullis-controller", "operation": "Apply"}],
        }})
    }

    #[test]
    fn whose_an_object_is() {
        let ours = Claim::Gateway(ObjectName::new("infra", "edge"));
        for (place, value, expected) in [
            ("/metadata/name", json!("edge-portcullis"), &ours),
            ("/metadata/ownerReferences", json!([]), &ours),
            ("/metadata/ownerReferences/0/controller", json!(false), &ours),
            ("/metadata/managedFields", json!([]), &ours),
            ("/metadata/ownerReferences/0/uid", json!("older"), &ours),
            ("/metadata/labels", json!({}), &Claim::Foreign),
            ("/metadata/labels/app.kubernetes.io~1managed-by", json!("Helm"), &Claim::Foreign),
            (
                "/metadata/annotations/portcullis.dev~1controller-name",
                json!("other.example/controller"),
                &Claim::Foreign,
            ),
            ("/metadata/annotations", json!({}), &Claim::Foreign),
            ("/metadata/ownerReferences/0/kind", json!("Deployment"), &Claim::Foreign),
            ("/metadata/ownerReferences/0/apiVersion", json!("example.com/v1"), &Claim::Foreign),
        ] {
            let mut object = object();
            *object.pointer_mut(place).unwrap() = value.clone();
            assert_eq!(&claim(&object, "portcullis.dev/gateway-controller"), expected, "{place} {value}");
        }
        // Who has no owner must have been written by us.
        let mut orphan = object();
        orphan["metadata"]["ownerReferences"] = json!([]);
        orphan["metadata"]["managedFields"][0]["manager"] = json!("kubectl");
        assert_eq!(claim(&orphan, "portcullis.dev/gateway-controller"), Claim::Foreign);
        assert!(is_owned_by(&object(), "u"));
        assert!(!is_owned_by(&object(), "v"));
        assert!(!is_owned_by(&object(), ""));
    }

    #[test]
    fn how_an_object_was_made() {
        let entry = |manager: &str, operation: &str| json!({"manager": manager, "operation": operation});
        let (posted, applied) = (entry(FIELD_MANAGER, "Update"), entry(FIELD_MANAGER, "Apply"));
        let mut status = posted.clone();
        status["subresource"] = json!("status");
        for (managers, expected) in [
            (vec![], None),
            (vec![entry("kubectl", "Update"), posted.clone()], Some(1)),
            (vec![applied.clone()], None),
            (vec![posted, applied], None),
            (vec![status], None),
        ] {
            let object = json!({"metadata": {"managedFields": managers}});
            assert_eq!(posted_entry(&object), expected, "{object}");
            assert_eq!(posted_entry(&slimmed(Kind::ConfigMap, object)).is_some(), expected.is_some());
        }
    }

    #[test]
    fn what_was_applied_is_still_there() {
        let applied = json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 80}, {"port": 443}]}});
        for (observed, expected) in [
            (applied.clone(), true),
            (
                json!({"spec": {"type": "LoadBalancer", "clusterIP": "x", "ports": [{"port": 443, "nodePort": 1}, {"port": 80}]}}),
                true,
            ),
            (json!({"spec": {"type": "NodePort", "ports": [{"port": 80}, {"port": 443}]}}), false),
            (json!({"spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}), false),
            (json!({}), false),
        ] {
            assert_eq!(holds(&observed, &applied), expected, "{observed}");
        }
    }
}
