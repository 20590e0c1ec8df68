//! Where no request is sent, whoever names it. Backends of tests are on loopback addresses, some of which are allowed here.

use crate::backend::Backend;
use crate::client::{Client, get, once, request};
use crate::gateway::{Setup, filtered, key, retry, rule};
use portcullis_model::BackendProtocol::{H2c, Http1};
use portcullis_model::{BackendTarget, Filter, Fraction, Mirror, Upstreams};
use std::net::SocketAddr;
use std::num::NonZeroU32;

const REFUSED: &str = "portcullis_upstream_refused_total{class=\"Loopback\"}";

fn allowing(networks: &[&str]) -> Upstreams {
    Upstreams { allowed: networks.iter().map(|text| text.parse().unwrap()).collect(), ..Upstreams::default() }
}

/// A backend on an address of its own.
async fn backend_at(ip: [u8; 4]) -> Backend {
    let free = std::net::TcpListener::bind((std::net::Ipv4Addr::from(ip), 0)).unwrap().local_addr().unwrap();
    Backend::again(free, "allowed").await
}

#[tokio::test]
async fn an_address_that_no_backend_has_is_never_connected_to() {
    let backend = Backend::start("never").await;
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", backend.address.port()).parse().unwrap();
    for setup in [Setup::to(&[backend.address]), Setup::to_h2c(&[backend.address]), Setup::to(&[mapped])] {
        let gateway = setup.guarded(Upstreams::default()).start().await;
        assert_eq!(once(gateway.address, get("/")).await.status, 503);
        assert_eq!(once(gateway.address, request("POST", "/", &[], "body")).await.status, 503);
        assert_eq!(gateway.metric(REFUSED), 2.0);
    }
    assert_eq!(backend.accepted(), 0);
}

#[tokio::test]
async fn what_the_class_allows_is_reached_and_is_preferred() {
    let (refused, allowed) = (Backend::start("never").await, backend_at([127, 0, 0, 9]).await);
    let nowhere: SocketAddr = "169.254.169.254:80".parse().unwrap();
    let setup = Setup::to(&[refused.address, nowhere, allowed.address]).guarded(allowing(&["127.0.0.9/32"]));
    let gateway = setup.start().await;
    let mut client = Client::http1(gateway.address).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!((refused.accepted(), allowed.count()), (0, 50));
}

#[tokio::test]
async fn retries_do_not_get_past_it() {
    let refused = Backend::start("never").await;
    let setup =
        Setup::to(&[refused.address]).guarded(Upstreams::default()).with(|rule| rule.retry = retry(&[503], 3, 1));
    let gateway = setup.start().await;
    assert_eq!(once(gateway.address, get("/")).await.status, 503);
    assert_eq!(gateway.metric(REFUSED), 4.0);
    assert_eq!(refused.accepted(), 0);
}

#[tokio::test]
async fn nor_do_mirrors() {
    let (main, copy) = (backend_at([127, 0, 0, 9]).await, Backend::start("never").await);
    let fraction = Fraction { numerator: 1, denominator: NonZeroU32::MIN };
    let mirror = Mirror { target: BackendTarget::Backend(key("copy")), fraction };
    let setup = Setup::new()
        .backend("main", Http1, &[main.address])
        .backend("copy", H2c, &[copy.address])
        .rule(filtered(rule(&["main"]), vec![Filter::RequestMirror(Box::new(mirror))]));
    let gateway = setup.guarded(allowing(&["127.0.0.9/32"])).start().await;
    assert_eq!(once(gateway.address, get("/")).await.status, 200);
    gateway.metric_becomes("portcullis_mirrors_total{outcome=\"failed\"}", 1.0).await;
    assert_eq!((gateway.metric(REFUSED), copy.accepted()), (1.0, 0));
}

/// The name is resolved first: what counts is where it leads.
#[tokio::test]
async fn nor_do_names() {
    let backend = Backend::start("never").await;
    let setup = Setup::new().external_name("x", "localhost", backend.address.port()).rule(rule(&["x"]));
    let gateway = setup.guarded(Upstreams::default()).start().await;
    assert_eq!(once(gateway.address, get("/")).await.status, 503);
    assert_eq!(backend.accepted(), 0);
    assert!(gateway.metric(REFUSED) >= 1.0);
}

/// Connections that are open when the allowance goes get no further request.
#[tokio::test]
async fn a_change_of_what_is_allowed_counts_at_once() {
    for h2c in [false, true] {
        let backend = if h2c { Backend::start_h2c("b").await } else { Backend::start("b").await };
        let setup = if h2c { Setup::to_h2c(&[backend.address]) } else { Setup::to(&[backend.address]) };
        let gateway = setup.guarded(allowing(&["127.0.0.0/8"])).start().await;
        let mut client = Client::http1(gateway.address).await;
        assert_eq!(client.get("/").await.status, 200);
        gateway.set_upstreams(Upstreams::default()).await;
        assert_eq!(client.get("/").await.status, 503);
        gateway.set_upstreams(allowing(&["127.0.0.1/32"])).await;
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(backend.count(), 2);
    }
}

#[tokio::test]
async fn without_a_guard_backends_may_be_beside_the_gateway() {
    let backend = Backend::start("b").await;
    let gateway = Setup::to(&[backend.address]).start().await;
    assert_eq!(once(gateway.address, get("/")).await.status, 200);
}
