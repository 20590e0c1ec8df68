//! A table: the Services of a data plane and what it says, and the status that comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_compile::{AddressKind, AddressRequest, AddressScope, TransportProtocol};
use portcullis_model::ObjectName;
use serde_json::{Value, json};

use super::*;

fn infrastructure(requests: &[(AddressKind, AddressScope)]) -> Infrastructure {
    let request = |(index, (kind, scope)): (usize, &(AddressKind, AddressScope))| AddressRequest {
        index,
        kind: kind.clone(),
        scope: scope.clone(),
    };
    Infrastructure {
        gateway: ObjectName::new("infra", "web"),
        uid: "u1".into(),
        generation: 4,
        gateway_class: "portcullis".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ports: BTreeSet::from([(80, TransportProtocol::Tcp)]),
        addresses: requests.iter().enumerate().map(request).collect(),
        parameters: Some(Arc::default()),
    }
}

fn service(spec: Value, ingress: Value) -> Service {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "infra"},
        "spec": spec, "status": {"loadBalancer": {"ingress": ingress}},
    }))
    .unwrap()
}

fn load_balancer(ips: &[&str]) -> Service {
    let ingress = ips.iter().map(|ip| json!({"ip": ip})).collect();
    service(json!({"type": "LoadBalancer", "clusterIP": "10.96.0.9"}), ingress)
}

fn cluster_ip(ip: &str) -> Service {
    service(json!({"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip]}), json!([]))
}

fn compiled(programmed: &str, reason: &str) -> GatewayStatus {
    let conditions = |reason: &str, status: &str| {
        json!([
            {"type": "Accepted", "status": "True", "observedGeneration": 4, "reason": "Accepted", "message": ""},
            {"type": "Programmed", "status": status, "observedGeneration": 4, "reason": reason, "message": "from the compiler"},
        ])
    };
    serde_json::from_value(json!({
        "conditions": conditions(reason, programmed),
        "listeners": [
            {"name": "good", "conditions": conditions("Programmed", "True")},
            {"name": "bad", "conditions": conditions("Invalid", "False")},
        ],
    }))
    .unwrap()
}

fn serving() -> DataPlanes {
    DataPlanes { programmed: true, ..DataPlanes::default() }
}

fn reason<'a>(conditions: &'a [Condition], name: &str) -> &'a str {
    conditions.iter().find(|condition| condition.r#type == name).map_or("-", |condition| {
        assert_eq!(condition.observed_generation, Some(4));
        &condition.reason
    })
}

fn ip(text: &str) -> AddressKind {
    AddressKind::Ip(text.parse().unwrap())
}

