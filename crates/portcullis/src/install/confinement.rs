//! What the admission policies let the controller's ServiceAccount write, asked of a real API server.
//!
//! Runs where `PORTCULLIS_TEST_KUBECONFIG` names the kubeconfig of a cluster's administrator. Rights and policies are applied
//! as `portcullis install` has them; everything else is a dry run.

use super::api_server::{self, ApiServer};
use super::manifests::{self, NAMESPACE, Settings};
use crate::cli::Cluster;
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
        prepare(&server).await;
        for (what, object, allowed) in creations() {
            let answer = create(&server, &object).await;
            assert_eq!(answer.is_ok(), allowed, "{what}: {answer:?}");
            // Not for another reason. Secrets of other namespaces are beyond its rights already.
            let confined = |error: &String| {
                error.contains("ValidatingAdmissionPolicy 'portcullis-controller-")
                    || error.contains("cannot create resource \"secrets\"")
            };
            assert!(answer.as_ref().err().is_none_or(confined), "{what}: {answer:?}");
        }
        changes(&server).await;
        server.delete(&namespace()).await.map(drop)
    });
    done.unwrap_or_else(|failure| panic!("{failure}"));
}

async fn prepare(server: &ApiServer) {
    for object in manifests::objects(&Settings::new(NAMESPACE, None, None).unwrap()) {
        if !matches!(object["kind"].as_str(), Some("Deployment" | "GatewayClass" | "CustomResourceDefinition")) {
            server.apply(&object, "portcullis-install").await.unwrap_or_else(|failure| panic!("{failure}"));
        }
    }
    server.apply(&namespace(), "test").await.unwrap_or_else(|failure| panic!("{failure}"));
    // An API server follows new policies within seconds; each of them has to be there.
    let deadline = Instant::now() + Duration::from_secs(60);
    for (what, object, allowed) in creations() {
        while !allowed && create(server, &object).await.is_ok() {
            assert!(Instant::now() < deadline, "{what}: still allowed");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn namespace() -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": GATEWAYS_NAMESPACE } })
}

/// Asks as the controller, without an effect.
async fn ask(server: &ApiServer, method: &str, path: &str, body: &Value) -> Result<Value, String> {
    let content_type = if method == "PATCH" { "application/apply-patch+yaml" } else { "application/json" };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("Content-Type", content_type)
        .header("Impersonate-User", format!("system:serviceaccount:{NAMESPACE}:portcullis-controller"))
        .header("Impersonate-Group", "system:authenticated")
        .body(body.to_string().into_bytes())
        .unwrap();
    server.client.request::<Value>(request).await.map_err(|error| error.to_string())
}

async fn create(server: &ApiServer, object: &Value) -> Result<Value, String> {
    ask(server, "POST", &format!("{}?dryRun=All", collection(object)), object).await
}

fn collection(object: &Value) -> String {
    let (prefix, plural) = match object["kind"].as_str().unwrap() {
        "Deployment" => ("/apis/apps/v1", "deployments"),
        "Service" => ("/api/v1", "services"),
        "ServiceAccount" => ("/api/v1", "serviceaccounts"),
        "ConfigMap" => ("/api/v1", "configmaps"),
        "Secret" => ("/api/v1", "secrets"),
        kind => panic!("{kind}"),
    };
    format!("{prefix}/namespaces/{}/{plural}", object["metadata"]["namespace"].as_str().unwrap())
}

fn owned(api_version: &str, kind: &str, fields: Value) -> Value {
    let mut object = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": "edge-portcullis",
            "namespace": GATEWAYS_NAMESPACE,
            "labels": labels(),
            "ownerReferences": [{
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "edge", "uid": "1",
                "controller": true,
            }],
        },
    });
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

fn labels() -> Value {
    json!({
        "gateway.networking.k8s.io/gateway-name": "edge",
        "gateway.networking.k8s.io/gateway-class-name": "portcullis",
        "app.kubernetes.io/instance": "edge-portcullis",
        "app.kubernetes.io/managed-by": "portcullis",
        "app.kubernetes.io/name": "portcullis-data-plane",
        "app.kubernetes.io/component": "data-plane",
    })
}

fn selector() -> Value {
    json!({ "gateway.networking.k8s.io/gateway-name": "edge", "app.kubernetes.io/instance": "edge-portcullis" })
}

