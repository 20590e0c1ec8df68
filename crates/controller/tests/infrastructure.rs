//! The objects of data planes on a real API server: it takes each of them as it is, applies the same one twice without a change, lets their
//! pods into a namespace of the restricted profile, and collects them with their Gateway.
//!
//! Runs where `PORTCULLIS_TEST_KUBECONFIG` names a cluster that has the Gateway API's CRDs; elsewhere it says that it was left out.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests, their helpers included")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use kube::Client;
use portcullis_api::gateway_parameters::DataPlane;
use portcullis_compile::{
    AddressKind, AddressRequest, AddressScope, Infrastructure, InfrastructureChange, TransportProtocol,
};
use portcullis_controller::infrastructure::{InfrastructureOptions, Provisioner, RenderOptions};
use portcullis_model::ObjectName;
use portcullis_runtime::metrics::Registry;
use serde_json::{Value, json};

const CONTROLLER: &str = "test.portcullis.dev/infrastructure";

struct Cluster {
    client: Client,
    namespace: String,
}

impl Cluster {
    async fn find() -> Option<Self> {
        let Some(path) = std::env::var_os("PORTCULLIS_TEST_KUBECONFIG") else {
            eprintln!("left out: PORTCULLIS_TEST_KUBECONFIG names no cluster");
            return None;
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = portcullis_cluster::connect(Some(Path::new(&path)), None).await.unwrap();
        let cluster = Self { client, namespace: format!("infrastructure-{:08x}", fastrand::u32(..)) };
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        cluster
            .send("POST", "/api/v1/namespaces", &json!({"metadata": {"name": cluster.namespace, "labels": labels}}))
            .await
            .unwrap();
        Some(cluster)
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> kube::Result<Value> {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        self.client.request(request.body(body.to_string().into_bytes()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let request = Request::get(path).body(Vec::new()).unwrap();
        self.client.request(request).await.ok()
    }

    /// The path of all objects of a kind.
    fn path(&self, prefix: &str, resource: &str) -> String {
        format!("{prefix}/namespaces/{}/{resource}", self.namespace)
    }

    /// Kind, name and resource version of everything that was made.
    async fn made(&self) -> Vec<(String, String, String)> {
        let mut made = Vec::new();
        for (prefix, resource) in [
            ("/api/v1", "serviceaccounts"),
            ("/api/v1", "configmaps"),
            ("/api/v1", "services"),
            ("/apis/networking.k8s.io/v1", "networkpolicies"),
            ("/apis/policy/v1", "poddisruptionbudgets"),
            ("/apis/apps/v1", "deployments"),
            ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
        ] {
            let path =
                format!("{}?labelSelector=app.kubernetes.io/managed-by%3Dportcullis", self.path(prefix, resource));
            let list = self.get(&path).await.unwrap();
            for item in list["items"].as_array().unwrap() {
                let text = |name: &str| item["metadata"][name].as_str().unwrap().to_owned();
                // Others write the status, and with it the version; the generation tells of us.
                let version = item["metadata"]["generation"].as_i64().map_or_else(
                    || if resource == "services" { item["spec"].to_string() } else { text("resourceVersion") },
                    |generation| generation.to_string(),
                );
                let version = if resource == "horizontalpodautoscalers" { item["spec"].to_string() } else { version };
                made.push((resource.to_owned(), text("name"), version));
            }
        }
        made
    }

    async fn count(&self, resource: &str) -> usize {
        self.made().await.iter().filter(|(kind, ..)| kind == resource).count()
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn set(provisioner: &Provisioner, infrastructure: &Infrastructure) {
    let gateway = infrastructure.gateway.clone();
    provisioner.set(vec![InfrastructureChange { gateway, infrastructure: Some(Arc::new(infrastructure.clone())) }]);
}

async fn settled(provisioner: &Provisioner) {
    until("idle", || async { provisioner.is_idle() }).await;
    let problems = provisioner.problems().borrow().clone();
    assert!(problems.is_empty(), "{problems:#?}");
}

fn data_plane(value: Value) -> Option<Arc<DataPlane>> {
    Some(Arc::new(serde_json::from_value(value).unwrap()))
}

#[tokio::test]
async fn an_api_server_takes_the_objects_as_they_are() {
    let Some(cluster) = Cluster::find().await else { return };
    let gateways = cluster.path("/apis/gateway.networking.k8s.io/v1", "gateways");
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge"},
        "spec": {"gatewayClassName": "nobody", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    });
    let gateway = cluster.send("POST", &gateways, &gateway).await.unwrap();
    let plain = Infrastructure {
        gateway: ObjectName::new(cluster.namespace.as_str(), "edge"),
        uid: gateway["metadata"]["uid"].as_str().unwrap().into(),
        generation: 1,
        gateway_class: "nobody".into(),
        labels: [("team".to_owned(), "red".to_owned())].into(),
        annotations: [("example.com/note".to_owned(), "here".to_owned())].into(),
        ports: [(80, TransportProtocol::Tcp), (443, TransportProtocol::Tcp), (443, TransportProtocol::Udp)].into(),
        addresses: Vec::new(),
        parameters: data_plane(json!({})),
    };
    let render = RenderOptions {
        image: "localhost/portcullis:absent".to_owned(),
        image_pull_policy: Some("Never".to_owned()),
        controller: "portcullis-controller.portcullis-system.svc:8443".to_owned(),
        identity: "portcullis-controller.portcullis-system.svc:8444".to_owned(),
        controller_name: CONTROLLER.to_owned(),
        ca_bundle: "CA".to_owned(),
    };
    let options = InfrastructureOptions {
        render,
        namespaces: Some(vec![cluster.namespace.clone()]),
        request_limit: Duration::from_secs(10),
    };
    let provisioner = Provisioner::start(options, cluster.client.clone(), &Registry::new(1)).unwrap();
    set(&provisioner, &plain);
    provisioner.lead(true);
    settled(&provisioner).await;
    assert_eq!(cluster.made().await.len(), 6);

    // Its pods fit the restricted profile: one is let in.
    until("a pod", || async {
        let pods = cluster.get(&cluster.path("/api/v1", "pods")).await.unwrap();
        !pods["items"].as_array().unwrap().is_empty()
    })
    .await;

    set(&provisioner, &Infrastructure { parameters: data_plane(json!({"replicas": 2})), ..plain.clone() });
    settled(&provisioner).await;

    // Everything that parameters can say.
    let request = |(index, (kind, scope))| AddressRequest { index, kind, scope };
    let addresses = [(AddressKind::Any, AddressScope::Default), (AddressKind::Any, AddressScope::Cluster)];
    let full = Infrastructure {
        addresses: addresses.into_iter().enumerate().map(request).collect(),
        parameters: data_plane(json!({
            "autoscaling": {"minReplicas": 1, "maxReplicas": 2},
            "resources": {"requests": {"cpu": "10m", "memory": "0.5Gi"}, "limits": {"cpu": 2, "memory": "1e9"}},
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}},
            ]}},
            "tolerations": [{"key": "edge", "operator": "Exists"}],
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway", "matchLabelKeys": ["pod-template-hash"]},
            ],
            "imagePullSecrets": [{"name": "registry"}],
            "service": {"annotations": {"example.com/pool": "public"}, "externalTrafficPolicy": "Local", "loadBalancerSourceRanges": ["10.0.0.0/8"]},
            "podDisruptionBudget": {"minAvailable": "50%"},
            "podLabels": {"tier": "edge"},
            "pod": {"spec": {
                "dnsPolicy": "Default", "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a.example"]}],
                "containers": [{"name": "data-plane", "env": [{"name": "TZ", "value": "UTC"}], "volumeMounts": [{"name": "extra", "mountPath": "/etc/extra"}]}],
                "volumes": [{"name": "extra", "emptyDir": {}}],
            }},
            "logLevel": "Debug",
        })),
        ..plain.clone()
    };
    set(&provisioner, &full);
    settled(&provisioner).await;
    assert_eq!((cluster.made().await.len(), cluster.count("services").await), (8, 2));
    let deployment = cluster.get(&cluster.path("/apis/apps/v1", "deployments/edge-nobody")).await.unwrap();
    assert_eq!(deployment["spec"]["replicas"], 2, "the number stays until the autoscaler sets it");
    // Another leader applies everything once more, and nothing changes.
    // What it finds as it was made by POST changes once in its metadata: in who manages the fields.
    let with_a_generation = |mut made: Vec<(String, String, String)>| {
        made.retain(|(resource, ..)| !["serviceaccounts", "configmaps"].contains(&resource.as_str()));
        made
    };
    let mut before = with_a_generation(cluster.made().await);
    for turn in 0..2 {
        provisioner.lead(false);
        provisioner.lead(true);
        settled(&provisioner).await;
        let after = cluster.made().await;
        assert_eq!(if turn == 0 { with_a_generation(after.clone()) } else { after.clone() }, before);
        before = after;
    }
    for (prefix, resource) in [("/api/v1", "services"), ("/api/v1", "configmaps"), ("/apis/apps/v1", "deployments")] {
        let object = cluster.get(&cluster.path(prefix, &format!("{resource}/edge-nobody"))).await.unwrap();
        let entries = object["metadata"]["managedFields"].as_array().unwrap();
        let ours = entries.iter().filter(|entry| entry["manager"] == "portcullis-controller");
        let operations: Vec<_> = ours.map(|entry| entry["operation"].as_str().unwrap()).collect();
        assert_eq!(operations, ["Apply"], "{resource}: an update's fields would stay for ever");
    }

    // Reachable from inside only.
    let inside = vec![AddressRequest { index: 0, kind: AddressKind::Any, scope: AddressScope::Cluster }];
    set(&provisioner, &Infrastructure { addresses: inside, ..full.clone() });
    settled(&provisioner).await;
    // The further Service has the address already, and keeps it.
    let service = cluster.get(&cluster.path("/api/v1", "services/edge-nobody")).await.unwrap();
    assert_eq!((&service["spec"]["type"], cluster.count("services").await), (&json!("ClusterIP"), 2));

    // And back.
    set(&provisioner, &Infrastructure { ports: [(80, TransportProtocol::Tcp)].into(), generation: 2, ..plain.clone() });
    settled(&provisioner).await;
    assert_eq!((cluster.made().await.len(), cluster.count("services").await), (6, 1));
    let service = cluster.get(&cluster.path("/api/v1", "services/edge-nobody")).await.unwrap();
    assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(service["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(service["metadata"]["annotations"].get("example.com/pool"), None);

    // With the Gateway everything goes, by the garbage collector alone.
    provisioner.lead(false);
    cluster.send("DELETE", &format!("{gateways}/edge"), &json!({})).await.unwrap();
    until("collected", || async { cluster.made().await.is_empty() }).await;
    cluster.send("DELETE", &format!("/api/v1/namespaces/{}", cluster.namespace), &json!({})).await.unwrap();
}
