use std::collections::BTreeSet;

use portcullis_cluster::{OwnedState, PodPhase, PodState};
use serde_json::{Value, json};

use super::*;
use crate::gateway_status::UP_TO_DATE;

fn name() -> ObjectName {
    ObjectName::new("infra", "web")
}

fn infrastructure(uid: &str, generation: i64) -> Option<Arc<Infrastructure>> {
    Some(Arc::new(Infrastructure {
        gateway: name(),
        uid: uid.into(),
        generation,
        gateway_class: "portcullis".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ports: BTreeSet::new(),
        addresses: Vec::new(),
        parameters: Some(Arc::default()),
    }))
}

fn status(generation: i64, programmed: &str) -> GatewayStatus {
    serde_json::from_value(json!({"conditions": [
        {"type": "Accepted", "status": "True", "observedGeneration": generation, "reason": "Accepted", "message": ""},
        {"type": "Programmed", "status": programmed, "observedGeneration": generation, "reason": "Programmed", "message": ""},
    ]}))
    .unwrap()
}

fn service(uid: &str, spec: Value) -> Arc<Service> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web-portcullis", "namespace": "infra", "ownerReferences": [{
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "web", "uid": uid, "controller": true,
            }]},
            "spec": spec,
            "status": {"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}]}},
        }))
        .unwrap(),
    )
}

fn service_name() -> ObjectName {
    ObjectName::new("infra", "web-portcullis")
}

fn pod(pod: &str, ready: bool) -> Owned {
    Owned {
        kind: OwnedKind::Pod,
        name: ObjectName::new("infra", pod),
        state: Some(Box::new(OwnedState {
            uid: pod.to_owned(),
            generation: 1,
            labels: BTreeMap::from([(infrastructure::GATEWAY_NAME.to_owned(), "web".to_owned())]),
            annotations: BTreeMap::new(),
            owner_references: Vec::new(),
            deleting: false,
            details: OwnedDetails::Pod(PodState {
                phase: PodPhase::Running,
                ready,
                ip: None,
                node: None,
                service_account: None,
                trouble: Some("no node has room".to_owned()),
            }),
        })),
    }
}

fn version(number: u8) -> ConfigVersion {
    format!("{number:064x}").parse().unwrap()
}

fn acknowledged(pod: &str, generation: i64) -> DataPlaneEvent {
    DataPlaneEvent::Acknowledged {
        gateway: name(),
        pod: pod.into(),
        gateway_generation: generation,
        version: version(generation as u8),
    }
}

fn connected(pod: &str) -> DataPlaneEvent {
    DataPlaneEvent::Connected { gateway: name(), pod: pod.into() }
}

/// A Gateway at generation 1 with a Service that has an address.
fn gateways() -> Gateways {
    let mut gateways = Gateways::default();
    gateways.infrastructure(name(), infrastructure("u1", 1));
    gateways.status(name(), Some(status(1, "True")));
    gateways.service(service_name(), Some(&service("u1", json!({"type": "LoadBalancer"}))));
    gateways.pods_listed(true);
    gateways
}