fn deployment() -> Value {
    let spec = json!({
        "selector": { "matchLabels": selector() },
        "template": {
            "metadata": { "labels": labels() },
            "spec": {
                "serviceAccountName": "edge-portcullis",
                "automountServiceAccountToken": false,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [{
                    "name": "data-plane",
                    "image": concat!("localhost/portcullis:", env!("CARGO_PKG_VERSION")),
                    "args": ["data-plane", "--gateway=a/b"],
                    "env": [{ "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } }],
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                        "capabilities": { "drop": ["ALL"] },
                    },
                }],
                "volumes": [
                    { "name": "portcullis-ca", "configMap": { "name": "edge-portcullis" } },
                    { "name": "portcullis-token", "projected": { "sources": [{ "serviceAccountToken": {
                        "audience": "portcullis.dev/controller", "expirationSeconds": 3600, "path": "token",
                    } }] } },
                ],
            },
        },
    });
    owned("apps/v1", "Deployment", json!({ "spec": spec }))
}

fn service() -> Value {
    let ports = json!([{ "port": 80 }]);
    owned("v1", "Service", json!({ "spec": { "type": "LoadBalancer", "selector": selector(), "ports": ports } }))
}

fn account() -> Value {
    owned("v1", "ServiceAccount", json!({ "automountServiceAccountToken": false }))
}

fn config_map() -> Value {
    owned("v1", "ConfigMap", json!({ "data": { "ca.crt": "x" } }))
}

fn secret(namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": namespace } })
}

/// An object with another value at a place; null takes it away.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    if value.is_null() {
        parent.as_object_mut().unwrap().shift_remove(field);
    } else if let Some(items) = parent.as_array_mut() {
        items.push(value);
    } else {
        // Names in pointers have ~1 for a slash.
        parent[&field.replace("~1", "/")] = value;
    }
    object
}

/// What is created, and whether that is allowed.
fn creations() -> Vec<(String, Value, bool)> {
    let pod = "/spec/template/spec";
    let container = "/spec/template/spec/containers/0";
    let mut cases = vec![
        ("a Deployment".to_owned(), deployment(), true),
        ("a Service".to_owned(), service(), true),
        ("a ServiceAccount".to_owned(), account(), true),
        ("a ConfigMap".to_owned(), config_map(), true),
        ("the authority".to_owned(), secret(NAMESPACE, "portcullis-ca"), true),
        ("another Secret".to_owned(), secret(NAMESPACE, "other"), false),
        ("a Secret elsewhere".to_owned(), secret(GATEWAYS_NAMESPACE, "portcullis-ca"), false),
    ];
    let other_owner = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "1", "controller": true }]);
    for (pointer, value) in [
        ("/metadata/ownerReferences", Value::Null),
        ("/metadata/ownerReferences", other_owner),
        ("/metadata/ownerReferences/0/controller", json!(false)),
        ("/metadata/ownerReferences/0/apiVersion", json!("example.com/v1")),
        ("/metadata/labels", Value::Null),
        ("/metadata/labels/app.kubernetes.io~1managed-by", json!("someone")),
    ] {
        for object in [deployment(), service(), account(), config_map()] {
            let what = format!("{} with {pointer} {value}", object["kind"]);
            cases.push((what, with(object, pointer, value.clone()), false));
        }
    }
    for (pointer, value, allowed) in [
        (format!("{container}/image"), json!("docker.io/library/alpine"), false),
        (format!("{container}/command"), json!(["/portcullis"]), false),
        (format!("{container}/args"), json!(["controller"]), false),
        (format!("{container}/args"), Value::Null, false),
        (format!("{container}/name"), json!("other"), false),
        (format!("{container}/lifecycle"), json!({ "postStart": { "exec": { "command": ["/portcullis"] } } }), false),
        (format!("{pod}/containers/-"), json!({ "name": "other", "image": "alpine" }), false),
        (format!("{pod}/initContainers"), json!([{ "name": "other", "image": "alpine" }]), false),
        (format!("{pod}/hostNetwork"), json!(true), false),
        (format!("{pod}/hostPID"), json!(true), false),
        (format!("{pod}/hostIPC"), json!(true), false),
        (format!("{pod}/nodeName"), json!("node"), false),
        (format!("{pod}/priorityClassName"), json!("system-node-critical"), false),
        (format!("{pod}/priorityClassName"), json!("edge"), true),
        (format!("{pod}/serviceAccountName"), json!("default"), false),
        (format!("{pod}/automountServiceAccountToken"), json!(true), false),
        (format!("{pod}/automountServiceAccountToken"), Value::Null, false),
        (format!("{pod}/securityContext/runAsNonRoot"), json!(false), false),
        (format!("{pod}/securityContext/runAsUser"), json!(0), false),
        (format!("{pod}/securityContext/seccompProfile"), json!({ "type": "Unconfined" }), false),
        (
            format!("{pod}/securityContext/sysctls"),
            json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }]),
            true,
        ),
        (format!("{pod}/securityContext/sysctls"), json!([{ "name": "kernel.msgmax", "value": "1" }]), false),
        (format!("{container}/securityContext/allowPrivilegeEscalation"), Value::Null, false),
        (format!("{container}/securityContext/readOnlyRootFilesystem"), json!(false), false),
        (format!("{container}/securityContext/runAsUser"), json!(0), false),
        (format!("{container}/securityContext/capabilities"), Value::Null, false),
        (format!("{container}/securityContext/capabilities/add"), json!(["NET_ADMIN"]), false),
        (format!("{container}/ports"), json!([{ "containerPort": 80, "hostPort": 80 }]), false),
        (format!("{container}/envFrom"), json!([{ "secretRef": { "name": "a" } }]), false),
        (format!("{container}/env/-"), json!({ "name": "A", "value": "b" }), true),
        (
            format!("{container}/env/-"),
            json!({ "name": "A", "valueFrom": { "secretKeyRef": { "name": "a", "key": "b" } } }),
            false,
        ),
        (format!("{pod}/volumes/-"), json!({ "name": "a", "emptyDir": {} }), true),
        (format!("{pod}/volumes/-"), json!({ "name": "a", "hostPath": { "path": "/" } }), false),
        (format!("{pod}/volumes/-"), json!({ "name": "a", "secret": { "secretName": "a" } }), false),
        (format!("{pod}/volumes/-"), json!({ "name": "a", "configMap": { "name": "other" } }), false),
        (
            format!("{pod}/volumes/-"),
            json!({ "name": "a", "projected": { "sources": [{ "secret": { "name": "a" } }] } }),
            false,
        ),
        (format!("{pod}/volumes/1/projected/sources/0/serviceAccountToken/audience"), json!("other"), false),
        (format!("{pod}/volumes/1/projected/sources/0/serviceAccountToken/audience"), Value::Null, false),
        ("/spec/template/metadata/labels/app.kubernetes.io~1name".to_owned(), json!("other"), false),
    ] {
        cases.push((format!("Deployment with {pointer} {value}"), with(deployment(), &pointer, value), allowed));
    }
    for (object, pointer, value, allowed) in [
        (service(), "/spec/type", json!("ClusterIP"), true),
        (service(), "/spec/loadBalancerIP", json!("192.0.2.1"), true),
        (service(), "/spec/externalIPs", json!(["192.0.2.1"]), false),
        (service(), "/spec/selector", json!({ "app": "other" }), false),
        (service(), "/spec/selector", Value::Null, false),
        (account(), "/automountServiceAccountToken", Value::Null, false),
        (account(), "/secrets", json!([{ "name": "a" }]), false),
        (config_map(), "/data/other", json!("x"), false),
    ] {
        let what = format!("{} with {pointer} {value}", object["kind"]);
        cases.push((what, with(object, pointer, value), allowed));
    }
    let external = json!({ "type": "ExternalName", "externalName": "example.com" });
    cases.push(("a Service for a name".to_owned(), with(service(), "/spec", external), false));
    cases
}

