//! A watch of a real API server: set `PORTCULLIS_TEST_KUBECONFIG` to the kubeconfig of an administrator of one that has the
//! Gateway API's definitions. Without it these tests say that they were left out. They work in a namespace of their own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, Request};
use kube::config::Kubeconfig;
use portcullis_api::{Change, Object};
use portcullis_cluster::{
    Client, Event, KindId, Namespaces, Rule, Scope, SecretAccess, Selection, Watch, connect, rights,
};
use portcullis_model::ObjectName;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

const KUBECONFIG: &str = "PORTCULLIS_TEST_KUBECONFIG";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1";
/// How long something may take that takes milliseconds when nothing else runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace of its own.
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
        let client = connect(Some(&kubeconfig), None).await.unwrap();
        let name = format!("cluster-test-{:08x}", fastrand::u32(..));
        let world = Self { kubeconfig, client, name };
        world.send(Method::POST, "/api/v1/namespaces", &json!({"metadata": {"name": world.name}})).await;
        Some(world)
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Value {
        let content = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method.clone()).uri(path).header("content-type", content).body(body);
        self.client.request(request.unwrap()).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn inside(&self, api: &str, resource: &str) -> String {
        format!("{api}/namespaces/{}/{resource}", self.name)
    }

    async fn put_secret(&self, name: &str, value: &str) {
        let secret = json!({"metadata": {"name": name}, "stringData": {"value": value}});
        self.send(Method::POST, &self.inside("/api/v1", "secrets"), &secret).await;
    }

    /// A client that is allowed what these rules say, and nothing else. The namespace is the test's own.
    async fn with_rights(&self, user: &str, rules: &[Rule]) -> Client {
        let policy: Vec<_> = rules.iter().map(policy_rule).collect();
        let name = format!("{}-{user}", self.name);
        let role = json!({"metadata": {"name": name}, "rules": policy});
        self.send(Method::POST, &format!("{ROLES}/clusterroles"), &role).await;
        let binding = json!({
            "metadata": {"name": name},
            "subjects": [{"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}],
            "roleRef": {"kind": "ClusterRole", "name": name, "apiGroup": "rbac.authorization.k8s.io"},
        });
        self.send(Method::POST, &format!("{ROLES}/clusterrolebindings"), &binding).await;
        let mut kubeconfig = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        for user in &mut kubeconfig.auth_infos {
            if let Some(auth) = &mut user.auth_info {
                auth.impersonate = Some(name.clone());
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, serde_json::to_vec(&kubeconfig).unwrap()).unwrap();
        let client = connect(Some(&path), None).await.unwrap();
        self.until_in_force(&client, rules.first()).await;
        client
    }

    /// An API server takes note of roles a moment after they were made.
    async fn until_in_force(&self, client: &Client, rule: Option<&Rule>) {
        let Some(rule) = rule else { return };
        let attributes = json!({"group": rule.group, "resource": rule.resource, "verb": rule.verbs.first()});
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        loop {
            let body = review.to_string().into_bytes();
            let request = Request::post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
                .header("content-type", "application/json")
                .body(body);
            let answer: Value = client.request(request.unwrap()).await.unwrap();
            if answer["status"]["allowed"] == true {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self, users: &[String]) {
        for user in users {
            for resource in ["clusterroles", "clusterrolebindings"] {
                self.send(Method::DELETE, &format!("{ROLES}/{resource}/{}-{user}", self.name), &Value::Null).await;
            }
        }
        self.send(Method::DELETE, &format!("/api/v1/namespaces/{}", self.name), &Value::Null).await;
    }

    fn secret(&self, name: &str) -> BTreeSet<ObjectName> {
        BTreeSet::from([ObjectName::new(self.name.as_str(), name)])
    }
}

fn policy_rule(rule: &Rule) -> Value {
    json!({"apiGroups": [rule.group], "resources": [rule.resource], "verbs": rule.verbs})
}

async fn until<T>(events: &mut mpsc::Receiver<Event>, what: &str, mut holds: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        match timeout(PATIENCE, events.recv()).await {
            Ok(Some(event)) => {
                if let Some(found) = holds(event) {
                    return found;
                }
            }
            Ok(None) => panic!("{what}: the watch has ended"),
            Err(_) => panic!("{what}: never"),
        }
    }
}

/// The next change of an object of this kind and name.
async fn change(events: &mut mpsc::Receiver<Event>, kind: &str, name: &str) -> Option<Object> {
    until(events, &format!("{kind} {name}"), |event| {
        let Event::Changes(changes) = event else { return None };
        changes.into_iter().rev().find_map(|change| match change {
            Change::Upsert(object) if object.kind() == kind && object.metadata().name == name => Some(Some(object)),
            Change::Delete(key) if key.kind() == kind && key.name() == name => Some(None),
            _ => None,
        })
    })
    .await
}

async fn all_listed(events: &mut mpsc::Receiver<Event>) {
    until(events, "everything is listed", |event| matches!(event, Event::AllListed).then_some(())).await;
}

#[tokio::test]
async fn objects_come_change_and_go() {
    let Some(world) = World::new().await else { return };
    let (watch, mut events) = Watch::start(world.client.clone(), Selection { owned: true, ..Selection::default() });
    let mut schema = None;
    until(&mut events, "everything is listed", |event| match event {
        Event::ServedSchema(served) => {
            schema = Some(served);
            None
        }
        Event::KindUnreadable { error, .. } => panic!("{error}"),
        Event::AllListed => Some(()),
        _ => None,
    })
    .await;
    let schema = schema.unwrap();
    let gateway = schema.kind("gateway.networking.k8s.io", "Gateway").unwrap();
    assert!(gateway.bundle_version().is_some_and(|version| version.starts_with('v')), "{gateway:?}");

    let routes = world.inside(ROUTES, "httproutes");
    let route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "a"}, "spec": {"hostnames": ["a.example"]}});
    let created = world.send(Method::POST, &routes, &route).await;
    let object = change(&mut events, "HTTPRoute", "a").await.unwrap();
    assert_eq!(object.metadata().resource_version.as_deref(), created["metadata"]["resourceVersion"].as_str());
    assert!(object.metadata().extra.field("managedFields").is_none());
    world.send(Method::DELETE, &format!("{routes}/a"), &Value::Null).await;
    assert!(change(&mut events, "HTTPRoute", "a").await.is_none());

    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app.kubernetes.io/managed-by": "portcullis"}},
        "spec": {"nodeName": "nowhere", "automountServiceAccountToken": false, "containers": [{"name": "x", "image": "x"}]},
    });
    world.send(Method::POST, &world.inside("/api/v1", "pods"), &pod).await;
    let state = until(&mut events, "the pod", |event| match event {
        Event::Owned(owned) => owned.into_iter().find(|owned| &*owned.name.name == "p").and_then(|owned| owned.state),
        _ => None,
    })
    .await;
    assert_eq!(state.labels["app.kubernetes.io/managed-by"], "portcullis");
    drop(watch);
    world.end(&[]).await;
}