/// The reason of a condition in the latest status, and what the data planes were found to serve.
fn told(gateways: &mut Gateways, condition: &str) -> (String, Vec<i64>) {
    let effects = gateways.effects();
    let served = effects.served.iter().map(|(_, generation)| *generation).collect();
    let status = effects.news.into_iter().rev().find_map(|news| match news {
        News::Desired(_, Some(ObjectStatus::Gateway(status))) => Some(status),
        _ => None,
    });
    let conditions = status.map(|status| status.conditions).unwrap_or_default();
    let reason = conditions.into_iter().find(|known| known.r#type == condition).map(|known| known.reason);
    (reason.unwrap_or("-".to_owned()), served)
}

#[test]
fn programmed_when_a_data_plane_serves_the_generation_and_no_ready_one_lags_behind() {
    let now = Instant::now();
    let mut gateways = gateways();
    assert_eq!(told(&mut gateways, "Programmed"), ("Pending".into(), vec![]));
    gateways.data_plane(connected("a"), now);
    assert_eq!(told(&mut gateways, "Programmed"), ("Pending".into(), vec![]));
    // The pod is not ready before it has this, so that this is enough.
    gateways.data_plane(acknowledged("a", 1), now);
    assert_eq!(told(&mut gateways, "Programmed"), ("Programmed".into(), vec![1]));
    gateways.owned(&[pod("a", true), pod("b", true)], Instant::now());

    // A joining pod does not turn it.
    gateways.data_plane(connected("b"), now);
    assert_eq!(told(&mut gateways, "Programmed"), ("Programmed".into(), vec![]));
    gateways.data_plane(acknowledged("b", 1), now);

    gateways.infrastructure(name(), infrastructure("u1", 2));
    assert_eq!(told(&mut gateways, "Programmed"), ("Pending".into(), vec![]));
    gateways.data_plane(acknowledged("a", 2), now);
    assert_eq!(told(&mut gateways, "Programmed"), ("Pending".into(), vec![]));
    gateways.data_plane(acknowledged("b", 2), now);
    assert_eq!(told(&mut gateways, "Programmed"), ("Programmed".into(), vec![2]));
}

#[test]
fn a_ready_pod_that_goes_away_is_not_waited_for() {
    let now = Instant::now();
    let mut gateways = gateways();
    gateways.owned(&[pod("a", true), pod("b", true)], Instant::now());
    for event in [connected("a"), connected("b"), acknowledged("a", 1)] {
        gateways.data_plane(event, now);
    }
    assert_eq!(told(&mut gateways, "Programmed").0, "Pending");
    gateways.data_plane(DataPlaneEvent::Gone { gateway: name(), pod: "b".into() }, now);
    assert_eq!(told(&mut gateways, "Programmed"), ("Programmed".into(), vec![1]));
}

#[test]
fn without_a_ready_pod_there_are_no_resources_once_there_were_some() {
    let now = Instant::now();
    let mut gateways = gateways();
    gateways.owned(&[pod("a", false)], Instant::now());
    assert_eq!(told(&mut gateways, "Programmed").0, "Pending");
    gateways.data_plane(acknowledged("a", 1), now);
    gateways.owned(&[pod("a", true)], Instant::now());
    assert_eq!(told(&mut gateways, "Programmed").0, "Programmed");
    gateways.owned(&[pod("a", false)], Instant::now());
    assert_eq!(told(&mut gateways, "Programmed").0, "NoResources");
    // While pods cannot be read nobody knows.
    gateways.pods_listed(false);
    assert_eq!(told(&mut gateways, "Programmed").0, "Programmed");
    gateways.pods_listed(true);
    gateways.owned(&[Owned { state: None, ..pod("a", false) }], Instant::now());
    assert_eq!(told(&mut gateways, "Programmed").0, "NoResources");
    gateways.owned(&[pod("b", true)], Instant::now());
    assert_eq!(told(&mut gateways, "Programmed").0, "Programmed");
}

#[test]
fn what_was_written_before_is_believed_at_its_generation() {
    for (stored, generation, expected) in
        [("True", 1, ("Programmed", vec![1])), ("True", 2, ("Pending", vec![])), ("False", 1, ("Pending", vec![]))]
    {
        let mut gateways = gateways();
        gateways.owned(&[pod("a", true)], Instant::now());
        gateways.effects();
        let gateway: Gateway = serde_json::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "web", "namespace": "infra", "generation": generation},
            "spec": {"gatewayClassName": "portcullis"},
            "status": status(1, stored),
        }))
        .unwrap();
        gateways.gateway(&gateway);
        gateways.status(name(), Some(status(1, "True")));
        let served = gateways.all_served().into_iter().map(|(_, generation)| generation).collect::<Vec<_>>();
        assert_eq!((told(&mut gateways, "Programmed").0.as_str(), served), expected, "{stored} {generation}");
    }
}

