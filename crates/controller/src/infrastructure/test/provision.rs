//! The provisioner against an API server.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portcullis_api::{Change, Object, ObjectKey};
use portcullis_cluster::{DeploymentState, Owned, OwnedDetails, OwnedKind, OwnedState};
use portcullis_compile::{
    AddressKind, AddressRequest, AddressScope, Infrastructure, InfrastructureChange, TransportProtocol,
};
use portcullis_model::ObjectName;
use portcullis_runtime::metrics::{Format, Registry};
use serde_json::{Value, json};

use super::super::apply::Cause;
use super::super::{InfrastructureOptions, Provisioner};
use super::api_server::ApiServer;
use super::{infrastructure, options};

const SERVICE: &str = "/api/v1/namespaces/infra/services/edge-portcullis";
const CONFIG_MAP: &str = "/api/v1/namespaces/infra/configmaps/edge-portcullis";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/infra/deployments/edge-portcullis";

/// What a plain Gateway has.
const OBJECTS: [&str; 6] = [
    CONFIG_MAP,
    "/api/v1/namespaces/infra/serviceaccounts/edge-portcullis",
    SERVICE,
    DEPLOYMENT,
    "/apis/networking.k8s.io/v1/namespaces/infra/networkpolicies/edge-portcullis",
    "/apis/policy/v1/namespaces/infra/poddisruptionbudgets/edge-portcullis",
];

struct World {
    server: ApiServer,
    provisioner: Provisioner,
    registry: Registry,
}

impl World {
    async fn start() -> Self {
        Self::beside(ApiServer::start().await)
    }

    /// Another replica for the same API server.
    fn beside(server: ApiServer) -> Self {
        let registry = Registry::new(1);
        let render = super::RenderOptions { ca_bundle: String::new(), ..options() };
        let settings = InfrastructureOptions { render, namespaces: None, request_limit: Duration::from_secs(5) };
        let provisioner = Provisioner::start(settings, server.client(), &registry).unwrap();
        Self { server, provisioner, registry }
    }

    /// A replica that leads, for one Gateway.
    async fn leading(infrastructure: &Infrastructure) -> Self {
        let world = Self::start().await;
        world.lead(infrastructure).await;
        world
    }

    async fn lead(&self, infrastructure: &Infrastructure) {
        self.set(infrastructure);
        self.provisioner.ca_bundle("CA");
        self.provisioner.lead(true);
        self.settle().await;
    }

    fn set(&self, infrastructure: &Infrastructure) {
        let gateway = infrastructure.gateway.clone();
        self.provisioner
            .set(vec![InfrastructureChange { gateway, infrastructure: Some(Arc::new(infrastructure.clone())) }]);
    }

    fn remove(&self, gateway: &ObjectName) {
        self.provisioner.set(vec![InfrastructureChange { gateway: gateway.clone(), infrastructure: None }]);
    }

    async fn settle(&self) {
        self.until(|world| world.provisioner.is_idle()).await;
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), wait).await.is_err() {
            panic!("never: {:#?}", self.server.writes());
        }
    }

    fn ports(&self) -> Vec<u64> {
        let service = self.server.object(SERVICE).unwrap();
        service["spec"]["ports"].as_array().unwrap().iter().map(|port| port["port"].as_u64().unwrap()).collect()
    }

    fn problems(&self) -> Vec<(Cause, String)> {
        let problems = self.provisioner.problems().borrow().clone();
        let of = problems.values().flatten();
        of.map(|problem| (problem.cause, format!("{} {}: {}", problem.kind, problem.name, problem.message))).collect()
    }

    /// What the watch says about a Deployment.
    fn tell_deployment(&self) {
        let object = self.server.object(DEPLOYMENT);
        let state = object.map(|object| {
            Box::new(OwnedState {
                uid: object["metadata"]["uid"].as_str().unwrap().to_owned(),
                generation: object["metadata"]["generation"].as_i64().unwrap(),
                labels: [].into(),
                annotations: [].into(),
                owner_references: Vec::new(),
                deleting: false,
                details: OwnedDetails::Deployment(DeploymentState::default()),
            })
        });
        let name = ObjectName::new("infra", "edge-portcullis");
        self.provisioner.owned(&[Owned { kind: OwnedKind::Deployment, name, state }]);
    }

    /// What the watch says about the Service.
    fn tell_service(&self) {
        let change = match self.server.object(SERVICE) {
            Some(object) => Change::Upsert(Object::from_value(object).unwrap()),
            None => Change::Delete(ObjectKey::new("", "Service", "infra", "edge-portcullis")),
        };
        self.provisioner.changed(&[change]);
    }
}

