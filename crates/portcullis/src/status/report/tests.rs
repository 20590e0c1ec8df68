use super::*;
use crate::cli::{OutputFormat, Selection};
use portcullis_cluster::{Definition, ServedKind, ServedSchema};

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}

fn condition(kind: &str, status: &str, message: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": "R", "message": message, "observedGeneration": 2,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn class(name: &str, controller: &str) -> Object {
    object(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": { "name": name, "generation": 1 },
        "spec": { "controllerName": controller },
        "status": { "conditions": [condition("Accepted", "True", "")] },
    }))
}

fn gateway(name: &str, class: &str, generation: i64, status: Value) -> Object {
    object(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": name, "namespace": "infra", "generation": generation, "uid": format!("uid-{name}") },
        "spec": { "gatewayClassName": class, "listeners": [{ "name": "http", "port": 80, "protocol": "HTTP" }] },
        "status": status,
    }))
}

fn route(name: &str, gateway: &str, status: Value) -> Object {
    object(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": name, "namespace": "app", "generation": 2 },
        "spec": { "parentRefs": [{ "name": gateway, "namespace": "infra" }] },
        "status": status,
    }))
}

fn parents(controller: &str, conditions: &[Value]) -> Value {
    json!({ "parents": [{
        "parentRef": { "name": "edge", "namespace": "infra" }, "controllerName": controller, "conditions": conditions,
    }] })
}

fn programmed() -> Value {
    json!({
        "addresses": [{ "type": "IPAddress", "value": "192.0.2.1" }, { "type": "IPAddress", "value": "192.0.2.2" }],
        "conditions": [condition("Accepted", "True", ""), condition("Programmed", "True", "")],
        "listeners": [{
            "name": "http", "attachedRoutes": 3, "supportedKinds": [], "conditions": [condition("Programmed", "True", "")],
        }],
    })
}

fn served() -> ServedSchema {
    ServedSchema {
        kinds: vec![ServedKind {
            group: "gateway.networking.k8s.io".to_owned(),
            kind: "Gateway".to_owned(),
            resource: "gateways".to_owned(),
            versions: vec!["v1".to_owned()],
            definition: Definition::Known {
                bundle_version: Some("v1.7.0".to_owned()),
                channel: Some("standard".to_owned()),
            },
        }],
    }
}

fn deployment(gateway: &str, wanted: i32, ready: i32) -> portcullis_cluster::Owned {
    let owner = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": gateway, "uid": format!("uid-{gateway}"),
        "controller": true,
    });
    portcullis_cluster::Owned {
        kind: portcullis_cluster::OwnedKind::Deployment,
        name: portcullis_model::ObjectName::new("infra", format!("{gateway}-portcullis")),
        state: Some(Box::new(OwnedState {
            uid: "d".to_owned(),
            generation: 1,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner_references: vec![serde_json::from_value(owner).unwrap()],
            deleting: false,
            details: OwnedDetails::Deployment(DeploymentState {
                desired_replicas: wanted,
                observed_generation: 1,
                replicas: wanted,
                updated_replicas: wanted,
                ready_replicas: ready,
                available_replicas: ready,
                conditions: Vec::new(),
            }),
        })),
    }
}

fn controller(available: i64) -> Controller {
    let deployment = json!({
        "kind": "Deployment",
        "metadata": { "name": "portcullis-controller", "namespace": "portcullis-system" },
        "spec": { "replicas": 1 },
        "status": { "replicas": 1, "updatedReplicas": 1, "availableReplicas": available },
    });
    Controller { deployment, trouble: (available == 0).then(|| "pod a: ImagePullBackOff".to_owned()) }
}

/// The rows, as `object | section | status | message`, and whether anything is wrong.
fn rows(
    objects: Vec<Object>,
    owned: Vec<portcullis_cluster::Owned>,
    controllers: &[Controller],
) -> (Vec<String>, bool) {
    let selection = Selection { namespace: None, all_namespaces: true, selector: None, output: OutputFormat::Table };
    let listing = Listing { objects, owned, served: served(), ..Listing::default() };
    let report = Report::new(&listing, controllers, &Selected::new(&selection).unwrap());
    let rows = report.lines.iter().map(|line| line.cells[1..].join(" | ")).collect();
    (rows, report.is_wrong())
}

#[test]
fn a_cluster_where_all_is_well() {
    let objects = vec![
        route("web", "edge", parents(CONTROLLER_NAME, &[condition("Accepted", "True", "")])),
        gateway("edge", "portcullis", 2, programmed()),
        class("portcullis", CONTROLLER_NAME),
    ];
    let (rows, wrong) = rows(objects, vec![deployment("edge", 2, 2)], &[controller(1)]);
    assert_eq!(
        rows,
        [
            "Gateway API |  | OK | v1.7.0, channel standard",
            "Deployment/portcullis-controller |  | OK | 1 of 1 pod ready",
            "GatewayClass/portcullis |  | OK | ",
            "Gateway/edge |  | OK | 192.0.2.1, 192.0.2.2",
            "Gateway/edge | listener http | OK | 3 attached routes",
            "Gateway/edge | data plane | OK | 2 of 2 pods ready, generation 2",
            "HTTPRoute/web | parent infra/edge | OK | ",
        ]
    );
    assert!(!wrong);
}

