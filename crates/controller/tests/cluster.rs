//! The controller against a real API server: set `PORTCULLIS_TEST_KUBECONFIG` to a kubeconfig of one with the Gateway API's definitions whose
//! objects may be changed. Without it these tests say that they were left out.
//!
//! Data planes cannot run here (their image is not there, and they could not reach this process); what they bring is tested elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "one test program: what these hold for is a test that fails"
)]

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::{Method, Request};
use kube::Client;
use portcullis_cluster::Scope;
use portcullis_controller::{Options, RunError};
use portcullis_runtime::drain::Drain;
use serde_json::{Value, json};

const KUBECONFIG: &str = "PORTCULLIS_TEST_KUBECONFIG";
const GATEWAY_API: &str = "/apis/gateway.networking.k8s.io/v1";

/// How long something may take that takes milliseconds when nothing else runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace and a class of its own.
struct World {
    kubeconfig: PathBuf,
    client: Client,
    name: String,
}

impl World {
    async fn new() -> Option<Self> {
        let Some(kubeconfig) = std::env::var_os(KUBECONFIG).map(PathBuf::from) else {
            eprintln!("left out: {KUBECONFIG} is not set");
            return None;
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = portcullis_cluster::connect(Some(&kubeconfig), None).await.unwrap();
        let name = format!("controller-test-{:08x}", fastrand::u32(..));
        let world = Self { kubeconfig, client, name };
        world.create("/api/v1/namespaces", json!({"metadata": {"name": world.name}})).await;
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": world.name},
            "spec": {"controllerName": world.controller_name()},
        });
        world.create(&format!("{GATEWAY_API}/gatewayclasses"), class).await;
        Some(world)
    }

    fn controller_name(&self) -> String {
        format!("portcullis.dev/{}", self.name)
    }

    fn start(&self, pod: &str) -> Controller {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = Options {
            version: "test",
            kubeconfig: Some(self.kubeconfig.clone()),
            context: None,
            namespace: self.name.clone(),
            lease_name: "portcullis-controller".to_owned(),
            image: "localhost/portcullis:none".to_owned(),
            image_pull_policy: Some("Never".to_owned()),
            controller_service: "portcullis-controller".to_owned(),
            controller_name: self.controller_name(),
            scope: Scope::default(),
            cluster_domain: "cluster.local".to_owned(),
            telemetry_address: None,
            stream_address: any,
            identity_address: any,
            pod_name: pod.to_owned(),
            pod_uid: None,
            pod_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            drain_timeout: Duration::from_secs(1),
        };
        let drain = Drain::new();
        let stop = drain.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, portcullis_controller::run(options, &drain))
        });
        Controller { stop, thread: Some(thread) }
    }

    fn path(&self, resource: &str, name: &str) -> String {
        format!("{GATEWAY_API}/namespaces/{}/{resource}/{name}", self.name)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<Value>,
    ) -> Result<Value, kube::Error> {
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request =
            Request::builder().method(method).uri(path).header("content-type", content_type).body(body).unwrap();
        self.client.request(request).await
    }

    async fn create(&self, path: &str, object: Value) -> Value {
        self.send(Method::POST, path, "application/json", Some(object)).await.unwrap_or_else(|error| fail(path, error))
    }

    async fn patch(&self, path: &str, patch: Value) -> Value {
        let patched = self.send(Method::PATCH, path, "application/merge-patch+json", Some(patch)).await;
        patched.unwrap_or_else(|error| fail(path, error))
    }

    async fn get(&self, path: &str) -> Option<Value> {
        self.send(Method::GET, path, "application/json", None).await.ok()
    }

    async fn delete(&self, path: &str) {
        let _ = self.send(Method::DELETE, path, "application/json", None).await;
    }

    /// Reads the object until it is as it should be.
    async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let object = self.get(path).await.unwrap_or_default();
            if is_so(&object) {
                return object;
            }
            assert!(started.elapsed() < PATIENCE, "{path} did not become as it should be: {object:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn gateway(&self, name: &str) {
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": name},
            "spec": {"gatewayClassName": self.name, "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
        });
        self.create(&format!("{GATEWAY_API}/namespaces/{}/gateways", self.name), gateway).await;
    }

    async fn route(&self, name: &str, gateway: &str) {
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name},
            "spec": {"parentRefs": [{"name": gateway}], "rules": [{"backendRefs": [{"name": "absent", "port": 80}]}]},
        });
        self.create(&format!("{GATEWAY_API}/namespaces/{}/httproutes", self.name), route).await;
    }

    async fn end(self) {
        self.delete(&format!("{GATEWAY_API}/gatewayclasses/{}", self.name)).await;
        self.delete(&format!("/api/v1/namespaces/{}", self.name)).await;
    }
}

fn fail(path: &str, error: impl Display) -> ! {
    panic!("{path}: {error}")
}

/// A running controller; it is stopped with this.
struct Controller {
    stop: Drain,
    thread: Option<JoinHandle<Result<(), RunError>>>,
}

impl Controller {
    fn end(mut self) {
        self.stop.begin(Duration::from_secs(1));
        let thread = self.thread.take().unwrap();
        thread.join().unwrap().unwrap();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop.force();
    }
}