fn with_ports(generation: i64, ports: &[u16]) -> Infrastructure {
    let ports = ports.iter().map(|port| (*port, TransportProtocol::Tcp)).collect();
    Infrastructure { generation, ports, ..infrastructure() }
}

#[tokio::test]
async fn a_gateway_gets_its_objects_once() {
    let world = World::leading(&infrastructure()).await;
    assert_eq!(world.server.paths(), OBJECTS);
    let writes = world.server.writes();
    assert_eq!(writes.len(), OBJECTS.len(), "{writes:?}");
    let at = |path: &str| writes.iter().position(|write| write.ends_with(path)).unwrap();
    assert!(at(DEPLOYMENT) > at(CONFIG_MAP) && at(DEPLOYMENT) > at(OBJECTS[1]), "{writes:?}");
    // The same again, at another generation: nothing to write.
    world.set(&with_ports(2, &[80]));
    world.tell_deployment();
    world.tell_service();
    world.settle().await;
    assert_eq!(world.server.writes(), writes);
    assert_eq!(world.problems(), []);
    let metrics = world.registry.render(Format::OpenMetrics);
    assert!(
        metrics.contains(r#"portcullis_infrastructure_requests_total{kind="Deployment",outcome="applied"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn nothing_is_asked_or_written_by_who_does_not_lead() {
    let world = World::start().await;
    world.set(&infrastructure());
    world.provisioner.ca_bundle("CA");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.server.requests(), 0);
    // Nor without a CA, which pods could not do without.
    let other = World::start().await;
    other.set(&infrastructure());
    other.provisioner.lead(true);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(other.server.requests(), 0);
}

#[tokio::test]
async fn ports_come_when_they_are_served_and_leave_at_once() {
    let world = World::leading(&with_ports(1, &[80])).await;
    world.set(&with_ports(2, &[80, 443]));
    world.settle().await;
    assert_eq!(world.ports(), [80]);
    world.provisioner.acknowledged(&infrastructure().gateway, 1);
    world.settle().await;
    assert_eq!(world.ports(), [80]);
    world.provisioner.acknowledged(&infrastructure().gateway, 2);
    world.settle().await;
    assert_eq!(world.ports(), [80, 443]);
    world.set(&with_ports(3, &[443]));
    world.settle().await;
    assert_eq!(world.ports(), [443]);
    // All others: the Service cannot be without any, and stays until there is one that is served.
    world.set(&with_ports(4, &[8080, 8443]));
    world.settle().await;
    assert_eq!(world.ports(), [443]);
    world.provisioner.acknowledged(&infrastructure().gateway, 4);
    world.settle().await;
    assert_eq!(world.ports(), [8080, 8443]);
    world.set(&with_ports(5, &[]));
    world.settle().await;
    assert_eq!(world.ports(), [8080, 8443]);
    // A port that left and comes back waits again.
    world.set(&with_ports(6, &[8080]));
    world.settle().await;
    world.set(&with_ports(7, &[8080, 8443]));
    world.settle().await;
    assert_eq!(world.ports(), [8080]);
    // None of this touched the Deployment.
    let of_deployment = world.server.writes().iter().filter(|write| write.ends_with(DEPLOYMENT)).count();
    assert_eq!(of_deployment, 1);
}

#[tokio::test]
async fn what_others_change_is_put_back() {
    let world = World::leading(&infrastructure()).await;
    world.server.delete(SERVICE);
    world.tell_service();
    world.settle().await;
    assert!(world.server.object(SERVICE).is_some(), "deleted");

    let mut deployment = world.server.object(DEPLOYMENT).unwrap();
    deployment["spec"]["replicas"] = json!(7);
    world.server.store(DEPLOYMENT, deployment);
    world.tell_deployment();
    world.until(|world| world.server.object(DEPLOYMENT).unwrap()["spec"]["replicas"] == 1).await;

    let mut service = world.server.object(SERVICE).unwrap();
    service["spec"]["type"] = json!("NodePort");
    service["metadata"]["labels"]["team"] = json!("red");
    world.server.store(SERVICE, service);
    world.tell_service();
    world.until(|world| world.server.object(SERVICE).unwrap()["spec"]["type"] == "LoadBalancer").await;
    assert_eq!(world.server.object(SERVICE).unwrap()["metadata"]["labels"]["team"], "red", "what is not ours stays");

    // An address, which others give, is no reason to write.
    let mut service = world.server.object(SERVICE).unwrap();
    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    world.server.store(SERVICE, service);
    world.settle().await;
    let before = world.server.writes();
    world.tell_service();
    world.settle().await;
    assert_eq!(world.server.writes(), before);
}

#[tokio::test]
async fn what_is_not_ours_is_not_touched() {
    let foreign = json!({"metadata": {"name": "edge-portcullis", "namespace": "infra"}, "spec": {"ports": []}});
    let mut of_another = foreign.clone();
    of_another["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "portcullis"});
    of_another["metadata"]["annotations"] = json!({"portcullis.dev/controller-name": "portcullis.dev/gateway-controller", "portcullis.dev/gateway-name": "edge-b"});
    for object in [foreign, of_another] {
        let world = World::start().await;
        let stored = world.server.store(SERVICE, object);
        // The other Gateway exists; without parameters nothing of it is looked at.
        world.set(&Infrastructure {
            gateway: ObjectName::new("infra", "edge-b"),
            parameters: None,
            ..infrastructure()
        });
        world.set(&infrastructure());
        world.provisioner.ca_bundle("CA");
        world.provisioner.lead(true);
        world.until(|world| !world.problems().is_empty()).await;
        let problems = world.problems();
        assert_eq!(problems[0].0, Cause::NotOurs);
        assert!(
            problems[0].1.contains("Service edge-portcullis: the Service edge-portcullis of this namespace is not"),
            "{problems:?}"
        );
        assert_eq!(world.server.object(SERVICE), Some(stored.clone()));
        // The rest exists.
        world.until(|world| world.server.paths().len() == OBJECTS.len()).await;
        // The Gateway goes, and the foreign object stays.
        world.remove(&infrastructure().gateway);
        world.settle().await;
        assert_eq!(world.server.object(SERVICE), Some(stored));
        assert_eq!(world.server.paths(), [SERVICE]);
        assert_eq!(world.problems(), []);
    }
}

#[tokio::test]
async fn an_object_that_takes_the_place_of_ours_is_not_written_to() {
    let world = World::leading(&infrastructure()).await;
    world.server.delete(SERVICE);
    let foreign =
        world.server.store(SERVICE, json!({"metadata": {"name": "edge-portcullis", "namespace": "infra"}, "spec": {}}));
    world.set(&with_ports(2, &[80, 443]));
    world.provisioner.acknowledged(&infrastructure().gateway, 2);
    world.until(|world| !world.problems().is_empty()).await;
    assert_eq!(world.server.object(SERVICE), Some(foreign));
    // When it has gone, ours comes back.
    world.server.delete(SERVICE);
    world.until(|world| world.server.object(SERVICE).is_some() && world.problems().is_empty()).await;
    assert_eq!(world.ports(), [80, 443]);
}

#[tokio::test]
async fn an_object_that_another_makes_at_the_same_moment_is_not_taken_over() {
    let world = World::start().await;
    let foreign = json!({"metadata": {"name": "edge-portcullis", "namespace": "infra"}, "data": {"theirs": "text"}});
    world.server.race(CONFIG_MAP, foreign);
    world.set(&infrastructure());
    world.provisioner.ca_bundle("CA");
    world.provisioner.lead(true);
    world.until(|world| !world.problems().is_empty()).await;
    assert_eq!(world.problems()[0].0, Cause::NotOurs);
    let stored = world.server.object(CONFIG_MAP).unwrap();
    assert_eq!((&stored["data"], stored["metadata"].get("ownerReferences")), (&json!({"theirs": "text"}), None));
}

#[tokio::test]
async fn what_was_made_is_applied_to_from_then_on() {
    let world = World::leading(&infrastructure()).await;
    let writes = world.server.writes();
    assert!(writes.iter().all(|write| write.starts_with("POST ")), "{writes:?}");
    world.set(&with_ports(2, &[80, 443]));
    world.provisioner.acknowledged(&infrastructure().gateway, 2);
    world.until(|world| world.ports() == [80, 443]).await;
    world.settle().await;
    let writes = world.server.writes().split_off(writes.len());
    let of_service: Vec<_> = writes.iter().filter(|write| write.ends_with(SERVICE)).collect();
    assert_eq!(of_service.len(), 2, "the fields become those of an apply, and are applied: {writes:?}");
    assert_eq!(world.server.object(SERVICE).unwrap()["metadata"]["managedFields"][0]["operation"], "Apply");
    world.set(&with_ports(3, &[80]));
    world.until(|world| world.ports() == [80]).await;
    world.settle().await;
    let of_service = world.server.writes().iter().filter(|write| write.ends_with(SERVICE)).count();
    assert_eq!(of_service, 4, "once");
}

/// As `kubectl delete --cascade=orphan` leaves them.
fn orphan(server: &ApiServer) {
    for path in server.paths() {
        let mut object = server.object(&path).unwrap();
        object["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        server.store(&path, object);
    }
}

#[tokio::test]
async fn orphans_are_adopted_by_a_gateway_that_lives() {
    let world = World::leading(&infrastructure()).await;
    orphan(&world.server);
    let uids = |world: &World| OBJECTS.map(|path| world.server.object(path).unwrap()["metadata"]["uid"].clone());
    let before = uids(&world);
    world.provisioner.lead(false);
    let other = World::beside(world.server.clone());
    other.lead(&Infrastructure { uid: "77aa".into(), ..infrastructure() }).await;
    assert_eq!(uids(&other), before);
    for path in OBJECTS {
        assert_eq!(other.server.object(path).unwrap()["metadata"]["ownerReferences"][0]["uid"], "77aa", "{path}");
    }
    assert_eq!(other.problems(), []);
}

#[tokio::test]
async fn orphans_that_cannot_be_adopted_are_told_with_the_remedy() {
    // As a webhook refuses, and as a ValidatingAdmissionPolicy does.
    for code in [403, 422] {
        let world = World::leading(&infrastructure()).await;
        orphan(&world.server);
        world.server.fail(move |method, _| (*method == http::Method::PATCH).then_some(code));
        world.provisioner.lead(false);
        world.provisioner.lead(true);
        world.until(|world| !world.problems().is_empty()).await;
        let (cause, message) = world.problems().remove(0);
        assert_eq!(cause, Cause::NotOurs, "{message}");
        assert!(message.contains("--cascade=orphan") && message.contains("delete it"), "{message}");
    }
}

#[tokio::test]
async fn orphans_without_a_gateway_stay() {
    let world = World::leading(&infrastructure()).await;
    orphan(&world.server);
    world.remove(&infrastructure().gateway);
    world.settle().await;
    assert_eq!(world.server.paths(), OBJECTS);
    assert_eq!(world.problems(), []);
}

#[tokio::test]
async fn everything_goes_with_the_gateway() {
    let world = World::leading(&infrastructure()).await;
    world.remove(&infrastructure().gateway);
    world.settle().await;
    assert_eq!(world.server.paths(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_no_longer_wanted_goes() {
    let scaled = |value: Value| {
        let parameters = serde_json::from_value(value).unwrap();
        Infrastructure { parameters: Some(Arc::new(parameters)), ..infrastructure() }
    };
    let autoscaling = json!({"autoscaling": {"maxReplicas": 3}, "resources": {"requests": {"cpu": "1"}}});
    let world = World::leading(&scaled(autoscaling)).await;
    assert_eq!(world.server.paths().len(), OBJECTS.len() + 1);
    world.set(&infrastructure());
    world.settle().await;
    assert_eq!(world.server.paths(), OBJECTS);
    world.set(&scaled(json!({"networkPolicy": "Disabled", "podDisruptionBudget": {"disabled": true}})));
    world.settle().await;
    assert_eq!(world.server.paths(), OBJECTS[..4]);
    // Another class is another name.
    world.set(&Infrastructure { gateway_class: "internal".into(), ..infrastructure() });
    world.settle().await;
    assert!(world.server.paths().iter().all(|path| path.ends_with("/edge-internal")), "{:?}", world.server.paths());
    assert_eq!(world.server.paths().len(), OBJECTS.len());
    // Without parameters everything stays as it is.
    world.set(&Infrastructure { parameters: None, ports: [].into(), ..infrastructure() });
    world.settle().await;
    assert_eq!(world.server.paths().len(), OBJECTS.len());
}

#[tokio::test]
async fn a_gateway_that_is_made_anew_takes_over() {
    let world = World::leading(&infrastructure()).await;
    let before = world.server.object(SERVICE).unwrap();
    world.set(&Infrastructure { uid: "77aa".into(), ..infrastructure() });
    world.settle().await;
    let after = world.server.object(SERVICE).unwrap();
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["metadata"]["ownerReferences"][0]["uid"], "77aa");
    let deployment = world.server.object(DEPLOYMENT).unwrap();
    let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    assert!(arguments.contains("--gateway-uid=77aa"));
}

#[tokio::test]
async fn another_leader_finds_everything_and_cleans_up() {
    let requested = |addresses: &[&str]| {
        let request = |(index, text): (usize, &&str)| AddressRequest {
            index,
            kind: AddressKind::Ip(text.parse().unwrap()),
            scope: AddressScope::Default,
        };
        Infrastructure { addresses: addresses.iter().enumerate().map(request).collect(), ..infrastructure() }
    };
    let world = World::leading(&requested(&["192.0.2.1", "192.0.2.2"])).await;
    let services = |world: &World| world.server.paths().iter().filter(|path| path.contains("/services/")).count();
    assert_eq!(services(&world), 2);
    world.provisioner.lead(false);
    world.server.delete(CONFIG_MAP);
    let other = World::beside(world.server.clone());
    // A port came in the meantime, and the first address is not asked for any more.
    other
        .lead(&Infrastructure { ports: with_ports(2, &[80, 443]).ports, generation: 2, ..requested(&["192.0.2.2"]) })
        .await;
    assert!(other.server.object(CONFIG_MAP).is_some());
    assert_eq!(services(&other), 2, "the second stays where it is");
    assert_eq!(other.server.object(SERVICE).unwrap()["spec"]["type"], "ClusterIP");
    assert_eq!(other.ports(), [80], "nobody has acknowledged the new one");
    let before = world.server.writes().len();
    world.set(&requested(&["192.0.2.9"]));
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(world.server.writes().len(), before, "who does not lead does not write");
}

#[tokio::test]
async fn a_namespace_that_goes_is_left_alone() {
    let world = World::start().await;
    world.server.terminate("infra");
    world.set(&infrastructure());
    world.provisioner.ca_bundle("CA");
    world.provisioner.lead(true);
    world.until(|world| world.server.writes().len() >= 4).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(world.server.writes().len() <= OBJECTS.len(), "{:?}", world.server.writes());
    assert_eq!(world.problems(), []);
}

#[tokio::test]
async fn refusals_are_told_and_tried_again() {
    let world = World::start().await;
    world.server.fail(|method, path| (*method == http::Method::POST && path.contains("/services/")).then_some(422));
    world.set(&infrastructure());
    world.provisioner.ca_bundle("CA");
    world.provisioner.lead(true);
    world.until(|world| !world.problems().is_empty()).await;
    let problems = world.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].0, Cause::Refused);
    assert!(problems[0].1.contains("as the test asks"), "{problems:?}");
    world.server.heal();
    world.until(|world| world.problems().is_empty()).await;
    assert_eq!(world.server.paths(), OBJECTS);
}

#[tokio::test]
async fn a_hundred_gateways_come_and_go_and_nothing_is_lost() {
    let world = World::start().await;
    let mut count = 0;
    // Every fifth request fails, in one way or the other.
    world.server.fail(move |_, _| {
        count += 1;
        (count % 5 == 0).then_some(if count % 2 == 0 { 500 } else { 409 })
    });
    world.provisioner.set(Vec::new());
    world.provisioner.ca_bundle("CA");
    world.provisioner.lead(true);
    let gateway = |number: usize| ObjectName::new("infra", format!("gateway-{number}"));
    let mut wanted = BTreeSet::new();
    for round in 0..3 {
        for number in 0..100 {
            let change = fastrand::u8(..) % 3;
            if change == 0 {
                world.remove(&gateway(number));
                wanted.remove(&number);
            } else {
                let uid = format!("{round}-{number}");
                world.set(&Infrastructure { gateway: gateway(number), uid: uid.as_str().into(), ..infrastructure() });
                wanted.insert(number);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.server.heal();
    world.settle().await;
    let expected = wanted.len() * OBJECTS.len();
    world.until(|world| world.provisioner.is_idle() && world.server.paths().len() == expected).await;
    for number in wanted {
        let path = format!("/apis/apps/v1/namespaces/infra/deployments/gateway-{number}-portcullis");
        assert!(world.server.object(&path).is_some(), "{path}");
    }
    assert_eq!(world.problems(), []);
}

#[tokio::test]
async fn large_objects_that_others_label_as_ours_hold_up_nobody() {
    let world = World::start().await;
    for index in 0..9 {
        let path = format!("/api/v1/namespaces/other/configmaps/large-{index}");
        world.server.store(
            &path,
            json!({
                "metadata": {
                    "name": format!("large-{index}"), "namespace": "other",
                    "labels": {"app.kubernetes.io/managed-by": "portcullis"},
                },
                "data": {"text": "x".repeat(1 << 20)},
            }),
        );
    }
    world.lead(&infrastructure()).await;
    for path in OBJECTS {
        assert!(world.server.object(path).is_some(), "{path}");
    }
    assert!(world.server.object("/api/v1/namespaces/other/configmaps/large-0").is_some(), "another's");
}