#[test]
fn another_gateway_of_the_same_name_begins_anew() {
    let now = Instant::now();
    let mut gateways = gateways();
    gateways.data_plane(acknowledged("a", 1), now);
    assert_eq!(told(&mut gateways, "Programmed").0, "Programmed");
    gateways.data_plane(DataPlaneEvent::Gone { gateway: name(), pod: "a".into() }, now);
    gateways.infrastructure(name(), infrastructure("u2", 1));
    // The Service is still the old one's.
    assert_eq!(told(&mut gateways, "Programmed").0, "AddressNotAssigned");
    gateways.service(service_name(), Some(&service("u2", json!({"type": "LoadBalancer"}))));
    assert_eq!(told(&mut gateways, "Programmed").0, "Pending");
}

#[test]
fn nothing_is_kept_of_what_is_gone() {
    let now = Instant::now();
    let mut gateways = gateways();
    gateways.owned(&[pod("a", true)], Instant::now());
    gateways.data_plane(connected("a"), now);
    gateways.effects();
    gateways.status(name(), None);
    gateways.infrastructure(name(), None);
    gateways.service(service_name(), None);
    gateways.owned(&[Owned { state: None, ..pod("a", true) }], Instant::now());
    gateways.data_plane(DataPlaneEvent::Gone { gateway: name(), pod: "a".into() }, now);
    assert!(matches!(gateways.effects().news.as_slice(), [News::Desired(_, None)]));
    assert!(gateways.gateways.is_empty() && gateways.services.is_empty() && gateways.pods.is_empty());
    gateways.check(now + LAG * 2, |_| None);
    assert!(gateways.due().is_none());
}

#[test]
fn a_data_plane_lags_when_it_has_not_answered_for_some_seconds() {
    let start = Instant::now();
    let mut gateways = gateways();
    gateways.data_plane(connected("a"), start);
    gateways.data_plane(acknowledged("a", 1), start);
    gateways.check(start + LAG, |_| Some(version(1)));
    assert_eq!(told(&mut gateways, UP_TO_DATE), ("UpToDate".into(), vec![1]));

    gateways.published(&name(), start + LAG);
    gateways.published(&name(), start + LAG + Duration::from_secs(1));
    assert_eq!(gateways.due(), Some(start + LAG * 2));
    gateways.check(start + LAG * 2, |_| Some(version(2)));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "Lagging");
    gateways.data_plane(acknowledged("a", 2), start + LAG * 2);
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "UpToDate");

    // Who answers, though not yet to the last word, is given time again.
    gateways.published(&name(), start + LAG * 3);
    gateways.data_plane(acknowledged("a", 3), start + LAG * 3);
    gateways.check(start + LAG * 4, |_| Some(version(4)));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "UpToDate");
    assert_eq!(gateways.due(), Some(start + LAG * 5));
    gateways.check(start + LAG * 5, |_| Some(version(4)));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "Lagging");
}

#[test]
fn a_data_plane_that_is_ready_without_a_stream_lags() {
    let start = Instant::now();
    let after = |seconds: u64| start + Duration::from_secs(seconds);
    let mut gateways = gateways();
    gateways.owned(&[pod("a", true), pod("b", true)], start);
    gateways.data_plane(connected("a"), start);
    gateways.data_plane(acknowledged("a", 1), start);
    gateways.data_plane(acknowledged("b", 1), start);
    gateways.check(after(5), |_| Some(version(1)));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "UpToDate");

    // Whoever is back in time was not missed.
    let gone = || DataPlaneEvent::Gone { gateway: name(), pod: "b".into() };
    gateways.data_plane(gone(), after(6));
    gateways.data_plane(connected("b"), after(8));
    gateways.data_plane(acknowledged("b", 1), after(8));
    gateways.check(after(11), |_| Some(version(1)));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "UpToDate");

    gateways.data_plane(gone(), after(12));
    gateways.check(after(17), |_| Some(version(1)));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "Lagging");
    // Nothing is left to look at, however long it stays away.
    assert_eq!(gateways.due(), None);
    gateways.owned(&[pod("b", true)], after(18));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "Lagging");
    // Whoever begins to lead gives the others' data planes time to be heard of.
    gateways.lead(after(19));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "UpToDate");
    gateways.check(after(24), |_| Some(version(1)));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "Lagging");
    gateways.data_plane(connected("b"), after(25));
    gateways.data_plane(acknowledged("b", 1), after(25));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "UpToDate");

    // A pod that is not ready is no data plane yet, or none any more.
    gateways.data_plane(gone(), after(40));
    gateways.owned(&[pod("b", false)], after(41));
    gateways.check(after(60), |_| Some(version(1)));
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "UpToDate");
}

