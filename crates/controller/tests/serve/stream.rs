//! What data planes get on their streams, what they do not get, and how streams end.

use std::time::Duration;

use portcullis_controller::serve::DataPlaneEvent;
use portcullis_model::{ConfigDelta, ObjectName, ResourceKey};
use portcullis_xds::proto::{DeltaDiscoveryRequest, Node};
use portcullis_xds::{COMMIT_TYPE_URL, METHOD_PATH};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use time::OffsetDateTime;
use tonic::Code;

use crate::authority::{forge, sign};
use crate::data_plane::{Channel, DataPlane, Held, certify, following};
use crate::log::Log;
use crate::world::{
    self, BANK, EDGE, Installed, OTHER, Replica, backend, backend_key, change, gateway, known, serving,
};

/// The names of backends that a data plane holds.
fn backends(held: &Held, of: Installed) -> Vec<String> {
    held.configs[&of.name()].backends.keys().map(|key| key.service.name.to_string()).collect()
}

const EDGE_URI: &str = "spiffe://portcullis.dev/ns/shop/gateway/edge/uid/gw-1/pod/edge-portcullis-5d-x";

#[tokio::test]
async fn a_data_plane_gets_its_own_gateway_and_every_change_of_it() {
    let (_, replica) = serving().await;
    let (mut stream, mut held, _) = following(&replica, EDGE).await;
    assert_eq!(held.configs.keys().collect::<Vec<_>>(), [&EDGE.name()]);
    assert_eq!(backends(&held, EDGE), ["of-shop-edge"]);
    assert_eq!(replica.server.version(&EDGE.name()), Some(held.client.version()));

    replica.server.publish(change(EDGE, vec![backend("more", "")], vec![]));
    let (version, generation, pieces) = held.take(&mut stream).await;
    assert_eq!((Some(version), generation, pieces), (replica.server.version(&EDGE.name()), 1, 1));
    let gone = ResourceKey::Backend(backend_key("more"));
    replica.server.publish(change(EDGE, vec![], vec![gone]));
    held.take(&mut stream).await;
    assert_eq!(backends(&held, EDGE), ["of-shop-edge"]);
}

#[tokio::test]
async fn a_data_plane_never_gets_anything_of_another_gateway() {
    let (_, replica) = serving().await;
    let mut all = Vec::new();
    for of in [EDGE, OTHER, BANK] {
        all.push((of, following(&replica, of).await));
    }
    for round in 0..10 {
        // Each Gateway changes while the others' data planes listen: the next thing that comes must be their own.
        for of in [BANK, OTHER, EDGE] {
            let name = format!("secret-of-{}-{}-{round}", of.namespace, of.gateway);
            replica.server.publish(change(of, vec![backend(&name, "")], vec![]));
        }
    }
    for (of, (stream, held, _)) in &mut all {
        let last = format!("secret-of-{}-{}-9", of.namespace, of.gateway);
        while !backends(held, *of).contains(&last) {
            held.take(stream).await;
        }
        assert_eq!(held.configs.keys().collect::<Vec<_>>(), [&of.name()]);
        let own = format!("of-{}-{}", of.namespace, of.gateway);
        assert!(backends(held, *of).iter().all(|name| name.contains(&own)), "{:?}", backends(held, *of));
        assert_eq!(backends(held, *of).len(), 11);
    }
}