#[test]
fn addresses_satisfy_requests_as_gep_5093_says() {
    use AddressKind::Any;
    use AddressScope::{Cluster, Default, Sentinel};
    let unknown = || AddressScope::Unknown("example.com/wan".into());
    let hostname = || AddressKind::Hostname("web.example".into());
    let lb = load_balancer;
    // Requests; Services; addresses with their routability; reasons of AddressesAssigned and Programmed.
    type Row<'a> = (Vec<(AddressKind, AddressScope)>, Vec<Service>, &'a [&'a str], &'a str, &'a str);
    let table: Vec<Row<'_>> = vec![
        (vec![], vec![], &[], "-", "AddressNotAssigned"),
        (vec![], vec![lb(&[])], &[], "NotAssigned", "AddressNotAssigned"),
        (vec![], vec![lb(&["1.1.1.1"])], &["1.1.1.1 ''"], "AddressesAssigned", "Programmed"),
        (vec![], vec![lb(&["1.1.1.1", "::1"])], &["1.1.1.1 ''", "::1 ''"], "AddressesAssigned", "Programmed"),
        (vec![], vec![cluster_ip("10.96.0.1")], &["10.96.0.1 'Cluster'"], "AddressesAssigned", "Programmed"),
        (vec![], vec![cluster_ip("None")], &[], "NotAssigned", "AddressNotAssigned"),
        (vec![(Any, Default)], vec![lb(&["1.1.1.1"])], &["1.1.1.1 ''"], "AddressesAssigned", "Programmed"),
        (vec![(Any, Default)], vec![lb(&["1.1.1.1", "::1"])], &["1.1.1.1 ''"], "AddressesAssigned", "Programmed"),
        (
            vec![(Any, Sentinel)],
            vec![lb(&["1.1.1.1"])],
            &["1.1.1.1 'testing.x-k8s.io/sentinel'"],
            "AddressesAssigned",
            "Programmed",
        ),
        (vec![(ip("1.1.1.1"), Default)], vec![lb(&["1.1.1.1"])], &["1.1.1.1 ''"], "AddressesAssigned", "Programmed"),
        (vec![(ip("1.1.1.1"), Default)], vec![lb(&[])], &[], "NotAssigned", "AddressNotUsable"),
        (vec![(ip("1.1.1.1"), Default)], vec![lb(&["2.2.2.2"])], &[], "NotAssigned", "AddressNotUsable"),
        (
            vec![(ip("9.9.9.9"), Default), (ip("1.1.1.1"), Default)],
            vec![lb(&["1.1.1.1"]), lb(&[])],
            &["1.1.1.1 ''"],
            "PartiallyAssigned",
            "AddressNotUsable",
        ),
        (vec![(hostname(), Default)], vec![lb(&["1.1.1.1"])], &[], "NotAssigned", "AddressNotAssigned"),
        (vec![(Any, unknown())], vec![lb(&["1.1.1.1"])], &[], "NotAssigned", "AddressNotAssigned"),
        (
            vec![(Any, unknown()), (Any, Default)],
            vec![lb(&["1.1.1.1"])],
            &["1.1.1.1 ''"],
            "PartiallyAssigned",
            "Programmed",
        ),
        (vec![(Any, Cluster)], vec![lb(&["1.1.1.1"])], &[], "NotAssigned", "AddressNotAssigned"),
        (
            vec![(Any, Default), (Any, Cluster)],
            vec![cluster_ip("10.96.0.1"), lb(&["1.1.1.1"])],
            &["1.1.1.1 ''", "10.96.0.1 'Cluster'"],
            "AddressesAssigned",
            "Programmed",
        ),
        (
            vec![(Any, Default), (Any, Cluster)],
            vec![cluster_ip("10.96.0.1"), lb(&[])],
            &["10.96.0.1 'Cluster'"],
            "PartiallyAssigned",
            "Programmed",
        ),
        (
            vec![(ip("8.8.8.8"), Cluster), (Any, Default)],
            vec![cluster_ip("10.96.0.1"), lb(&["1.1.1.1"])],
            &["1.1.1.1 ''"],
            "PartiallyAssigned",
            "Programmed",
        ),
        (
            vec![(Any, Default), (ip("1.1.1.1"), Default)],
            vec![lb(&["1.1.1.1"]), lb(&["2.2.2.2"])],
            &["2.2.2.2 ''", "1.1.1.1 ''"],
            "AddressesAssigned",
            "Programmed",
        ),
    ];
    for (requests, services, addresses, assigned, programmed) in table {
        let facts =
            Facts { services: services.iter().collect(), nodes: &[], routability: true, data_planes: serving() };
        let status = overlay(&compiled("True", "Programmed"), &infrastructure(&requests), &facts);
        let shown = |address: &portcullis_api::gateway::GatewayStatusAddress| {
            assert!(address.r#type.is_some());
            format!("{} '{}'", address.value, address.routability.as_ref().unwrap())
        };
        let case = format!("{requests:?} {services:?}");
        assert_eq!(status.addresses.iter().map(shown).collect::<Vec<_>>(), addresses, "{case}");
        assert_eq!(reason(&status.conditions, "AddressesAssigned"), assigned, "{case}");
        assert_eq!(reason(&status.conditions, "Programmed"), programmed, "{case}");
    }
}

#[test]
fn programmed_says_what_the_data_planes_say() {
    let refused = vec![("pod-a".to_owned(), "port 80 is in use\nby x".to_owned())];
    // What the compiler says, what the data planes say; reasons of Programmed, of the good listener's, and whether all are up to date.
    for (compiled_as, data_planes, programmed, listener, up_to_date) in [
        (("True", "Programmed"), serving(), "Programmed", "Programmed", "UpToDate"),
        (("True", "Programmed"), DataPlanes::default(), "Pending", "Pending", "-"),
        (("False", "Invalid"), serving(), "Invalid", "Programmed", "UpToDate"),
        (("False", "Invalid"), DataPlanes::default(), "Invalid", "Pending", "-"),
        (("True", "Programmed"), DataPlanes { is_lost: true, ..serving() }, "NoResources", "NoResources", "UpToDate"),
        (
            ("True", "Programmed"),
            DataPlanes { refused: refused.clone(), ..serving() },
            "Programmed",
            "Programmed",
            "Refused",
        ),
        (("True", "Programmed"), DataPlanes { refused, ..DataPlanes::default() }, "Pending", "Pending", "Refused"),
        (
            ("True", "Programmed"),
            DataPlanes { lagging: vec!["pod-a".into()], ..serving() },
            "Programmed",
            "Programmed",
            "Lagging",
        ),
    ] {
        let service = load_balancer(&["1.1.1.1"]);
        let facts = Facts { services: vec![&service], nodes: &[], routability: false, data_planes };
        let status = overlay(&compiled(compiled_as.0, compiled_as.1), &infrastructure(&[]), &facts);
        assert_eq!(reason(&status.conditions, "Programmed"), programmed, "{facts:?}");
        assert_eq!(reason(&status.listeners[0].conditions, "Programmed"), listener, "{facts:?}");
        assert_eq!(reason(&status.listeners[1].conditions, "Programmed"), "Invalid", "{facts:?}");
        assert_eq!(reason(&status.conditions, UP_TO_DATE), up_to_date, "{facts:?}");
        assert!(status.addresses[0].routability.is_none());
        for condition in &status.conditions {
            assert!(!condition.message.contains('\n'), "{}", condition.message);
        }
    }
}

#[test]
fn messages_name_some_pods_and_count_the_others() {
    let pods: Vec<_> = (0..5).map(|index| format!("pod-{index}")).collect();
    let data_planes = DataPlanes { lagging: pods, ..serving() };
    let condition = up_to_date(&data_planes, 1).unwrap();
    assert!(condition.message.starts_with("pod-0; pod-1; pod-2; and 2 more"), "{}", condition.message);
}

#[test]
fn nodes_stand_for_services_of_type_node_port() {
    let service = service(json!({"type": "NodePort", "clusterIP": "10.96.0.9"}), json!([]));
    let nodes = ["192.168.1.1".to_owned(), "not an address".to_owned()];
    let facts = Facts { services: vec![&service], nodes: &nodes, routability: false, data_planes: serving() };
    let status = overlay(&compiled("True", "Programmed"), &infrastructure(&[]), &facts);
    assert_eq!(status.addresses.iter().map(|address| &address.value).collect::<Vec<_>>(), ["192.168.1.1"]);
}
