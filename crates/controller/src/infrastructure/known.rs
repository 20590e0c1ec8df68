//! What is known of objects that exist, and whose they are.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_compile::TransportProtocol;
use portcullis_model::ObjectName;
use serde_json::{Value, json};

use super::address::Asked;
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
/// carry its name, and an owner that is a Gateway or none at all.
pub(crate) fn claim(object: &Value, controller_name: &str) -> Claim {
    let metadata = &object["metadata"];
    let ours = metadata["labels"][MANAGED_BY.0] == MANAGED_BY.1
        && metadata["annotations"][CONTROLLER_NAME] == controller_name
        && metadata["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|owner| owner["controller"] != true || is_gateway(owner));
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
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|name, _| name != "managedFields");
    }
    match kind {
        Kind::Service => json!({"metadata": metadata, "spec": object["spec"].take()}),
        _ => json!({"metadata": metadata}),
    }
}

/// Whether an object is owned, and controlled, by this very Gateway.
pub(crate) fn is_owned_by(object: &Value, uid: &str) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners
        .into_iter()
        .any(|owner| owner["controller"] == true && is_gateway(owner) && owner["uid"] == uid && !uid.is_empty())
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
        }})
    }

    #[test]
    fn whose_an_object_is() {
        let ours = Claim::Gateway(ObjectName::new("infra", "edge"));
        for (place, value, expected) in [
            ("/metadata/name", json!("edge-portcullis"), &ours),
            ("/metadata/ownerReferences", json!([]), &ours),
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
        assert!(is_owned_by(&object(), "u"));
        assert!(!is_owned_by(&object(), "v"));
        assert!(!is_owned_by(&object(), ""));
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
