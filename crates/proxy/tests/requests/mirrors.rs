//! RequestMirror.

use crate::backend::{Backend, answer, nobody};
use crate::client::{Client, get, once, request};
use crate::gateway::{Setup, filtered, headers, key, rule};
use portcullis_model::BackendProtocol::Http1;
use portcullis_model::{BackendTarget, Filter, Fraction, Mirror};
use std::num::NonZeroU32;

fn mirror(backend: &str, numerator: u32, denominator: u32) -> Filter {
    let fraction = Fraction { numerator, denominator: NonZeroU32::new(denominator).unwrap() };
    Filter::RequestMirror(Box::new(Mirror { target: BackendTarget::Backend(key(backend)), fraction }))
}

const SENT: &str = "portcullis_mirrors_total{outcome=\"sent\"}";

#[tokio::test]
async fn copies_go_to_every_mirror_and_their_answers_nowhere() {
    let (main, one) = (Backend::start("main").await, Backend::with(|_| answer(500, "ignored")).await);
    let two = Backend::start_h2c("ignored").await;
    let filters = vec![
        Filter::RequestHeaderModifier(headers(&[("x-rule", "1")], &[], &[])),
        mirror("one", 1, 1),
        mirror("two", 100, 100),
    ];
    let setup = Setup::new()
        .backend("main", Http1, &[main.address])
        .backend("one", Http1, &[one.address])
        .backend("two", portcullis_model::BackendProtocol::H2c, &[two.address])
        .rule(filtered(rule(&["main"]), filters));
    let gateway = setup.start().await;
    for body in ["", "the body"] {
        let got = once(gateway.address, request("POST", "/path?q=1", &[], body)).await;
        assert_eq!((got.status, got.text()), (200, "main"));
    }
    gateway.metric_becomes(SENT, 4.0).await;
    for mirror in [&one, &two] {
        let mut bodies: Vec<_> = mirror.seen().into_iter().map(|seen| seen.body).collect();
        bodies.sort();
        assert_eq!(bodies, ["", "the body"]);
        let seen = mirror.last();
        assert_eq!((seen.path().as_str(), seen.host().as_str()), ("/path?q=1", "example.com"));
        assert_eq!((seen.method.as_str(), seen.header("x-rule")), ("POST", Some("1")));
    }
}

#[tokio::test]
async fn a_fraction_of_the_requests() {
    let (main, copy) = (Backend::start("main").await, Backend::start("copy").await);
    let setup = Setup::new().backend("main", Http1, &[main.address]).backend("copy", Http1, &[copy.address]);
    let gateway = setup.rule(filtered(rule(&["main"]), vec![mirror("copy", 25, 50)])).start().await;
    let mut client = Client::http1(gateway.address).await;
    for _ in 0..500 {
        assert_eq!(client.get("/").await.status, 200);
    }
    for _ in 0..2000 {
        if gateway.metric(SENT) as usize == copy.count() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // Six standard deviations on both sides.
    assert!((183..=317).contains(&copy.count()), "{}", copy.count());
    assert_eq!(main.count(), 500);
}

#[tokio::test]
async fn a_mirror_that_is_away_or_slow_is_of_no_concern() {
    let away = nobody();
    let main = Backend::with(|seen| answer(200, seen.body.len().to_string())).await;
    // Accepts, and reads nothing.
    let stuck = Backend::raw(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let setup = Setup::new()
        .backend("main", Http1, &[main.address])
        .backend("away", Http1, &[away.address])
        .backend("stuck", Http1, &[stuck.address])
        .rule(filtered(rule(&["main"]), vec![mirror("away", 1, 1), mirror("stuck", 1, 1), mirror("unknown", 1, 1)]));
    let gateway = setup.start().await;
    // More than the kernel keeps for a receiver that does not read.
    let size = 64 * 1024 * 1024;
    let got = once(gateway.address, request("POST", "/", &[], vec![b'x'; size])).await;
    assert_eq!((got.status, got.text()), (200, size.to_string().as_str()));
    gateway.metric_becomes("portcullis_mirrors_total{outcome=\"dropped\"}", 1.0).await;
    gateway.metric_becomes("portcullis_mirrors_total{outcome=\"failed\"}", 2.0).await;
    assert_eq!(once(gateway.address, get("/")).await.status, 200);
}
