//! Objects come, change and go.

use serde_json::{Value, json};

use super::consumer::{Consumer, client, selection};
use super::server::Server;

pub fn route(hostname: &str) -> Value {
    json!({"spec": {"hostnames": [hostname]}})
}

#[tokio::test]
async fn what_is_there_comes_first_in_pages_and_then_each_change() {
    let server = Server::with_definitions().await;
    for index in 0..25 {
        server.put("HTTPRoute", "infra", &format!("route-{index}"), route("a.example"));
    }
    server.lock().page = Some(10);
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    assert_eq!(consumer.versions(&["HTTPRoute"]).len(), 25);
    assert!(consumer.listed.contains("HTTPRoute") && consumer.absent.contains("TLSRoute"));
    assert_eq!(consumer.served["ReferenceGrant"], "v1beta1");

    let version = server.put("HTTPRoute", "infra", "route-3", route("b.example"));
    server.delete("HTTPRoute", "infra", "route-4");
    server.put("HTTPRoute", "other", "new", route("c.example"));
    let key = ("HTTPRoute".to_owned(), "infra".to_owned(), "route-3".to_owned());
    consumer
        .until("the changes", |consumer| {
            consumer.versions(&["HTTPRoute"]).get(&key) == Some(&version)
                && !consumer.has("HTTPRoute", "infra", "route-4")
                && consumer.has("HTTPRoute", "other", "new")
        })
        .await;
    assert!(consumer.changes.values().all(|count| *count <= 2));
    let routes = consumer.watch.statistics().into_iter().find(|kind| kind.kind.kind == "HTTPRoute").unwrap();
    assert_eq!((routes.objects, routes.events, routes.lists, routes.connected), (25, 3, 1, 1));
}

#[tokio::test]
async fn one_bad_object_stops_no_other() {
    let server = Server::with_definitions().await;
    server.put("HTTPRoute", "infra", "bad", json!({"spec": {"rules": 1}}));
    server.put("HTTPRoute", "infra", "future", json!({"spec": {"rules": [{"filters": [{"type": "Teleport"}]}]}}));
    server.put("HTTPRoute", "infra", "good", route("a.example"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    assert!(consumer.has("HTTPRoute", "infra", "good") && consumer.has("HTTPRoute", "infra", "future"));
    let errors: Vec<_> = consumer.unparsable.values().cloned().collect();
    assert_eq!(errors, ["HTTPRoute infra/bad: spec.rules: expected a list, found the number 1"]);

    server.put("HTTPRoute", "infra", "good", json!({"spec": []}));
    server.put("HTTPRoute", "infra", "bad", route("b.example"));
    consumer
        .until("the other one is bad", |consumer| {
            consumer.unparsable.len() == 1 && consumer.has("HTTPRoute", "infra", "bad")
        })
        .await;
    assert!(consumer.has("HTTPRoute", "infra", "good"), "what was last read stays");
    server.delete("HTTPRoute", "infra", "good");
    consumer
        .until("it goes", |consumer| consumer.unparsable.is_empty() && !consumer.has("HTTPRoute", "infra", "good"))
        .await;
}

#[tokio::test]
async fn deployments_and_pods_that_are_ours_say_how_they_are() {
    let server = Server::with_definitions().await;
    let ours = json!({"app.kubernetes.io/managed-by": "portcullis"});
    server.put(
        "Pod",
        "infra",
        "ours",
        json!({"metadata": {"labels": ours}, "status": {"phase": "Running", "podIP": "10.0.0.1"}}),
    );
    server.put("Pod", "infra", "other", json!({"status": {"phase": "Running"}}));
    server.put(
        "Deployment",
        "infra",
        "ours",
        json!({"metadata": {"labels": ours, "generation": 1}, "spec": {"replicas": 2}}),
    );
    let mut consumer = Consumer::start(&server, portcullis_cluster::Selection { owned: true, ..selection() }).await;
    consumer
        .until("both kinds", |consumer| consumer.listed.contains("Pod") && consumer.listed.contains("Deployment"))
        .await;
    let names: Vec<_> = consumer.owned.keys().map(|(kind, name)| format!("{kind} {name}")).collect();
    assert_eq!(names, ["Deployment infra/ours", "Pod infra/ours"]);
    server.delete("Pod", "infra", "ours");
    consumer.until("it goes", |consumer| consumer.owned.len() == 1).await;
    assert!(consumer.objects.keys().all(|key| key.kind() != "Pod"));
}

#[tokio::test]
async fn a_node_is_told_when_its_addresses_change() {
    let server = Server::with_definitions().await;
    let node = |address: &str, beat: u32| json!({"status": {"addresses": [{"type": "InternalIP", "address": address}], "images": [beat]}});
    server.put("Node", "", "a", node("192.0.2.1", 1));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    for beat in 2..5 {
        server.put("Node", "", "a", node("192.0.2.1", beat));
    }
    server.put("Node", "", "a", node("192.0.2.2", 5));
    server.put("Node", "", "b", node("192.0.2.3", 1));
    consumer.until("the other node", |consumer| consumer.has("Node", "", "b")).await;
    let changes: Vec<_> =
        consumer.changes.iter().filter(|(key, _)| key.kind() == "Node").map(|(_, count)| *count).collect();
    assert_eq!(changes, [2, 1]);
}

#[tokio::test]
async fn a_command_lists_once() {
    let server = Server::with_definitions().await;
    server.put("HTTPRoute", "infra", "a", route("a.example"));
    server.put("HTTPRoute", "infra", "bad", json!({"spec": 1}));
    server.put("Secret", "infra", "cert", json!({"data": {"tls.crt": "YQ=="}}));
    server.put("Secret", "infra", "other", json!({"data": {}}));
    server.forbid(&["list"], "services", "");
    let client = client(&server).await;
    let listing = portcullis_cluster::list(&client, &selection()).await.unwrap();
    let keys: Vec<_> = listing.objects.iter().map(|object| object.key().to_string()).collect();
    assert_eq!(keys, ["HTTPRoute infra/a"]);
    assert_eq!(listing.unparsable.len(), 1);
    let unread: Vec<_> = listing.unread.iter().map(|unread| unread.error.to_string()).collect();
    assert_eq!(
        unread,
        ["cannot list services: this is forbidden; grant this to the ServiceAccount, as the chart's roles do"]
    );
    assert!(listing.absent.iter().any(|kind| kind.kind == "TLSRoute"));
    assert_eq!(listing.served.kind("gateway.networking.k8s.io", "Gateway").unwrap().bundle_version(), Some("v1.7.0"));

    let names = ["cert", "absent", "../x"].map(|name| portcullis_model::ObjectName::new("infra", name));
    let bodies = portcullis_cluster::read(&client, &selection(), &names.into(), &Default::default()).await;
    let keys: Vec<_> = bodies.objects.iter().map(|object| object.key().to_string()).collect();
    assert_eq!((keys, bodies.unread.len()), (vec!["Secret infra/cert".to_owned()], 0));
}

#[tokio::test]
async fn without_an_api_server_a_command_says_so() {
    let server = Server::with_definitions().await;
    server.down();
    let error = portcullis_cluster::list(&client(&server).await, &selection()).await.unwrap_err();
    assert_eq!(error.problem, portcullis_cluster::Problem::Unreachable);
}