#[tokio::test]
async fn a_secret_that_is_wanted_is_kept_up_to_date() {
    let Some(world) = World::new().await else { return };
    world.put_secret("cert", "one").await;
    let (watch, mut events) = Watch::start(world.client.clone(), Selection::default());
    all_listed(&mut events).await;
    watch.want(world.secret("cert"), BTreeSet::new());
    let value = |object: Option<Object>| match object {
        Some(Object::Secret(secret)) => String::from_utf8(secret.data["value"].expose().to_vec()).unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(value(change(&mut events, "Secret", "cert").await), "one");
    let path = world.inside("/api/v1", "secrets/cert");
    world.send(Method::PATCH, &path, &json!({"stringData": {"value": "two"}})).await;
    assert_eq!(value(change(&mut events, "Secret", "cert").await), "two");
    world.send(Method::DELETE, &path, &Value::Null).await;
    assert!(change(&mut events, "Secret", "cert").await.is_none());
    world.put_secret("cert", "three").await;
    assert_eq!(value(change(&mut events, "Secret", "cert").await), "three");
    watch.want(BTreeSet::new(), BTreeSet::new());
    assert!(change(&mut events, "Secret", "cert").await.is_none());
    world.end(&[]).await;
}

/// The table of rights is what it takes: with it everything is read, and without any of its verbs something is not, and
/// it is said what.
#[tokio::test]
async fn every_right_is_needed_and_no_other_one() {
    let Some(world) = World::new().await else { return };
    world.put_secret("cert", "one").await;
    let map = json!({"metadata": {"name": "cert"}, "data": {"ca.crt": "x"}});
    world.send(Method::POST, &world.inside("/api/v1", "configmaps"), &map).await;
    let selection = Selection { owned: true, ..Selection::default() };
    let all = rights(&selection);
    let mut users = vec!["all".to_owned()];
    let client = world.with_rights("all", &all).await;
    let (watch, mut events) = Watch::start(client, selection.clone());
    let mut served = BTreeSet::new();
    until(&mut events, "everything is listed", |event| match event {
        Event::KindUnreadable { error, .. } => panic!("{error}"),
        Event::KindListed(kind) => {
            served.insert(kind);
            None
        }
        Event::AllListed => Some(()),
        _ => None,
    })
    .await;
    let number = watch.want(world.secret("cert"), world.secret("cert"));
    until(&mut events, "the bodies", |event| match event {
        Event::NotPermitted { error, .. } => panic!("{error}"),
        Event::WantedRead(read) => (read == number).then_some(()),
        _ => None,
    })
    .await;
    drop(watch);

    for (index, rule) in all.iter().enumerate() {
        let this = |kind: &&KindId| (kind.group, kind.resource()) == (rule.group, rule.resource);
        let Some(kind) = served.iter().find(this) else { continue };
        for verb in rule.verbs {
            let without: Vec<_> = rule.verbs.iter().copied().filter(|other| other != verb).collect();
            let mut rules = all.clone();
            rules[index].verbs = Box::leak(without.into_boxed_slice());
            let user = format!("{index}-{verb}");
            let client = world.with_rights(&user, &rules).await;
            users.push(user);
            expect_refusal(&world, client, &selection, *kind, verb).await;
        }
    }
    assert!(users.len() > 40, "{users:?}");
    world.end(&users).await;
}

/// What is missing without this verb is said; and nothing else is.
async fn expect_refusal(world: &World, client: Client, selection: &Selection, kind: KindId, verb: &str) {
    let (watch, mut events) = Watch::start(client, selection.clone());
    watch.want(world.secret("cert"), world.secret("cert"));
    let message = until(&mut events, &format!("no {verb} of {kind}"), |event| match event {
        Event::KindUnreadable { kind: unreadable, error, .. } => {
            assert_eq!((unreadable, verb != "get"), (kind, true), "{error}");
            Some(error.to_string())
        }
        Event::NotPermitted { key, error } => {
            assert_eq!((key.kind(), verb), (kind.kind, "get"), "{error}");
            Some(error.to_string())
        }
        _ => None,
    })
    .await;
    assert!(message.starts_with(&format!("cannot {verb} ")) && message.contains("grant"), "{message}");
}

/// A mode with a role in one namespace and only what has to be read in the cluster beside it.
#[tokio::test]
async fn one_namespace_needs_no_rights_in_others() {
    let Some(world) = World::new().await else { return };
    world.put_secret("cert", "one").await;
    let scope = Scope { namespaces: Namespaces::Listed(vec![world.name.clone()]), secrets: SecretAccess::Cluster };
    let selection = Selection { scope, owned: true };
    let (in_cluster, inside): (Vec<_>, Vec<_>) =
        rights(&selection).into_iter().partition(|rule| rule.namespaces == portcullis_cluster::Where::Cluster);
    let client = world.with_rights("one", &in_cluster).await;
    let rules: Vec<_> = inside.iter().map(policy_rule).collect();
    let user = format!("{}-one", world.name);
    world
        .send(Method::POST, &world.inside(ROLES, "roles"), &json!({"metadata": {"name": "one"}, "rules": rules}))
        .await;
    let binding = json!({
        "metadata": {"name": "one"},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "Role", "name": "one", "apiGroup": "rbac.authorization.k8s.io"},
    });
    world.send(Method::POST, &world.inside(ROLES, "rolebindings"), &binding).await;
    let (watch, mut events) = Watch::start(client, selection);
    all_listed(&mut events).await;
    let mut wanted = world.secret("cert");
    wanted.insert(ObjectName::new("kube-system", "other"));
    let number = watch.want(wanted, BTreeSet::new());
    let mut seen = Vec::new();
    until(&mut events, "the bodies", |event| match event {
        Event::Changes(changes) => {
            seen.extend(changes.iter().filter_map(|change| match change {
                Change::Upsert(Object::Secret(secret)) => Some(secret.metadata.name.clone()),
                _ => None,
            }));
            None
        }
        Event::NotPermitted { key, .. } => {
            assert_eq!(key.to_string(), "Secret kube-system/other");
            None
        }
        Event::WantedRead(read) => (read == number).then_some(()),
        _ => None,
    })
    .await;
    assert_eq!(seen, ["cert"]);
    drop(watch);
    world.end(&["one".to_owned()]).await;
}