fn run(test: impl AsyncFnOnce(&World)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if let Some(world) = World::new().await {
            test(&world).await;
            world.end().await;
        }
    });
}

fn condition<'a>(object: &'a Value, list: &str, name: &str) -> &'a Value {
    let found =
        object.pointer(list).and_then(Value::as_array).into_iter().flatten().find(|known| known["type"] == name);
    found.unwrap_or(&Value::Null)
}

fn resource_version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

#[test]
fn statuses_say_what_is_so_and_services_exist() {
    run(async |world: &World| {
        let controller = world.start("one");
        let class = format!("{GATEWAY_API}/gatewayclasses/{}", world.name);
        let class =
            world.until(&class, |class| condition(class, "/status/conditions", "Accepted")["status"] == "True").await;
        assert!(class["status"]["supportedFeatures"].as_array().is_some_and(|features| features.len() > 1));

        world.gateway("web").await;
        world.route("cart", "web").await;
        let route = world
            .until(&world.path("httproutes", "cart"), |route| {
                condition(route, "/status/parents/0/conditions", "Accepted")["status"] == "True"
            })
            .await;
        assert_eq!(condition(&route, "/status/parents/0/conditions", "ResolvedRefs")["reason"], "BackendNotFound");
        let gateway = world
            .until(&world.path("gateways", "web"), |gateway| {
                gateway.pointer("/status/listeners/0/attachedRoutes") == Some(&json!(1))
            })
            .await;
        assert_eq!(condition(&gateway, "/status/conditions", "Accepted")["status"], "True");
        // Without a data plane nothing serves it.
        assert_eq!(condition(&gateway, "/status/conditions", "Programmed")["status"], "False");
        let service = format!("/api/v1/namespaces/{}/services/web-{}", world.name, world.name);
        let service = world.until(&service, |service| service["spec"]["ports"][0]["port"] == 80).await;
        assert_eq!(service["metadata"]["ownerReferences"][0]["uid"], gateway["metadata"]["uid"]);

        // A route that leaves takes our entry along.
        world.patch(&world.path("httproutes", "cart"), json!({"spec": {"parentRefs": [{"name": "other"}]}})).await;
        world.until(&world.path("httproutes", "cart"), |route| route["status"]["parents"] == json!([])).await;
        world
            .until(&world.path("gateways", "web"), |gateway| {
                gateway.pointer("/status/listeners/0/attachedRoutes") == Some(&json!(0))
            })
            .await;
        controller.end();
    });
}

#[test]
fn what_others_write_stays_and_what_they_take_away_comes_back() {
    run(async |world: &World| {
        let controller = world.start("one");
        world.gateway("web").await;
        world.route("cart", "web").await;
        let path = world.path("httproutes", "cart");
        let status = format!("{path}/status");
        let route =
            world.until(&path, |route| route["status"]["parents"].as_array().is_some_and(|all| all.len() == 1)).await;

        let theirs = json!({
            "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "elsewhere"},
            "controllerName": "example.com/controller",
            "conditions": [{
                "type": "Accepted", "status": "True", "reason": "Accepted", "message": "", "observedGeneration": 1,
                "lastTransitionTime": "2020-01-01T00:00:00Z",
            }],
        });
        let mut ours = route["status"]["parents"][0].clone();
        ours["conditions"].as_array_mut().unwrap().push(json!({
            "type": "example.com/Affected", "status": "True", "reason": "Because", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z",
        }));
        world.patch(&status, json!({"status": {"parents": [theirs, ours]}})).await;
        world.patch(&path, json!({"spec": {"hostnames": ["cart.example.com"]}})).await;
        let route = world
            .until(&path, |route| {
                condition(route, "/status/parents/1/conditions", "Accepted")["observedGeneration"] == 2
            })
            .await;
        assert_eq!(route["status"]["parents"][0], theirs);
        assert_eq!(condition(&route, "/status/parents/1/conditions", "example.com/Affected")["status"], "True");

        world.patch(&status, json!({"status": {"parents": [theirs]}})).await;
        world.until(&path, |route| route["status"]["parents"].as_array().is_some_and(|all| all.len() == 2)).await;
        controller.end();
    });
}

#[test]
fn another_replica_goes_on_where_one_stopped_and_writes_nothing_again() {
    run(async |world: &World| {
        let one = world.start("one");
        world.gateway("web").await;
        world.route("cart", "web").await;
        let cart = world.path("httproutes", "cart");
        let before = world.until(&cart, |route| !route["status"]["parents"][0].is_null()).await;
        let two = world.start("two");
        one.end();
        // The second one leads once it has written something.
        world.route("list", "web").await;
        world.until(&world.path("httproutes", "list"), |route| !route["status"]["parents"][0].is_null()).await;
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/portcullis-controller", world.name);
        let lease = world.get(&path).await.unwrap();
        assert!(lease["spec"]["holderIdentity"].as_str().unwrap().starts_with("two_"), "{lease}");
        let after = world.get(&cart).await.unwrap();
        assert_eq!(resource_version(&after), resource_version(&before));
        two.end();
        assert_eq!(world.get(&path).await.unwrap()["spec"]["holderIdentity"], "");
    });
}