#[test]
fn what_is_of_other_controllers_is_not_shown() {
    let objects = vec![
        class("portcullis", CONTROLLER_NAME),
        class("other", "example.com/other"),
        gateway("theirs", "other", 1, Value::Null),
        route("theirs", "theirs", parents("example.com/other", &[condition("Accepted", "False", "no")])),
        // One that two controllers have judged: ours is shown.
        route("both", "edge", {
            let mut status = parents(CONTROLLER_NAME, &[condition("Accepted", "True", "")]);
            let theirs = parents("example.com/other", &[condition("Accepted", "False", "no")]);
            status["parents"].as_array_mut().unwrap().push(theirs["parents"][0].clone());
            status
        }),
        gateway("edge", "portcullis", 2, programmed()),
    ];
    let (rows, wrong) = rows(objects, vec![deployment("edge", 1, 1)], &[controller(1)]);
    assert!(!rows.iter().any(|row| row.contains("theirs") || row.contains("other")), "{rows:?}");
    assert!(!wrong, "{rows:?}");
}

#[test]
fn each_thing_that_is_wrong_has_a_row() {
    let waiting = json!({ "conditions": [
        condition("Accepted", "True", ""),
        condition("Programmed", "False", "No address has been assigned"),
    ] });
    let good = || parents(CONTROLLER_NAME, &[condition("Accepted", "True", "")]);
    let bad =
        parents(CONTROLLER_NAME, &[condition("Accepted", "True", ""), condition("ResolvedRefs", "False", "no b")]);
    let class = || class("portcullis", CONTROLLER_NAME);
    let edge = || gateway("edge", "portcullis", 2, programmed());
    let well = || vec![deployment("edge", 1, 1)];
    for (objects, owned, controllers, expected) in [
        (
            vec![class(), gateway("edge", "portcullis", 2, waiting)],
            well(),
            vec![controller(1)],
            "Gateway/edge |  | Programmed=False/R | No address has been assigned",
        ),
        (
            vec![class(), gateway("edge", "portcullis", 3, programmed())],
            well(),
            vec![controller(1)],
            "Gateway/edge |  | Outdated | The status is about generation 2, the object is at 3",
        ),
        (
            vec![class(), gateway("edge", "portcullis", 1, Value::Null)],
            vec![],
            vec![controller(1)],
            "Gateway/edge |  | Unknown | No controller has judged it",
        ),
        (
            vec![class(), edge()],
            vec![],
            vec![controller(1)],
            "Gateway/edge | data plane | Missing | It has no Deployment",
        ),
        (
            vec![class(), edge()],
            vec![deployment("edge", 2, 0)],
            vec![controller(1)],
            "Gateway/edge | data plane | Unavailable | 0 of 2 pods ready, generation 2",
        ),
        (
            vec![class(), edge()],
            vec![deployment("edge", 2, 1)],
            vec![controller(1)],
            "Gateway/edge | data plane | Degraded | 1 of 2 pods ready, generation 2",
        ),
        // Another Gateway's Deployment.
        (
            vec![class(), edge()],
            vec![deployment("other", 2, 2)],
            vec![controller(1)],
            "Gateway/edge | data plane | Missing | It has no Deployment",
        ),
        (
            vec![class(), edge(), route("web", "edge", bad)],
            well(),
            vec![controller(1)],
            "HTTPRoute/web | parent infra/edge | ResolvedRefs=False/R | no b",
        ),
        (
            vec![class(), edge(), route("web", "edge", Value::Null)],
            well(),
            vec![controller(1)],
            "HTTPRoute/web |  | Unknown | No controller has judged it",
        ),
        (
            vec![class(), edge(), route("web", "edge", good())],
            well(),
            vec![controller(0)],
            "Deployment/portcullis-controller |  | Unavailable | 0 of 1 pods are available, 1 up to date: pod a: ImagePullBackOff",
        ),
        (
            vec![class(), edge()],
            well(),
            vec![],
            "Deployment/portcullis-controller |  | Missing | No controller was found; portcullis install brings it",
        ),
        (
            vec![],
            vec![],
            vec![controller(1)],
            "GatewayClass |  | Missing | No GatewayClass has controllerName portcullis.dev/gateway-controller",
        ),
    ] {
        let (rows, wrong) = rows(objects, owned, &controllers);
        assert!(rows.iter().any(|row| row == expected), "{expected}: {rows:#?}");
        assert!(wrong, "{expected}");
    }
}

#[test]
fn text_of_others_is_shown_without_control_characters() {
    let bad = json!({ "conditions": [condition("Accepted", "False", "\u{1b}[31mred\nline")] });
    let objects = vec![class("portcullis", CONTROLLER_NAME), gateway("edge", "portcullis", 2, bad)];
    let (rows, _) = rows(objects, Vec::new(), &[controller(1)]);
    assert!(rows.iter().all(|row| !row.contains(['\u{1b}', '\n'])), "{rows:?}");
}
