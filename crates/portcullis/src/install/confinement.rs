//! What the admission policies let the controller's ServiceAccount write, asked of a real API server.
//!
//! Runs where `PORTCULLIS_TEST_KUBECONFIG` names the kubeconfig of a cluster's administrator; what is about the status of routes
//! needs the Gateway API's definitions there. Rights and policies are applied as `portcullis install` has them; nearly everything
//! else is a dry run.

mod creations;

use super::api_server::{self, ApiServer, Failure};
use super::manifests::{self, NAMESPACE, Settings};
use crate::cli::Cluster;
use creations::{creations, rendered, service};
use http::Request;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const GATEWAYS_NAMESPACE: &str = "portcullis-confinement";

#[test]
fn the_controller_can_write_data_planes_and_nothing_else() {
    let Some(kubeconfig) = std::env::var_os("PORTCULLIS_TEST_KUBECONFIG") else {
        eprintln!("left out: PORTCULLIS_TEST_KUBECONFIG is not set");
        return;
    };
    let cluster = Cluster { kubeconfig: Some(kubeconfig.into()), context: None };
    let done = api_server::run(&cluster, async |server| {
        let made = prepare(&server).await;
        let mut wrong = Vec::new();
        for (what, object, allowed) in creations() {
            let answer = create(&server, &object).await;
            // Not for another reason. Secrets of other namespaces are beyond its rights already.
            let confined = |error: &String| {
                error.contains("ValidatingAdmissionPolicy 'portcullis-controller-")
                    || error.contains("cannot create resource \"secrets\"")
                    || error.contains("cannot create resource \"leases\"")
            };
            if answer.is_ok() != allowed || answer.as_ref().is_err_and(|error| !confined(error)) {
                wrong.push(format!("{what}: {}", answer.map_or_else(|error| error, |_| "allowed".to_owned())));
            }
        }
        assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
        changes(&server).await;
        others_stay_theirs(&server).await;
        statuses(&server).await;
        expressions_are_of_the_right_types(&server).await;
        remove(&server, &made).await
    });
    done.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Installs all but the controller itself, and gives what was not there before.
async fn prepare(server: &ApiServer) -> Vec<Value> {
    let mut objects = manifests::objects(&Settings::new(NAMESPACE, None, None).unwrap());
    objects.retain(|object| {
        !matches!(object["kind"].as_str(), Some("Deployment" | "GatewayClass" | "CustomResourceDefinition"))
    });
    objects.push(namespace());
    let mut made = Vec::new();
    for object in objects {
        if server.read(&object).await.unwrap_or_else(|failure| panic!("{failure}")).is_none() {
            made.push(object.clone());
        }
        server.apply(&object, "portcullis-install").await.unwrap_or_else(|failure| panic!("{failure}"));
    }
    // An API server follows new policies within seconds; each of them has to be there.
    let deadline = Instant::now() + Duration::from_secs(30);
    for (_, object, allowed) in creations() {
        while !allowed && create(server, &object).await.is_ok() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    made
}

/// Deletes objects and waits until they are gone.
async fn remove(server: &ApiServer, made: &[Value]) -> Result<(), Failure> {
    for object in made.iter().rev() {
        server.delete(object).await?;
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    for object in made {
        while server.read(object).await?.is_some() {
            assert!(Instant::now() < deadline, "{} {} stays", object["kind"], object["metadata"]["name"]);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    Ok(())
}

fn namespace() -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": GATEWAYS_NAMESPACE } })
}

/// Asks as the controller.
async fn ask(server: &ApiServer, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let account = format!("system:serviceaccount:{NAMESPACE}:portcullis-controller");
    send(server, method, path, body, Some(&account)).await
}

async fn send(
    server: &ApiServer,
    method: &str,
    path: &str,
    body: &Value,
    account: Option<&str>,
) -> Result<Value, String> {
    let content_type = if method == "PATCH" { "application/apply-patch+yaml" } else { "application/json" };
    let mut request = Request::builder().method(method).uri(path).header("Content-Type", content_type);
    if let Some(account) = account {
        request = request.header("Impersonate-User", account).header("Impersonate-Group", "system:authenticated");
    }
    let request = request.body(body.to_string().into_bytes()).unwrap();
    server.client.request::<Value>(request).await.map_err(|error| error.to_string())
}

/// Without an effect.
async fn create(server: &ApiServer, object: &Value) -> Result<Value, String> {
    ask(server, "POST", &format!("{}?dryRun=All", collection(object)), object).await
}

fn collection(object: &Value) -> String {
    let (prefix, plural) = match object["kind"].as_str().unwrap() {
        "Deployment" => ("/apis/apps/v1", "deployments"),
        "Event" => ("/apis/events.k8s.io/v1", "events"),
        "HorizontalPodAutoscaler" => ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
        "Lease" => ("/apis/coordination.k8s.io/v1", "leases"),
        "NetworkPolicy" => ("/apis/networking.k8s.io/v1", "networkpolicies"),
        "PodDisruptionBudget" => ("/apis/policy/v1", "poddisruptionbudgets"),
        "Service" => ("/api/v1", "services"),
        "ServiceAccount" => ("/api/v1", "serviceaccounts"),
        "ConfigMap" => ("/api/v1", "configmaps"),
        "Secret" => ("/api/v1", "secrets"),
        kind => panic!("{kind}"),
    };
    format!("{prefix}/namespaces/{}/{plural}", object["metadata"]["namespace"].as_str().unwrap())
}

fn path(object: &Value) -> String {
    format!("{}/{}", collection(object), object["metadata"]["name"].as_str().unwrap())
}

/// An object with another value at a place; null takes it away.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    if value.is_null() {
        parent.as_object_mut().unwrap().shift_remove(&field.replace("~1", "/"));
    } else if let Some(items) = parent.as_array_mut() {
        items.push(value);
    } else {
        // Names in pointers have ~1 for a slash.
        parent[&field.replace("~1", "/")] = value;
    }
    object
}

/// What is somebody else's stays so.
async fn changes(server: &ApiServer) {
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "edge-portcullis", "namespace": GATEWAYS_NAMESPACE, "labels": { "app": "theirs" } },
        "spec": { "selector": { "app": "theirs" }, "ports": [{ "port": 80, "protocol": "TCP" }] },
    });
    server.apply(&foreign, "test").await.unwrap_or_else(|failure| panic!("{failure}"));
    for (method, answer) in [("PATCH", patch(server, &service()).await), ("DELETE", delete(server, &service()).await)] {
        refused_as_not_ours(method, &answer);
    }
    server.delete(&foreign).await.unwrap_or_else(|failure| panic!("{failure}"));
}