#[tokio::test]
async fn who_asks_for_names_of_another_gateway_is_refused() {
    let (_, replica) = serving().await;
    let certified = certify(&replica, EDGE).await;
    let subscribe = |name: &str| DeltaDiscoveryRequest {
        type_url: COMMIT_TYPE_URL.to_owned(),
        resource_names_subscribe: vec![name.to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
    let holding = |name: &str| DeltaDiscoveryRequest {
        initial_resource_versions: [(name.to_owned(), "0".repeat(32))].into(),
        ..subscribe("shop/edge/*")
    };
    let node = Node { id: "edge-portcullis-5d-x".to_owned(), cluster: "shop/other".to_owned() };
    for (name, request) in [
        ("another Gateway", subscribe("shop/other/*")),
        ("another namespace", subscribe("bank/edge/*")),
        ("everything", subscribe("*")),
        ("a name that begins alike", subscribe("shop/edge2/*")),
        ("the Gateway's own and another", {
            let mut both = subscribe("shop/edge/*");
            both.resource_names_subscribe.push("shop/other/*".to_owned());
            both
        }),
        ("a version of another Gateway's", holding("shop/other/gateway")),
        ("another Gateway in the node", DeltaDiscoveryRequest { node: Some(node), ..subscribe("shop/edge/*") }),
    ] {
        let mut stream = DataPlane::open(&replica, &certified).await;
        stream.send(request).await;
        let status = stream.end().await;
        assert_eq!(status.code(), Code::PermissionDenied, "{name}: {status:?}");
    }
    replica.wait_metric(r#"portcullis_config_streams_ended_total{reason="refused"}"#, 7).await;
}

#[tokio::test]
async fn who_shows_no_certificate_of_ours_gets_no_stream() {
    let (api, replica) = serving().await;
    let foreign = {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        sign(&Issuer::from_params(&params, key), EDGE_URI, |_| {})
    };
    let server = forge(&api, EDGE_URI, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let past = OffsetDateTime::now_utc() - time::Duration::minutes(1);
    let future = OffsetDateTime::now_utc() + time::Duration::minutes(30);
    let name = |name: &str| SanType::DnsName(name.try_into().unwrap());
    for (case, certified) in [
        ("none", None),
        ("one of another authority", Some(foreign)),
        ("one of a server", Some(server)),
        ("an expired one", Some(forge(&api, EDGE_URI, |params| params.not_after = past))),
        ("one that is not valid yet", Some(forge(&api, EDGE_URI, |params| params.not_before = future))),
        (
            "one without an identity",
            Some(forge(&api, EDGE_URI, |params| params.subject_alt_names = vec![name("edge")])),
        ),
        ("one of another trust domain", Some(forge(&api, "spiffe://example.com/controller/a", |_| {}))),
        (
            "one with two identities",
            Some(forge(&api, EDGE_URI, |params| {
                let other = "spiffe://portcullis.dev/controller/a".try_into().unwrap();
                params.subject_alt_names.push(SanType::URI(other));
            })),
        ),
    ] {
        // TLS 1.3: a client learns only from the first answer that its certificate was refused.
        let Ok(channel) = Channel::open(&replica, certified.as_ref()).await else { continue };
        let refused = channel.call(METHOD_PATH).await.map(drop).unwrap_err();
        assert!(matches!(refused.code(), Code::Unknown | Code::Unavailable | Code::Internal), "{case}: {refused:?}");
    }
    assert_eq!(replica.metric(r#"portcullis_data_planes_connected{replica="own"}"#), 0);
    replica.wait_metric(r#"portcullis_config_rejected_connections_total{reason="handshake"}"#, 5).await;
    replica.wait_metric(r#"portcullis_config_rejected_connections_total{reason="identity"}"#, 3).await;
    // The same way with a good one works.
    let mut stream = DataPlane::open(&replica, &forge(&api, EDGE_URI, |_| {})).await;
    let mut held = Held::new(EDGE);
    held.start(&stream).await;
    held.take(&mut stream).await;
}

#[tokio::test]
async fn each_identity_may_call_its_own_method_only() {
    let (api, replica) = serving().await;
    let controller = forge(&api, "spiffe://portcullis.dev/controller/controller-1", |_| {});
    let data_plane = certify(&replica, EDGE).await;
    for (case, certified, path, code) in [
        ("a controller that follows", &controller, METHOD_PATH, Code::PermissionDenied),
        ("a data plane that relays", &data_plane, "/portcullis.controller.v1.Relay/Tell", Code::PermissionDenied),
        (
            "another method",
            &data_plane,
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/X",
            Code::Unimplemented,
        ),
        ("another path", &data_plane, "/", Code::Unimplemented),
    ] {
        let channel = Channel::open(&replica, Some(certified)).await.unwrap();
        let status = channel.call(path).await.map(drop).unwrap_err();
        assert_eq!(status.code(), code, "{case}: {status:?}");
    }
}

#[tokio::test]
async fn a_stream_ends_at_once_with_its_gateway() {
    let (_, replica) = serving().await;
    let others = [("shop", "other", "gw-2"), ("bank", "edge", "gw-3")];
    let anew: Vec<_> = others.iter().copied().chain([("shop", "edge", "gw-9")]).collect();
    for (case, gateways) in [("gone", others.to_vec()), ("made anew", anew)] {
        let (mut stream, _, certified) = following(&replica, EDGE).await;
        let (mut other, mut held, _) = following(&replica, OTHER).await;
        let waiting = Channel::open(&replica, Some(&certified)).await.unwrap();
        replica.server.gateways(known(&gateways));
        assert_eq!(stream.end().await.code(), Code::PermissionDenied, "{case}");

        // Neither on a connection from before nor on a new one.
        for channel in [waiting, Channel::open(&replica, Some(&certified)).await.unwrap()] {
            let status = channel.call(METHOD_PATH).await.map(drop).unwrap_err();
            assert_eq!(status.code(), Code::PermissionDenied, "{case}");
        }
        // Nobody else is touched.
        replica.server.publish(change(OTHER, vec![backend("more", case)], vec![]));
        held.take(&mut other).await;
        replica.publish_all();
    }
    replica.wait_metric(r#"portcullis_config_streams_ended_total{reason="revoked"}"#, 6).await;
}

#[tokio::test]
async fn a_stream_that_is_not_read_ends_with_its_gateway_too() {
    let (_, replica) = serving().await;
    let (stream, _, _) = following(&replica, EDGE).await;
    // More than any window: most of it waits in the server.
    let large = (0..48).map(|index| backend(&format!("large-{index}"), &"x".repeat(1 << 20))).collect();
    replica.server.publish(change(EDGE, large, vec![]));
    replica.server.gateways(known(&[]));
    replica.wait_metric(r#"portcullis_data_planes_connected{replica="own"}"#, 0).await;
    let closed = async {
        while !replica.drain.open().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(world::LONG, closed).await.expect("the connection is closed, not only the stream");
    drop(stream);
}

#[tokio::test]
async fn a_large_configuration_arrives_whole() {
    let (_, replica) = serving().await;
    let (mut stream, mut held, _) = following(&replica, EDGE).await;
    let many = (0..20_000).map(|index| backend(&format!("many-{index}"), &"x".repeat(500))).collect();
    replica.server.publish(change(EDGE, many, vec![]));
    assert_eq!(held.take(&mut stream).await.2, 20_000);
    assert!(replica.metric("portcullis_config_sent_bytes_total") > 10_000_000);
}

#[tokio::test]
async fn while_a_generation_waits_for_its_answer_changes_meet() {
    let (_, replica) = serving().await;
    let (mut stream, mut held, _) = following(&replica, EDGE).await;
    replica.server.publish(change(EDGE, vec![backend("first", "")], vec![]));
    held.receive(&mut stream).await;
    for round in 0..1000 {
        replica.server.publish(change(EDGE, vec![backend("flips", &round.to_string())], vec![]));
        replica.server.publish(change(EDGE, vec![backend(&format!("comes-{round}"), "")], vec![]));
        let gone = ResourceKey::Backend(backend_key(&format!("comes-{round}")));
        replica.server.publish(change(EDGE, vec![], vec![gone]));
        // The stream is woken each time, and finds that it has to wait.
        tokio::task::yield_now().await;
    }
    held.answer(&stream, Ok(())).await;
    let (version, _, pieces) = held.take(&mut stream).await;
    assert_eq!((Some(version), pieces), (replica.server.version(&EDGE.name()), 1));
    assert_eq!(backends(&held, EDGE), ["first", "flips", "of-shop-edge"]);
}

#[tokio::test]
async fn nothing_is_sent_before_everything_is_known() {
    let api = world::api_server().await;
    let replica = Replica::start(&api, "controller-0", true).await;
    let certified = forge(&api, EDGE_URI, |_| {});
    let mut stream = DataPlane::open(&replica, &certified).await;
    let mut held = Held::new(EDGE);
    held.start(&stream).await;
    let mut silent = async |case: &str| {
        let waited = tokio::time::timeout(Duration::from_millis(100), stream.responses.message()).await;
        assert!(waited.is_err(), "{case}: {waited:?}");
    };
    silent("nothing is known").await;
    replica.server.gateways(known(&[("shop", "edge", "gw-1")]));
    silent("nothing is published").await;
    replica.server.publish(vec![gateway(OTHER, 1)]);
    silent("its Gateway is not published").await;
    replica.server.publish(vec![gateway(EDGE, 1)]);
    held.take(&mut stream).await;
}

#[tokio::test]
async fn a_stream_from_before_the_gateways_were_known_is_checked_when_they_are() {
    let api = world::api_server().await;
    let replica = Replica::start(&api, "controller-0", true).await;
    let mut stream = DataPlane::open(&replica, &forge(&api, EDGE_URI, |_| {})).await;
    replica.server.publish(vec![gateway(EDGE, 1)]);
    Held::new(EDGE).start(&stream).await;
    replica.server.gateways(known(&[("shop", "edge", "gw-9")]));
    assert_eq!(stream.end().await.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn what_a_data_plane_says_is_told() {
    let (_, mut replica) = serving().await;
    let (mut stream, mut held, _) = following(&replica, EDGE).await;
    let (gateway, pod) = (EDGE.name(), EDGE.pod_name().into());
    let version = held.client.version();
    assert_eq!(replica.event().await, DataPlaneEvent::Connected { gateway: gateway.clone(), pod });
    let acknowledged = |gateway_generation, version| DataPlaneEvent::Acknowledged {
        gateway: EDGE.name(),
        pod: EDGE.pod_name().into(),
        gateway_generation,
        version,
    };
    assert_eq!(replica.event().await, acknowledged(1, version));

    replica.server.publish(vec![world::gateway(EDGE, 2)]);
    let (version, ..) = held.receive(&mut stream).await;
    held.answer(&stream, Err("port 80:\nin use".to_owned())).await;
    let refused = DataPlaneEvent::Refused {
        gateway: gateway.clone(),
        pod: EDGE.pod_name().into(),
        version,
        message: r"port 80:\nin use".into(),
    };
    assert_eq!(replica.event().await, refused);

    replica.server.publish(vec![world::gateway(EDGE, 3)]);
    let (version, ..) = held.take(&mut stream).await;
    assert_eq!(replica.event().await, acknowledged(3, version));
    assert_eq!(replica.metric("portcullis_config_acknowledged_total"), 2);
    assert_eq!(replica.metric("portcullis_config_refused_total"), 1);
    assert_eq!(replica.metric(r#"portcullis_data_planes_connected{replica="own"}"#), 1);

    drop(stream);
    assert_eq!(replica.event().await, DataPlaneEvent::Gone { gateway, pod: EDGE.pod_name().into() });
    assert_eq!(replica.metric(r#"portcullis_data_planes_connected{replica="own"}"#), 0);
}

#[tokio::test]
async fn a_newer_stream_of_a_data_plane_takes_the_place_of_the_older() {
    let (_, mut replica) = serving().await;
    let (mut stream, mut held, certified) = following(&replica, EDGE).await;
    let mut newer = DataPlane::open(&replica, &certified).await;
    assert_eq!(stream.end().await.code(), Code::Aborted);
    held.start(&newer).await;
    // What it held, it is not sent again.
    assert_eq!(held.take(&mut newer).await.2, 0);
    let mut connected = 0;
    while connected < 2 {
        match replica.event().await {
            DataPlaneEvent::Connected { .. } => connected += 1,
            DataPlaneEvent::Acknowledged { .. } => {}
            other => panic!("it was never gone: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_gateway_that_leaves_the_configuration_takes_everything_with_it() {
    let (_, replica) = serving().await;
    let (mut stream, mut held, _) = following(&replica, EDGE).await;
    replica.server.publish(vec![ConfigDelta::Remove { gateway: EDGE.name() }]);
    held.take(&mut stream).await;
    assert!(held.configs.is_empty());
    assert_eq!(replica.server.version(&ObjectName::new("shop", "edge")), None);
}

#[tokio::test]
async fn a_replica_that_stops_sends_data_planes_to_another_one() {
    let (api, replica) = serving().await;
    let (mut stream, mut held, certified) = following(&replica, EDGE).await;
    replica.drain.begin(Duration::from_secs(20));
    assert_eq!(stream.end().await.code(), Code::Unavailable);
    assert!(replica.drain.finished().await.is_clean());

    let other = Replica::start(&api, "controller-1", false).await;
    other.publish_all();
    // The authority is the same, and so are the versions: nothing is sent again.
    let mut stream = DataPlane::open(&other, &certified).await;
    held.start(&stream).await;
    assert_eq!(held.take(&mut stream).await.2, 0);
}

#[tokio::test]
async fn a_stream_ends_some_seconds_after_its_certificate() {
    let (api, replica) = serving().await;
    let soon = OffsetDateTime::now_utc() + time::Duration::seconds(2);
    let mut stream = DataPlane::open(&replica, &forge(&api, EDGE_URI, |params| params.not_after = soon)).await;
    let mut held = Held::new(EDGE);
    held.start(&stream).await;
    held.take(&mut stream).await;
    assert_eq!(stream.end().await.code(), Code::Unauthenticated);
    assert!(OffsetDateTime::now_utc() > soon);
}

#[tokio::test]
async fn who_asks_without_end_is_cut_off() {
    let (_, replica) = serving().await;
    let (mut stream, _, _) = following(&replica, EDGE).await;
    let stale = DeltaDiscoveryRequest {
        type_url: COMMIT_TYPE_URL.to_owned(),
        response_nonce: "0".to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    let requests = stream.requests.clone();
    tokio::spawn(async move { while requests.send(stale.clone()).await.is_ok() {} });
    assert_eq!(stream.end().await.code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn who_is_refused_or_refuses_without_end_fills_no_log() {
    let (_, replica) = serving().await;
    let certified = certify(&replica, EDGE).await;
    let (mut stream, mut held, _) = following(&replica, OTHER).await;
    let (log, began) = (Log::default(), std::time::Instant::now());
    let _listening = log.listen();
    for generation in 2..102 {
        replica.server.publish(vec![gateway(OTHER, generation)]);
        held.receive(&mut stream).await;
        held.answer(&stream, Err("no".to_owned())).await;
    }
    replica.wait_metric("portcullis_config_refused_total", 100).await;
    let mut lines = log.lines("does not serve all");
    let channel = Channel::open(&replica, Some(&certified)).await.unwrap();
    for _ in 0..100 {
        let mut stream = channel.call(METHOD_PATH).await.unwrap();
        let everything = vec!["*".to_owned()];
        let type_url = COMMIT_TYPE_URL.to_owned();
        stream
            .send(DeltaDiscoveryRequest { type_url, resource_names_subscribe: everything, ..Default::default() })
            .await;
        assert_eq!(stream.end().await.code(), Code::PermissionDenied);
    }
    replica.wait_metric(r#"portcullis_config_streams_ended_total{reason="refused"}"#, 100).await;
    lines += log.lines("asked for what it may not");
    let most = 32 + began.elapsed().as_secs() as usize + 1;
    assert!((1..=most).contains(&lines), "{lines}");
}

#[tokio::test]
async fn hundreds_of_data_planes_follow() {
    let (api, replica) = serving().await;
    let mut streams = Vec::new();
    // Several connections at a time: an address has its rate.
    for index in 0..200 {
        let uri = format!("spiffe://portcullis.dev/ns/shop/gateway/edge/uid/gw-1/pod/edge-{index}");
        let certified = forge(&api, &uri, |_| {});
        let stream = loop {
            match Channel::open(&replica, Some(&certified)).await {
                Ok(channel) => break channel.call(METHOD_PATH).await.unwrap(),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let held = Held::new(EDGE);
        streams.push((stream, held));
    }
    for (stream, held) in &mut streams {
        held.start(stream).await;
        held.take(stream).await;
    }
    replica.server.publish(change(EDGE, vec![backend("news", "")], vec![]));
    for (stream, held) in &mut streams {
        held.take(stream).await;
        assert_eq!(backends(held, EDGE), ["news", "of-shop-edge"]);
    }
    replica.wait_metric("portcullis_config_acknowledged_total", 400).await;
    assert_eq!(replica.metric(r#"portcullis_data_planes_connected{replica="own"}"#), 200);
}
