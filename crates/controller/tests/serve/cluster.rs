//! The same against a real API server: its tokens, its TokenReview, the owners that its own controllers set.
//!
//! Runs when `PORTCULLIS_TEST_KUBECONFIG` names a kubeconfig of a cluster with the Gateway API's definitions, in a namespace of its own.

use std::path::Path;
use std::time::Duration;

use ::kube::Client;
use ::kube::api::{Api, DeleteParams, ListParams};
use http::Request;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
use portcullis_controller::identity::AUDIENCE;
use portcullis_model::{ConfigDelta, Gateway, ObjectName, Resource};
use serde_json::{Value, json};

use crate::data_plane::Claim;
use crate::world::{LONG, Replica, authority_options, known};

/// A namespace that goes away with the test.
struct Place {
    client: Client,
    namespace: String,
}

impl Place {
    async fn new(client: Client) -> Self {
        let namespace = format!("portcullis-serve-{:08x}", fastrand::u32(..));
        let place = Self { client, namespace };
        place.post("/api/v1/namespaces", json!({"metadata": {"name": place.namespace}})).await;
        place
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(body.to_string().into_bytes()).unwrap();
        self.client.request(request).await.unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    async fn create(&self, group: &str, resource: &str, body: Value) -> Value {
        self.post(&format!("{group}/namespaces/{}/{resource}", self.namespace), body).await
    }

    /// A token of the data plane's ServiceAccount.
    async fn token(&self, audience: &str, pod: Option<&Pod>) -> String {
        let bound = pod
            .map(|pod| json!({"kind": "Pod", "apiVersion": "v1", "name": pod.metadata.name, "uid": pod.metadata.uid}));
        let spec = json!({"audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound});
        let answer = self.create("/api/v1", "serviceaccounts/edge-portcullis/token", json!({"spec": spec})).await;
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The pod that the Deployment's controllers make. It need not run: nothing here asks it anything.
    async fn pod(&self) -> Pod {
        let made = async {
            loop {
                let pods = self.pods().list(&ListParams::default().labels("app=data-plane")).await.unwrap();
                match pods.items.into_iter().next() {
                    Some(pod) => return pod,
                    None => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        tokio::time::timeout(LONG, made).await.expect("the Deployment's pod")
    }

    /// The Gateway and the Deployment of its data plane; the Gateway's UID.
    async fn install(&self) -> String {
        let spec = json!({"gatewayClassName": "none", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]});
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec
        });
        let gateway = self.create("/apis/gateway.networking.k8s.io/v1", "gateways", gateway).await;
        let uid = gateway["metadata"]["uid"].as_str().unwrap().to_owned();
        self.create("/api/v1", "serviceaccounts", json!({"metadata": {"name": "edge-portcullis"}})).await;
        let labels = json!({
            "app": "data-plane",
            "app.kubernetes.io/managed-by": "portcullis",
            "app.kubernetes.io/name": "portcullis-data-plane"
        });
        let deployment = json!({
            "metadata": {
                "name": "edge-portcullis", "labels": labels,
                "ownerReferences": [{
                    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "edge", "uid": uid,
                    "controller": true, "blockOwnerDeletion": true
                }]
            },
            "spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": "data-plane"}},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "serviceAccountName": "edge-portcullis", "nodeSelector": {"portcullis.dev/no-such-node": ""},
                    "containers": [{"name": "data-plane", "image": "localhost/portcullis:none"}]
                }}
            }
        });
        self.create("/apis/apps/v1", "deployments", deployment).await;
        uid
    }

    async fn remove(self) {
        let namespaces: Api<Namespace> = Api::all(self.client);
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }
}

fn serve(replica: &Replica, namespace: &str, uid: &str) {
    let name = ObjectName::new(namespace, "edge");
    let gateway = Gateway {
        name: name.clone(),
        gateway_class: "portcullis".into(),
        addresses: Vec::new(),
        generation: 1,
        upstreams: Default::default(),
    };
    replica.server.gateways(known(&[(namespace, "edge", uid)]));
    let upserted = vec![Resource::Gateway(gateway.into())];
    replica.server.publish(vec![ConfigDelta::Change { gateway: name, upserted, removed: Vec::new() }]);
}

#[tokio::test]
async fn tokens_and_owners_of_a_real_cluster() {
    let Ok(kubeconfig) = std::env::var("PORTCULLIS_TEST_KUBECONFIG") else {
        println!("left out: PORTCULLIS_TEST_KUBECONFIG names no cluster");
        return;
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = portcullis_cluster::connect(Some(Path::new(&kubeconfig)), None).await.unwrap();
    let place = Place::new(client.clone()).await;
    let mut options = authority_options("controller-0");
    options.namespace = place.namespace.clone();
    let replica = Replica::begin(client.clone(), options, true).await;
    let secrets: Api<Secret> = Api::namespaced(client, &place.namespace);
    let secret = secrets.get("portcullis-ca").await.unwrap();
    assert_eq!(secret.type_.as_deref(), Some("portcullis.dev/certificate-authority"));

    let uid = place.install().await;
    let pod = place.pod().await;
    serve(&replica, &place.namespace, &uid);
    let good = place.token(AUDIENCE, Some(&pod)).await;
    let claim = |token: &str| Claim {
        token: Some(token.to_owned()),
        gateway: format!("{}/edge", place.namespace),
        gateway_uid: uid.clone(),
        pod: pod.metadata.name.clone().unwrap(),
    };
    let (status, answer) = claim(&good).ask(&replica).await;
    assert_eq!(status, 200, "{answer}");

    // By its own words the first is for somebody else; what is signed by nobody, the API server does not authenticate.
    let foreign = place.token("https://kubernetes.default.svc", Some(&pod)).await;
    let unbound = place.token(AUDIENCE, None).await;
    let bare = json!({
        "metadata": {"name": "bare", "labels": {"app": "data-plane", "pod-template-hash": "forged"}},
        "spec": {
            "serviceAccountName": "edge-portcullis", "nodeSelector": {"portcullis.dev/no-such-node": ""},
            "containers": [{"name": "mine", "image": "localhost/mine"}]
        }
    });
    place.create("/api/v1", "pods", bare).await;
    let bare = place.pods().get("bare").await.unwrap();
    let of_bare = Claim { pod: "bare".to_owned(), ..claim(&place.token(AUDIENCE, Some(&bare)).await) };
    for (case, claim, class) in [
        ("for another audience", claim(&foreign), "audience"),
        ("forged", claim(&format!("{}AAAA", &good[..good.len() - 4])), "token"),
        ("bound to nothing", claim(&unbound), "not_of_pod"),
        ("a pod of nobody under the right ServiceAccount", of_bare, "owner"),
    ] {
        assert_eq!(claim.ask(&replica).await, (403, json!({"error": class})), "{case}");
    }

    // A token ends with its pod.
    place.pods().delete(pod.metadata.name.as_deref().unwrap(), &DeleteParams::default().grace_period(0)).await.unwrap();
    let refused = async {
        while claim(&good).ask(&replica).await.0 != 403 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(LONG, refused).await.expect("the token of a pod that is gone is refused");
    place.remove().await;
}
