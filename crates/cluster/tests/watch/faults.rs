//! Connections break, history is forgotten, the API server goes and comes back. Nothing is lost, nothing is told twice:
//! the consumer asserts the latter.

use std::time::Duration;

use serde_json::json;

use super::consumer::{Consumer, selection};
use super::objects::route;
use super::server::Server;

async fn watching() -> (Server, Consumer) {
    let server = Server::with_definitions().await;
    for name in ["a", "b", "c"] {
        server.put("HTTPRoute", "infra", name, route("a.example"));
    }
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    while !connected(&consumer) {
        consumer.listen(Duration::from_millis(1)).await;
    }
    (server, consumer)
}

fn connected(consumer: &Consumer) -> bool {
    let statistics = consumer.watch.statistics();
    statistics.iter().all(|kind| kind.connected == 1 || consumer.absent.contains(kind.kind.kind) || kind.lists == 0)
}

fn lists(consumer: &Consumer) -> u64 {
    consumer.watch.statistics().into_iter().find(|kind| kind.kind.kind == "HTTPRoute").unwrap().lists
}

#[tokio::test]
async fn a_watch_that_breaks_in_a_line_goes_on_from_where_it_was() {
    let (server, mut consumer) = watching().await;
    for round in 0..5 {
        server.put("HTTPRoute", "infra", "a", route(&format!("a{round}.example")));
        server.cut();
        server.put("HTTPRoute", "infra", &format!("new-{round}"), route("b.example"));
        let name = format!("new-{round}");
        consumer.until("what came after the cut", |consumer| consumer.has("HTTPRoute", "infra", &name)).await;
    }
    assert_eq!(lists(&consumer), 1, "no new list was needed");
    assert_eq!(consumer.versions(&["HTTPRoute"]).len(), 8);
}

#[tokio::test]
async fn a_forgotten_version_means_a_new_list_that_is_compared() {
    let (server, mut consumer) = watching().await;
    server.down();
    server.put("HTTPRoute", "infra", "b", route("b.example"));
    server.delete("HTTPRoute", "infra", "c");
    server.put("HTTPRoute", "infra", "d", route("d.example"));
    server.compact();
    server.up();
    consumer
        .until("the differences", |consumer| {
            consumer.has("HTTPRoute", "infra", "d") && !consumer.has("HTTPRoute", "infra", "c")
        })
        .await;
    let counts: Vec<_> =
        consumer.changes.iter().filter(|(key, _)| key.kind() == "HTTPRoute").map(|(_, count)| *count).collect();
    assert_eq!(counts, [1, 2, 2, 1], "what did not change was not told again");
}

#[tokio::test]
async fn bookmarks_keep_a_quiet_watch_from_being_forgotten() {
    let (server, mut consumer) = watching().await;
    server.compact();
    server.bookmark();
    server.put("Service", "infra", "marker", json!({"spec": {}}));
    consumer.until("the marker", |consumer| consumer.has("Service", "infra", "marker")).await;
    consumer.listen(Duration::from_millis(50)).await;
    server.cut();
    server.put("HTTPRoute", "infra", "d", route("d.example"));
    consumer.until("the change", |consumer| consumer.has("HTTPRoute", "infra", "d")).await;
    assert_eq!(lists(&consumer), 1);
}

#[tokio::test]
async fn an_api_server_that_was_away_is_watched_again_without_a_list() {
    let (server, mut consumer) = watching().await;
    server.down();
    consumer.listen(Duration::from_millis(700)).await;
    server.put("HTTPRoute", "infra", "a", route("b.example"));
    server.up();
    let key = ("HTTPRoute".to_owned(), "infra".to_owned(), "a".to_owned());
    let before = consumer.versions(&["HTTPRoute"])[&key].clone();
    consumer.until("the change", |consumer| consumer.versions(&["HTTPRoute"])[&key] != before).await;
    assert_eq!(lists(&consumer), 1);
    assert!(consumer.unreadable.is_empty(), "a short absence is not worth a word");
}

#[tokio::test]
async fn a_list_that_expires_between_its_pages_begins_anew() {
    let server = Server::with_definitions().await;
    for index in 0..20 {
        server.put("HTTPRoute", "infra", &format!("route-{index}"), route("a.example"));
    }
    server.lock().page = Some(3);
    let mut consumer = Consumer::start(&server, selection()).await;
    for index in 20..30 {
        server.put("HTTPRoute", "infra", &format!("route-{index}"), route("a.example"));
        consumer.listen(Duration::from_millis(3)).await;
    }
    consumer.until_all_listed().await;
    consumer.until("all of them", |consumer| consumer.versions(&["HTTPRoute"]).len() == 30).await;
}

#[tokio::test]
async fn errors_of_the_api_server_are_waited_out() {
    let server = Server::with_definitions().await;
    server.put("HTTPRoute", "infra", "a", route("a.example"));
    for (resource, code) in [("httproutes", 500), ("services", 429), ("gateways", 503), ("nodes", 401)] {
        server.lock().failing.insert(resource.to_owned(), (code, 3));
    }
    let mut consumer = Consumer::start(&server, selection()).await;
    consumer.until_all_listed().await;
    assert!(consumer.has("HTTPRoute", "infra", "a"));
    assert!(consumer.unreadable.is_empty(), "all is well again: {:?}", consumer.unreadable);
}

#[tokio::test]
async fn it_ends_when_nobody_listens_any_more() {
    let (server, consumer) = watching().await;
    let Consumer { watch, mut events, .. } = consumer;
    drop(watch);
    while events.recv().await.is_some() {}
    drop(server);
}
