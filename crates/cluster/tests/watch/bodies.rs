//! Secrets and ConfigMaps: only those that are wanted, only while they are, and always the latest.

use std::collections::BTreeSet;
use std::time::Duration;

use portcullis_api::Object;
use portcullis_model::ObjectName;
use serde_json::{Value, json};

use super::consumer::{Consumer, selection};
use super::server::Server;

fn secret(text: &str) -> Value {
    json!({"type": "Opaque", "stringData": {"value": text}})
}

fn value(consumer: &Consumer, name: &str) -> Option<String> {
    consumer.objects.iter().find(|(key, _)| key.kind() == "Secret" && key.name() == name).map(|(_, object)| {
        let Object::Secret(secret) = object else { panic!("no Secret") };
        String::from_utf8(secret.data["value"].expose().to_vec()).unwrap()
    })
}

#[tokio::test]
async fn only_what_is_wanted_is_read() {
    let server = Server::with_definitions().await;
    for name in ["a", "b"] {
        server.put("Secret", "infra", name, secret("one"));
        server.put("ConfigMap", "infra", name, json!({"data": {"ca.crt": "x"}}));
    }
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    assert!(consumer.versions(&["Secret", "ConfigMap"]).is_empty());
    let name = |name: &str| BTreeSet::from([ObjectName::new("infra", name)]);
    let number = consumer.watch.want(name("a"), name("b"));
    consumer.until("both", |consumer| consumer.wanted_read == number).await;
    assert!(consumer.has("Secret", "infra", "a") && consumer.has("ConfigMap", "infra", "b"));
    assert_eq!(consumer.versions(&["Secret", "ConfigMap"]).len(), 2);
    let read: Vec<_> =
        server.lock().asked.iter().filter(|asked| asked.0 == "get").map(|asked| asked.1.clone()).collect();
    assert_eq!(read.iter().collect::<BTreeSet<_>>().len(), 2);

    let number = consumer.watch.want(name("b"), BTreeSet::new());
    consumer.until("the other", |consumer| consumer.wanted_read == number).await;
    assert!(consumer.has("Secret", "infra", "b"));
    assert_eq!(consumer.versions(&["Secret", "ConfigMap"]).len(), 1);
}

#[tokio::test]
async fn what_is_wanted_is_kept_up_to_date() {
    let server = Server::with_definitions().await;
    server.put("Secret", "infra", "a", secret("one"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    let number = consumer.want(&[("infra", "a"), ("infra", "later")]);
    consumer.until("the first", |consumer| consumer.wanted_read == number).await;
    assert_eq!((value(&consumer, "a").as_deref(), value(&consumer, "later")), (Some("one"), None));
    server.put("Secret", "infra", "a", secret("two"));
    server.put("Secret", "infra", "later", secret("three"));
    consumer.until("a new value", |consumer| value(consumer, "a").as_deref() == Some("two")).await;
    consumer.until("a new Secret", |consumer| value(consumer, "later").as_deref() == Some("three")).await;
    server.delete("Secret", "infra", "a");
    consumer.until("one goes", |consumer| value(consumer, "a").is_none()).await;
    server.put("Secret", "infra", "a", secret("four"));
    consumer.until("one is back", |consumer| value(consumer, "a").as_deref() == Some("four")).await;
    server.put("Secret", "infra", "a", json!({"data": {"value": "no base64"}}));
    consumer.until("one is bad", |consumer| consumer.unparsable.len() == 1).await;
    assert_eq!(value(&consumer, "a").as_deref(), Some("four"), "what was last read stays");
    let error = consumer.unparsable.values().next().unwrap();
    assert!(error.contains("data.value") && !error.contains("no base64,"), "{error}");
    server.put("Secret", "infra", "a", secret("five"));
    consumer.until("one is good", |consumer| value(consumer, "a").as_deref() == Some("five")).await;
}

#[tokio::test]
async fn changes_while_the_api_server_was_away_are_read() {
    let server = Server::with_definitions().await;
    server.put("Secret", "infra", "a", secret("one"));
    server.put("Secret", "infra", "b", secret("one"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    let number = consumer.want(&[("infra", "a"), ("infra", "b")]);
    consumer.until("both", |consumer| consumer.wanted_read == number).await;
    server.down();
    server.put("Secret", "infra", "a", secret("two"));
    server.delete("Secret", "infra", "b");
    server.compact();
    consumer.listen(Duration::from_millis(300)).await;
    assert_eq!(value(&consumer, "b").as_deref(), Some("one"), "what was last read stays");
    server.up();
    consumer
        .until("the differences", |consumer| {
            value(consumer, "a").as_deref() == Some("two") && value(consumer, "b").is_none()
        })
        .await;
}

#[tokio::test]
async fn a_read_that_fails_is_repeated_and_holds_nobody_up() {
    let server = Server::with_definitions().await;
    server.put("Secret", "infra", "a", secret("one"));
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    server.lock().failing.insert("secrets".to_owned(), (500, 3));
    let number = consumer.want(&[("infra", "a")]);
    consumer.until("an answer, if a bad one", |consumer| consumer.wanted_read == number).await;
    consumer.until("the value", |consumer| value(consumer, "a").as_deref() == Some("one")).await;
}