/// What is somebody else's stays so.
async fn changes(server: &ApiServer) {
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "edge-portcullis", "namespace": GATEWAYS_NAMESPACE, "labels": { "app": "theirs" } },
        "spec": { "selector": { "app": "theirs" }, "ports": [{ "port": 80, "protocol": "TCP" }] },
    });
    server.apply(&foreign, "test").await.unwrap_or_else(|failure| panic!("{failure}"));
    for (method, answer) in [("PATCH", patch(server).await), ("DELETE", delete(server).await)] {
        assert!(
            answer.as_ref().is_err_and(|error| error.contains("portcullis-controller-owned")),
            "{method}: {answer:?}"
        );
    }
    server.delete(&foreign).await.unwrap_or_else(|failure| panic!("{failure}"));

    server.apply(&service(), "test").await.unwrap_or_else(|failure| panic!("{failure}"));
    patch(server).await.unwrap_or_else(|error| panic!("{error}"));
    // Its owner does not exist: Kubernetes may have been faster.
    let deleted = delete(server).await;
    assert!(deleted.as_ref().err().is_none_or(|error| error.contains("not found")), "{deleted:?}");
    server.delete(&service()).await.unwrap_or_else(|failure| panic!("{failure}"));
}

async fn patch(server: &ApiServer) -> Result<Value, String> {
    let path =
        format!("{}/edge-portcullis?dryRun=All&fieldManager=portcullis-controller&force=true", collection(&service()));
    ask(server, "PATCH", &path, &service()).await
}

async fn delete(server: &ApiServer) -> Result<Value, String> {
    let path = format!("{}/edge-portcullis?dryRun=All", collection(&service()));
    ask(server, "DELETE", &path, &json!({})).await
}
