//! Weights, endpoints, and their changes under load.

use crate::backend::{Backend, nobody};
use crate::client::{Client, get, once};
use crate::gateway::{Setup, backends, invalid, rule, weighted};
use portcullis_model::BackendProtocol::Http1;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

#[tokio::test]
async fn weights_are_exact_whatever_runs_at_the_same_time() {
    let (a, b, c) = (Backend::start("a").await, Backend::start("b").await, Backend::start("c").await);
    let mut weighted = weighted(&[("a", 70), ("b", 20), ("c", 0)]);
    backends(&mut weighted).push(invalid(10));
    let setup = Setup::new()
        .backend("a", Http1, &[a.address])
        .backend("b", Http1, &[b.address])
        .backend("c", Http1, &[c.address])
        .rule(weighted);
    let gateway = setup.start().await;
    let mut counts = BTreeMap::new();
    let tasks: Vec<_> = (0..10)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::http1(gateway.address).await;
                let mut statuses = Vec::new();
                for _ in 0..100 {
                    statuses.push(client.get("/").await.status);
                }
                statuses
            })
        })
        .collect();
    for task in tasks {
        for status in task.await.unwrap() {
            *counts.entry(status).or_insert(0) += 1;
        }
    }
    assert_eq!(counts, BTreeMap::from([(200, 900), (500, 100)]));
    assert_eq!((a.count(), b.count(), c.count()), (700, 200, 0));
}

#[tokio::test]
async fn turns_go_on_when_the_configuration_changes() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let setup = Setup::new().backend("a", Http1, &[a.address]).backend("b", Http1, &[b.address]);
    let gateway = setup.rule(weighted(&[("a", 3), ("b", 1)])).start().await;
    let mut client = Client::http1(gateway.address).await;
    for round in 0..40 {
        client.get("/").await;
        let mut changed = weighted(&[("a", 3), ("b", 1)]);
        changed.timeouts.request = Some(Duration::from_secs(60 + round));
        gateway.set_rules(vec![changed]).await;
    }
    assert_eq!((a.count(), b.count()), (30, 10));
}

#[tokio::test]
async fn endpoints_share_the_load() {
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(Backend::start("x").await);
    }
    let addresses: Vec<_> = all.iter().map(|backend| backend.address).collect();
    let gateway = Setup::to(&addresses).start().await;
    let mut client = Client::http1(gateway.address).await;
    for _ in 0..400 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert!(all.iter().all(|backend| (50..150).contains(&backend.count())));
}

#[tokio::test]
async fn removed_endpoints_get_nothing_and_their_idle_connections_close() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let gateway = Setup::to(&[a.address]).start().await;
    let mut client = Client::http1(gateway.address).await;
    assert_eq!(client.get("/").await.text(), "a");
    a.open_becomes(1).await;
    gateway.set_endpoints("backend", &[b.address]).await;
    a.open_becomes(0).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text(), "b");
    }
    gateway.set_endpoints("backend", &[]).await;
    assert_eq!(client.get("/").await.status, 503);
    gateway.set_endpoints("backend", &[a.address]).await;
    assert_eq!(client.get("/").await.text(), "a");
}

#[tokio::test]
async fn an_endpoint_that_refuses_costs_no_request() {
    let good = Backend::start("good").await;
    let (one, other) = (nobody(), nobody());
    let gateway = Setup::to(&[one.address, good.address, other.address]).start().await;
    let mut client = Client::http1(gateway.address).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.text(), "good");
    }
    let mut post = crate::client::request("POST", "/", &[], "body");
    *post.body_mut() = crate::client::full("body");
    assert_eq!(client.whole(post).await.status, 200);
}

#[tokio::test]
async fn a_backend_restarts_under_load_and_no_request_fails() {
    let (steady, mut restarting) = (Backend::start("steady").await, Backend::start("restarting").await);
    let gateway = Setup::to(&[steady.address, restarting.address]).start().await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (stop, done) = (stop.clone(), done.clone());
            tokio::spawn(async move {
                let mut client = Client::http1(gateway.address).await;
                while !stop.load(Ordering::SeqCst) {
                    let got = client.get("/").await;
                    assert_eq!(got.status, 200, "{}", got.text());
                    done.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let progress = async |count: usize| {
        let goal = done.load(Ordering::SeqCst) + count;
        while done.load(Ordering::SeqCst) < goal && !clients.iter().any(|client| client.is_finished()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    for _ in 0..5 {
        progress(200).await;
        let address = restarting.address;
        restarting.stop().await;
        progress(200).await;
        restarting = Backend::again(address, "restarted").await;
    }
    progress(200).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn rules_do_not_mix() {
    let (a, b) = (Backend::start("a").await, Backend::start("b").await);
    let mut first = rule(&["a"]);
    first.matches = vec![crate::gateway::prefix("/a")];
    let setup = Setup::new().backend("a", Http1, &[a.address]).backend("b", Http1, &[b.address]);
    let gateway = setup.rule(first).rule(rule(&["b"])).start().await;
    assert_eq!(once(gateway.address, get("/a/x")).await.text(), "a");
    assert_eq!(once(gateway.address, get("/b/x")).await.text(), "b");
}
