//! Kinds come, change their versions, and go.

use portcullis_cluster::Definition;
use serde_json::json;

use super::consumer::{Consumer, selection};
use super::objects::route;
use super::server::{GATEWAY, Server};

#[tokio::test]
async fn a_cluster_without_the_gateway_api_is_one_in_which_all_its_kinds_are_absent() {
    let server = Server::start().await;
    server.put("Service", "infra", "a", json!({"spec": {}}));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    assert!(consumer.absent.contains("Gateway") && consumer.absent.contains("GatewayParameters"));
    assert!(consumer.schema.as_ref().unwrap().kinds.is_empty());
    assert!(consumer.has("Service", "infra", "a"));

    server.define("HTTPRoute", &["v1"]);
    server.put("HTTPRoute", "infra", "a", route("a.example"));
    consumer.until("the kind is picked up", |consumer| consumer.has("HTTPRoute", "infra", "a")).await;
    consumer.until("and listed", |consumer| consumer.listed.contains("HTTPRoute")).await;
    let schema = consumer.schema.as_ref().unwrap();
    assert!(schema.serves(GATEWAY, "HTTPRoute", "v1") && !schema.serves(GATEWAY, "HTTPRoute", "v1beta1"));
}

#[tokio::test]
async fn a_kind_that_goes_takes_its_objects_and_may_come_back() {
    let server = Server::with_definitions().await;
    server.put("HTTPRoute", "infra", "a", route("a.example"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    for _ in 0..2 {
        server.undefine("HTTPRoute");
        consumer.until("it goes", |consumer| consumer.absent.contains("HTTPRoute")).await;
        assert!(!consumer.has("HTTPRoute", "infra", "a"));
        consumer
            .until("the schema says so", |consumer| {
                consumer.schema.as_ref().unwrap().kind(GATEWAY, "HTTPRoute").is_none()
            })
            .await;
        server.define("HTTPRoute", &["v1"]);
        server.put("HTTPRoute", "infra", "a", route("b.example"));
        consumer.until("it is back", |consumer| consumer.has("HTTPRoute", "infra", "a")).await;
    }
    assert!(consumer.unreadable.is_empty());
}

#[tokio::test]
async fn a_definition_made_anew_at_once_is_read_anew() {
    let server = Server::with_definitions().await;
    server.put("HTTPRoute", "infra", "old", route("a.example"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    server.undefine("HTTPRoute");
    server.define("HTTPRoute", &["v1"]);
    server.put("HTTPRoute", "infra", "new", route("b.example"));
    consumer
        .until("the new object in place of the old", |consumer| {
            consumer.has("HTTPRoute", "infra", "new") && !consumer.has("HTTPRoute", "infra", "old")
        })
        .await;
}

#[tokio::test]
async fn objects_stay_while_discovery_forgets_a_kind_that_is_still_defined() {
    let server = Server::with_definitions().await;
    server.put("HTTPRoute", "infra", "a", route("a.example"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    server.serve("HTTPRoute", &[]);
    // A word about definitions, so that discovery is asked.
    server.put("CustomResourceDefinition", "", "gateways.gateway.networking.k8s.io", json!({}));
    consumer
        .until("the schema lacks it", |consumer| consumer.schema.as_ref().unwrap().kind(GATEWAY, "HTTPRoute").is_none())
        .await;
    server.cut();
    consumer.listen(std::time::Duration::from_millis(1500)).await;
    assert!(consumer.has("HTTPRoute", "infra", "a") && !consumer.absent.contains("HTTPRoute"));
    server.serve("HTTPRoute", &["v1"]);
    server.put("HTTPRoute", "infra", "b", route("b.example"));
    consumer.until("it goes on", |consumer| consumer.has("HTTPRoute", "infra", "b")).await;
    assert!(consumer.has("HTTPRoute", "infra", "a"));
}

#[tokio::test]
async fn the_highest_version_that_can_be_read_is() {
    let server = Server::with_definitions().await;
    server.serve("HTTPRoute", &["v1beta1"]);
    server.put("HTTPRoute", "infra", "a", route("a.example"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.versions_may_repeat = true;
    let api_version = |consumer: &Consumer| {
        consumer
            .objects
            .values()
            .find(|object| object.kind() == "HTTPRoute")
            .map(|object| object.api_version().to_owned())
    };
    consumer.until_all_listed().await;
    assert_eq!(api_version(&consumer).as_deref(), Some("gateway.networking.k8s.io/v1beta1"));
    server.define("HTTPRoute", &["v1", "v1beta1"]);
    consumer
        .until("the higher version", |consumer| {
            api_version(consumer).as_deref() == Some("gateway.networking.k8s.io/v1")
        })
        .await;
    assert_eq!(consumer.served["HTTPRoute"], "v1");

    server.define("HTTPRoute", &["v2"]);
    consumer.until("one that is unknown", |consumer| !consumer.unreadable.is_empty()).await;
    let error = &consumer.unreadable[&("HTTPRoute".to_owned(), None)];
    assert!(error.contains("served as v2 only"), "{error}");
    assert!(consumer.has("HTTPRoute", "infra", "a"), "what was last read stays");
}

#[tokio::test]
async fn definitions_that_may_not_be_read_do_not_hold_anything_up() {
    let server = Server::with_definitions().await;
    server.forbid(&["list", "watch"], "customresourcedefinitions", "");
    server.put("HTTPRoute", "infra", "a", route("a.example"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    let kind = consumer.schema.as_ref().unwrap().kind(GATEWAY, "Gateway").unwrap();
    assert_eq!((kind.definition.clone(), kind.bundle_version()), (Definition::Unknown, None));
    let error = &consumer.unreadable[&("CustomResourceDefinition".to_owned(), None)];
    assert!(error.contains("grant"), "{error}");
    server.undefine("HTTPRoute");
    consumer
        .until("a kind that is missing again and again is absent", |consumer| consumer.absent.contains("HTTPRoute"))
        .await;
}