fn refused_as_not_ours(what: &str, answer: &Result<Value, String>) {
    assert!(answer.as_ref().is_err_and(|error| error.contains("portcullis-controller-owned")), "{what}: {answer:?}");
}

/// What belongs to one Gateway never becomes another's, and what another installation made is not touched.
async fn others_stay_theirs(server: &ApiServer) {
    let gateways = format!("/apis/gateway.networking.k8s.io/v1/namespaces/{GATEWAYS_NAMESPACE}/gateways");
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": { "name": "edge", "namespace": GATEWAYS_NAMESPACE },
        "spec": { "gatewayClassName": "portcullis-confinement", "listeners": [{ "name": "a", "port": 80, "protocol": "HTTP" }] },
    });
    let gateway = send(server, "PATCH", &format!("{gateways}/edge?fieldManager=test&force=true"), &gateway, None).await;
    let uid = gateway.unwrap()["metadata"]["uid"].clone();
    // With an owner that exists, so that it is not collected.
    for ours in rendered("everything").into_iter().chain(rendered("default")) {
        let ours = with(ours, "/metadata/ownerReferences/0/uid", uid.clone());
        let ours = serde_json::from_str::<Value>(&ours.to_string().replace("6d2b", uid.as_str().unwrap())).unwrap();
        let what = format!("{} {}", ours["kind"], ours["metadata"]["name"]);
        let written = format!("{}?fieldManager=test&force=true", path(&ours));
        send(server, "PATCH", &written, &ours, None).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        patch(server, &ours).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        delete(server, &ours).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut moved = with(ours.clone(), "/metadata/ownerReferences/0/name", json!("other"));
        moved = with(moved, "/metadata/annotations/portcullis.dev~1gateway-name", json!("other"));
        moved = with(moved, "/metadata/labels/gateway.networking.k8s.io~1gateway-name", json!("other"));
        if ours["kind"] == "Service" {
            // The address of one Gateway would lead to the pods of another.
            moved = with(moved, "/spec/selector/gateway.networking.k8s.io~1gateway-name", json!("other"));
            refused_as_not_ours(&format!("{what} for another Gateway"), &patch(server, &moved).await);
        }
        let answer = patch(server, &moved).await;
        let confined = answer.as_ref().is_err_and(|error| error.contains("Policy 'portcullis-controller-"));
        assert!(confined, "{what} for another Gateway: {answer:?}");
        // Another installation's: the annotation by which one knows what it made.
        let theirs =
            with(ours.clone(), "/metadata/annotations/portcullis.dev~1controller-name", json!("example.com/a"));
        send(server, "PATCH", &written, &theirs, None).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        refused_as_not_ours(&format!("{what} of another installation"), &patch(server, &ours).await);
        refused_as_not_ours(&format!("{what} of another installation"), &delete(server, &ours).await);
        send(server, "DELETE", &path(&ours), &json!({}), None).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

/// The status of a class of ours, and our entries in that of a route, can be written; those of others cannot.
async fn statuses(server: &ApiServer) {
    const OURS: &str = "portcullis.dev/gateway-controller";
    let api = "/apis/gateway.networking.k8s.io/v1";
    for (controller, allowed) in [(OURS, true), ("example.com/controller", false)] {
        let name = format!("portcullis-confinement-{allowed}");
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": { "name": name }, "spec": { "controllerName": controller },
        });
        let path = format!("{api}/gatewayclasses/{name}");
        let written =
            send(server, "PATCH", &format!("{path}?fieldManager=test&force=true"), &class, None).await.unwrap();
        let answer =
            ask(server, "PUT", &format!("{path}/status?dryRun=All"), &with(written, "/status", json!({}))).await;
        send(server, "DELETE", &path, &json!({}), None).await.unwrap();
        assert_eq!(answer.is_ok(), allowed, "{controller}: {answer:?}");
    }
    let condition = |status: &str| {
        json!([{
            "type": "Accepted", "status": status, "reason": "A", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }])
    };
    let target = json!({ "group": "", "kind": "Service", "name": "a" });
    let routes = [
        ("httproutes", "HTTPRoute", "parents", "parentRef", json!({ "parentRefs": [{ "name": "edge" }] })),
        (
            "backendtlspolicies",
            "BackendTLSPolicy",
            "ancestors",
            "ancestorRef",
            json!({
                "targetRefs": [target], "validation": { "hostname": "a.example", "wellKnownCACertificates": "System" },
            }),
        ),
    ];
    for (plural, kind, list, about, spec) in routes {
        let path = format!("{api}/namespaces/{GATEWAYS_NAMESPACE}/{plural}/confined");
        let object = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": kind,
            "metadata": { "name": "confined", "namespace": GATEWAYS_NAMESPACE }, "spec": spec,
        });
        let entry = |controller: &str, status: &str| json!({ about: { "name": "edge" }, "controllerName": controller, "conditions": condition(status) });
        let theirs = entry("example.com/controller", "True");
        let mut written =
            send(server, "PATCH", &format!("{path}?fieldManager=test&force=true"), &object, None).await.unwrap();
        written["status"] = json!({ list: [theirs] });
        let written = send(server, "PUT", &format!("{path}/status"), &written, None).await.unwrap();
        for (what, entries, allowed) in [
            ("ours added", json!([theirs, entry(OURS, "True")]), true),
            ("as it was", json!([theirs]), true),
            ("theirs removed", json!([entry(OURS, "True")]), false),
            ("theirs changed", json!([entry("example.com/controller", "False"), entry(OURS, "True")]), false),
            ("theirs added", json!([theirs, entry("example.com/other", "True")]), false),
        ] {
            let changed = with(written.clone(), &format!("/status/{list}"), entries);
            let answer = ask(server, "PUT", &format!("{path}/status?dryRun=All"), &changed).await;
            assert_eq!(answer.is_ok(), allowed, "{kind}, {what}: {answer:?}");
        }
    }
}

/// The API server holds each expression against the types of its kinds.
async fn expressions_are_of_the_right_types(server: &ApiServer) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut objects = manifests::objects(&Settings::new(NAMESPACE, None, None).unwrap());
    objects.retain(|object| object["kind"] == "ValidatingAdmissionPolicy");
    assert!(!objects.is_empty());
    for object in objects {
        let name = &object["metadata"]["name"];
        loop {
            let found = server.read(&object).await.unwrap_or_else(|failure| panic!("{failure}")).unwrap();
            let warnings = &found["status"]["typeChecking"]["expressionWarnings"];
            assert!(warnings.is_null(), "{name}: {warnings:#}");
            if found["status"]["observedGeneration"] == found["metadata"]["generation"] {
                break;
            }
            assert!(Instant::now() < deadline, "{name} is not checked");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn patch(server: &ApiServer, object: &Value) -> Result<Value, String> {
    let path = format!("{}?dryRun=All&fieldManager=portcullis-controller&force=true", path(object));
    ask(server, "PATCH", &path, object).await
}

async fn delete(server: &ApiServer, object: &Value) -> Result<Value, String> {
    ask(server, "DELETE", &format!("{}?dryRun=All", path(object)), &json!({})).await
}
