//! What may not be read, and that nothing else is asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use portcullis_api::meta::LabelSelector;
use portcullis_cluster::{Namespaces, Scope, SecretAccess, Selection, Where, rights};
use serde_json::json;

use super::consumer::{Consumer, listed, selection};
use super::objects::route;
use super::server::Server;

#[tokio::test]
async fn a_kind_that_may_not_be_read_is_named_and_waited_for() {
    let server = Server::with_definitions().await;
    server.forbid(&["list", "watch"], "referencegrants", "");
    server.put("HTTPRoute", "infra", "a", route("a.example"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer
        .until("the others go on", |consumer| consumer.listed.contains("HTTPRoute") && !consumer.unreadable.is_empty())
        .await;
    let error = &consumer.unreadable[&("ReferenceGrant".to_owned(), None)];
    assert_eq!(
        error,
        "cannot list referencegrants.gateway.networking.k8s.io: this is forbidden; grant this to the ServiceAccount, as the chart's roles do"
    );
    assert!(!consumer.all_listed, "it might restrict the rest");
    server.permit();
    consumer.until_all_listed().await;
    assert!(consumer.unreadable.is_empty());
}

#[tokio::test]
async fn a_right_that_is_withdrawn_leaves_what_was_read() {
    let server = Server::with_definitions().await;
    server.put("HTTPRoute", "infra", "a", route("a.example"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    server.forbid(&["list", "watch"], "httproutes", "");
    server.cut();
    consumer.until("it is said", |consumer| !consumer.unreadable.is_empty()).await;
    assert!(consumer.has("HTTPRoute", "infra", "a"));
    server.put("HTTPRoute", "infra", "b", route("b.example"));
    server.permit();
    consumer
        .until("it goes on", |consumer| consumer.unreadable.is_empty() && consumer.has("HTTPRoute", "infra", "b"))
        .await;
    assert!(consumer.listed.contains("HTTPRoute"));
}

#[tokio::test]
async fn with_listed_namespaces_others_are_never_asked_for() {
    let server = Server::with_definitions().await;
    for namespace in ["a", "b", "c"] {
        server.put("HTTPRoute", namespace, "route", route("a.example"));
        server.put("Secret", namespace, "cert", json!({"data": {}}));
    }
    let selection = listed(&["a", "b"], SecretAccess::Namespaces(vec!["b".to_owned(), "c".to_owned()]));
    let mut consumer = Consumer::start(&server, selection.clone()).await;
    consumer.until_all_listed().await;
    let number = consumer.want(&[("a", "cert"), ("b", "cert"), ("c", "cert")]);
    consumer.until("the bodies", |consumer| consumer.wanted_read == number).await;
    let routes: Vec<_> = consumer.versions(&["HTTPRoute"]).into_keys().map(|key| key.1).collect();
    let secrets: Vec<_> = consumer.versions(&["Secret"]).into_keys().map(|key| key.1).collect();
    assert_eq!((routes, secrets), (vec!["a".to_owned(), "b".to_owned()], vec!["b".to_owned()]));
    let refused: Vec<_> = consumer.not_permitted.keys().map(ToString::to_string).collect();
    assert_eq!(refused, ["Secret a/cert", "Secret c/cert"]);
    assert_within_rights(&server, &selection);
}

#[tokio::test]
async fn secrets_are_read_where_labels_allow_it_for_as_long_as_they_do() {
    let server = Server::with_definitions().await;
    let labels = |value: &str| json!({"metadata": {"labels": {"portcullis.dev/secrets": value}}});
    for namespace in ["a", "b"] {
        server.put("Namespace", "", namespace, labels(if namespace == "a" { "allowed" } else { "no" }));
        server.put("Secret", namespace, "cert", json!({"data": {}}));
    }
    let selector: LabelSelector =
        serde_json::from_value(json!({"matchLabels": {"portcullis.dev/secrets": "allowed"}})).unwrap();
    let secrets = SecretAccess::LabelledNamespaces(selector);
    let selection = Selection { scope: Scope { namespaces: Namespaces::All, secrets }, owned: false };
    let mut consumer = Consumer::start(&server, selection).await;
    consumer.until_all_listed().await;
    consumer.want(&[("a", "cert"), ("b", "cert")]);
    consumer
        .until("the first", |consumer| consumer.has("Secret", "a", "cert") && consumer.not_permitted.len() == 1)
        .await;
    server.put("Namespace", "", "b", labels("allowed"));
    consumer
        .until("the second", |consumer| consumer.has("Secret", "b", "cert") && consumer.not_permitted.is_empty())
        .await;
    server.put("Namespace", "", "a", labels("no"));
    consumer
        .until("the first no more", |consumer| {
            !consumer.has("Secret", "a", "cert") && consumer.not_permitted.len() == 1
        })
        .await;
    server.put("Secret", "b", "cert", json!({"data": {"x": "eA=="}}));
    let count =
        |consumer: &Consumer| consumer.changes.iter().find(|(key, _)| key.namespace() == "b").map(|(_, count)| *count);
    consumer.until("the second is watched", |consumer| count(consumer) == Some(2)).await;
    let asked = &server.lock().asked;
    assert!(!asked.iter().any(|(_, resource, namespace)| resource == "secrets" && namespace.is_empty()));
}

#[tokio::test]
async fn a_namespace_whose_secrets_may_not_be_read_holds_nobody_up() {
    let server = Server::with_definitions().await;
    server.put("Secret", "a", "cert", json!({"data": {}}));
    server.put("HTTPRoute", "a", "route", route("a.example"));
    server.forbid(&["list", "watch", "get"], "secrets", "b");
    let mut consumer = Consumer::start(&server, listed(&["a", "b"], SecretAccess::Cluster)).await;
    consumer.until_all_listed().await;
    assert!(consumer.unreadable.contains_key(&("Secret".to_owned(), Some("b".to_owned()))));
    let number = consumer.want(&[("a", "cert"), ("b", "cert")]);
    consumer.until("the bodies", |consumer| consumer.wanted_read == number).await;
    assert!(consumer.has("Secret", "a", "cert"));
    let (key, error) = consumer.not_permitted.first_key_value().unwrap();
    assert_eq!(key.to_string(), "Secret b/cert");
    assert!(error.contains("cannot get Secret b/cert") && error.contains("grant"), "{error}");
}

#[tokio::test]
async fn nothing_is_asked_for_beyond_the_rights() {
    let server = Server::with_definitions().await;
    server.put("Secret", "a", "cert", json!({"data": {}}));
    server.put("HTTPRoute", "a", "route", route("a.example"));
    let selection = Selection { owned: true, ..selection() };
    let mut consumer = Consumer::start(&server, selection.clone()).await;
    consumer.until_all_listed().await;
    let number = consumer.want(&[("a", "cert"), ("a", "absent")]);
    consumer.until("the bodies", |consumer| consumer.wanted_read == number).await;
    server.cut();
    server.compact();
    consumer.listen(Duration::from_millis(400)).await;
    assert_within_rights(&server, &selection);
}

fn assert_within_rights(server: &Server, selection: &Selection) {
    let rules = rights(selection);
    let asked: BTreeSet<_> = server.lock().asked.iter().cloned().collect();
    assert!(asked.len() > 10);
    for (verb, resource, namespace) in &asked {
        let allowed = rules.iter().any(|rule| {
            rule.resource == resource
                && rule.verbs.contains(&verb.as_str())
                && match &rule.namespaces {
                    Where::Cluster => true,
                    Where::Namespaces(namespaces) => namespaces.contains(namespace),
                    Where::Labelled(..) => !namespace.is_empty(),
                }
        });
        assert!(allowed, "{verb} {resource} in '{namespace}'");
    }
}