#[test]
fn a_refusal_is_shown_until_it_is_overcome() {
    let now = Instant::now();
    let mut gateways = gateways();
    gateways.data_plane(acknowledged("a", 1), now);
    let refused =
        DataPlaneEvent::Refused { gateway: name(), pod: "a".into(), version: version(2), message: "port 80".into() };
    gateways.data_plane(refused, now);
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "Refused");
    gateways.data_plane(acknowledged("a", 1), now);
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "UpToDate");
}

#[test]
fn a_port_that_cannot_be_bound_is_its_listeners_trouble_alone() {
    let now = Instant::now();
    let mut gateways = gateways();
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "web", "namespace": "infra", "generation": 1},
        "spec": {"gatewayClassName": "portcullis", "listeners": [
            {"name": "good", "port": 80, "protocol": "HTTP"}, {"name": "bad", "port": 81, "protocol": "HTTP"},
        ]},
    });
    gateways.gateway(&serde_json::from_value(gateway).unwrap());
    let listener = |name: &str| {
        json!({
            "name": name, "attachedRoutes": 0, "supportedKinds": [],
            "conditions": [{"type": "Programmed", "status": "True", "reason": "Programmed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        })
    };
    let mut status = status(1, "True");
    status.listeners = serde_json::from_value(json!([listener("good"), listener("bad")])).unwrap();
    gateways.status(name(), Some(status));
    let unbound =
        UnboundPorts { gateway_generation: 1, ports: [(81, "cannot listen on [::]:81: in use".to_owned())].into() };
    let message = unbound.to_string().as_str().into();
    gateways
        .data_plane(DataPlaneEvent::Refused { gateway: name(), pod: "a".into(), version: version(1), message }, now);

    let effects = gateways.effects();
    assert_eq!(effects.served, [(name(), 1)], "the ports beside it may be shown");
    let Some(News::Desired(_, Some(ObjectStatus::Gateway(status)))) = effects.news.into_iter().next_back() else {
        panic!()
    };
    let reason = |conditions: &[portcullis_api::meta::Condition], kind: &str| {
        conditions.iter().find(|condition| condition.r#type == kind).map(|condition| condition.reason.clone()).unwrap()
    };
    assert_eq!(reason(&status.conditions, "Programmed"), "Programmed");
    assert_eq!(reason(&status.conditions, UP_TO_DATE), "Refused");
    let of_listeners: Vec<_> =
        status.listeners.iter().map(|listener| reason(&listener.conditions, "Programmed")).collect();
    assert_eq!(of_listeners, ["Programmed", "PortUnavailable"]);
    let message = &status.listeners[1].conditions[0].message;
    assert!(message.contains("cannot listen on [::]:81: in use (pod a)"), "{message}");

    gateways.data_plane(acknowledged("a", 1), now);
    assert_eq!(told(&mut gateways, UP_TO_DATE).0, "UpToDate");
}

#[test]
fn nodes_matter_to_services_on_their_ports_alone() {
    let mut gateways = gateways();
    gateways.effects();
    gateways.node("one", Some("192.168.0.1".into()));
    assert!(gateways.effects().news.is_empty());
    gateways.service(service_name(), Some(&service("u1", json!({"type": "NodePort"}))));
    assert_eq!(told(&mut gateways, "AddressesAssigned").0, "AddressesAssigned");
    gateways.node("one", Some("192.168.0.1".into()));
    assert!(gateways.effects().news.is_empty());
    gateways.node("one", None);
    assert_eq!(told(&mut gateways, "AddressesAssigned").0, "NotAssigned");
}
