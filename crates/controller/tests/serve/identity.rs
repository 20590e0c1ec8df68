//! Who gets a certificate, and what is in it.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use x509_parser::extensions::GeneralName;

use crate::data_plane::{Claim, ask, ask_from, client_config, connect, csr};
use crate::kube::{ApiServer, Health};
use crate::log::Log;
use crate::world::{self, BANK, DEPLOYMENT, EDGE, OTHER, POD, REPLICA_SET, Replica, known, serving};

#[tokio::test]
async fn the_pod_of_a_data_plane_gets_a_certificate_of_its_gateway() {
    let (api, replica) = serving().await;
    let before = api.log().len();
    let (status, answer) = EDGE.claim().ask(&replica).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["ca"].as_str(), Some(&*replica.bundle()));

    let der = CertificateDer::from_pem_slice(answer["certificate"].as_str().unwrap().as_bytes()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
    let uri = "spiffe://portcullis.dev/ns/shop/gateway/edge/uid/gw-1/pod/edge-portcullis-5d-x";
    assert_eq!(*names, [GeneralName::URI(uri)]);
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert!(!certificate.is_ca());
    let validity = certificate.validity();
    assert_eq!(validity.not_after.timestamp() - validity.not_before.timestamp(), 65 * 60);
    assert_eq!(answer["notAfter"].as_i64(), Some(validity.not_after.timestamp()));

    // Four questions, each by name: what the rights in `identity::RIGHTS` are for.
    let review = "POST /apis/authentication.k8s.io/v1/tokenreviews".to_owned();
    let asked = [review, format!("GET {POD}"), format!("GET {REPLICA_SET}"), format!("GET {DEPLOYMENT}")];
    assert_eq!(api.log()[before..], asked);
    assert_eq!(replica.metric(r#"portcullis_identity_requests_total{outcome="issued"}"#), 1);
}

#[tokio::test]
async fn nothing_in_a_csr_counts_but_its_key() {
    let (_, replica) = serving().await;
    let key = KeyPair::generate().unwrap();
    let mut wishes = CertificateParams::new(vec!["portcullis-controller".to_owned()]).unwrap();
    wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let csr = wishes.serialize_request(&key).unwrap().pem().unwrap();
    let (status, answer) = ask(&replica, EDGE.claim().request(&csr)).await;
    assert_eq!(status, 200);
    let der = CertificateDer::from_pem_slice(answer["certificate"].as_str().unwrap().as_bytes()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(!certificate.is_ca());
    assert_eq!(certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    assert_eq!(certificate.public_key().subject_public_key.data, key.public_key_raw());
}

type Change = fn(&ApiServer, &mut Claim);

/// Everybody who is not the pod of a Gateway's data plane, and what is told to them.
const ATTACKS: &[(&str, Change, &str)] = &[
    ("a made-up token", |_, claim| claim.token = Some("made-up".into()), "token"),
    (
        "a token that only looks like one",
        |_, claim| claim.token = Some(format!("{}AAAA", claim.token.as_deref().unwrap())),
        "token",
    ),
    ("a token with blanks in it", |_, claim| claim.token = Some("edge token".into()), "token"),
    ("a token of 9 KiB", |_, claim| claim.token = Some("t".repeat(9 * 1024)), "token"),
    ("the token of a user", |api, _| edit_token(api, "/user/username", json!("alice")), "token"),
    ("the token of a node", |api, _| edit_token(api, "/user/username", json!("system:node:n")), "token"),
    (
        "a token that is not authenticated but filled in",
        |api, _| edit_token(api, "/authenticated", json!(false)),
        "token",
    ),
    ("a token with an error", |api, _| edit_token(api, "/error", json!("expired")), "token"),
    ("a token for the API server", |api, _| edit_token(api, "/audiences", json!(["https://kubernetes"])), "audience"),
    ("a token whose audience nobody checked", |api, _| edit_token(api, "/audiences", json!([])), "audience"),
    ("a token bound to nothing", |api, _| edit_token(api, "/user/extra", json!({})), "not_of_pod"),
    ("a token bound to another pod", |_, claim| claim.pod = "edge-portcullis-5d-y".into(), "not_of_pod"),
    (
        "the token of a data plane in another namespace",
        |_, claim| claim.token = Some(BANK.token()),
        // The pods have the same name: it is the namespace that gives it away.
        "namespace",
    ),
    (
        "a data plane of another Gateway of the namespace",
        |_, claim| *claim = Claim { gateway: "shop/edge".into(), gateway_uid: "gw-1".into(), ..OTHER.claim() },
        "owner",
    ),
    (
        "the Gateway of another namespace",
        |_, claim| (claim.gateway, claim.gateway_uid) = ("bank/edge".into(), "gw-3".into()),
        "namespace",
    ),
    ("a Gateway that is not served", |_, claim| claim.gateway = "shop/unknown".into(), "gateway"),
    ("an earlier life of the Gateway", |_, claim| claim.gateway_uid = "gw-0".into(), "gateway_uid"),
    ("a pod that is gone", |api, _| api.delete(POD), "pod"),
    ("a later pod of the same name", |api, _| api.edit(POD, "/metadata/uid", json!("p-9")), "pod"),
    (
        "a pod that is being deleted",
        |api, _| api.edit(POD, "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        "pod",
    ),
    ("a pod that has finished", |api, _| api.edit(POD, "/status/phase", json!("Succeeded")), "pod"),
    ("a pod that has failed", |api, _| api.edit(POD, "/status/phase", json!("Failed")), "pod"),
    ("a pod of another ServiceAccount", |api, _| api.edit(POD, "/spec/serviceAccountName", json!("default")), "pod"),
    ("a pod of nobody", |api, _| api.edit(POD, "/metadata/ownerReferences", json!([])), "owner"),
    (
        "a pod whose owner does not control it",
        |api, _| api.edit(POD, "/metadata/ownerReferences/0/controller", json!(false)),
        "owner",
    ),
    (
        "a pod with two controllers",
        |api, _| {
            let owners = api.object(POD).unwrap()["metadata"]["ownerReferences"][0].clone();
            api.edit(POD, "/metadata/ownerReferences", json!([owners, owners]));
        },
        "owner",
    ),
    ("a pod of a Job", |api, _| api.edit(POD, "/metadata/ownerReferences/0/kind", json!("Job")), "owner"),
    (
        "a pod of a ReplicaSet of somebody's own group",
        |api, _| api.edit(POD, "/metadata/ownerReferences/0/apiVersion", json!("evil.example/v1")),
        "owner",
    ),
    ("a pod that its ReplicaSet does not select", |api, _| api.edit(POD, "/metadata/labels", json!({})), "owner"),
    ("a ReplicaSet that is gone", |api, _| api.delete(REPLICA_SET), "owner"),
    ("a later ReplicaSet of the same name", |api, _| api.edit(REPLICA_SET, "/metadata/uid", json!("r-9")), "owner"),
    (
        "a ReplicaSet that selects by expressions",
        |api, _| {
            let any = json!([{"key": "x", "operator": "DoesNotExist"}]);
            api.edit(REPLICA_SET, "/spec/selector/matchExpressions", any);
        },
        "owner",
    ),
    ("a ReplicaSet of nobody", |api, _| api.edit(REPLICA_SET, "/metadata/ownerReferences", json!([])), "owner"),
    (
        "a forged owner: a Deployment that is not ours",
        |api, _| {
            let mut forged = api.object(DEPLOYMENT).unwrap();
            forged["metadata"]["name"] = json!("mine");
            forged["metadata"]["uid"] = json!("d-9");
            api.store("/apis/apps/v1/namespaces/shop/deployments/mine", forged);
            api.edit(REPLICA_SET, "/metadata/ownerReferences/0/name", json!("mine"));
            api.edit(REPLICA_SET, "/metadata/ownerReferences/0/uid", json!("d-9"));
        },
        "owner",
    ),
    ("a Deployment that is gone", |api, _| api.delete(DEPLOYMENT), "owner"),
    ("a later Deployment of the same name", |api, _| api.edit(DEPLOYMENT, "/metadata/uid", json!("d-9")), "owner"),
    (
        "a Deployment that is not managed by us",
        |api, _| api.edit(DEPLOYMENT, "/metadata/labels/app.kubernetes.io~1managed-by", json!("Helm")),
        "owner",
    ),
    (
        "a Deployment that does not select its ReplicaSet",
        |api, _| api.edit(DEPLOYMENT, "/spec/selector/matchLabels", json!({"app": "x"})),
        "owner",
    ),
    (
        "a Deployment that selects everything",
        |api, _| api.edit(DEPLOYMENT, "/spec/selector/matchLabels", json!({})),
        "owner",
    ),
    (
        "a Deployment under another ServiceAccount",
        |api, _| api.edit(DEPLOYMENT, "/spec/template/spec/serviceAccountName", json!("default")),
        "owner",
    ),
    ("a Deployment of nobody", |api, _| api.edit(DEPLOYMENT, "/metadata/ownerReferences", json!([])), "owner"),
    (
        "a Deployment of another Gateway",
        |api, _| api.edit(DEPLOYMENT, "/metadata/ownerReferences/0/name", json!("other")),
        "owner",
    ),
    (
        "a Deployment of an earlier life of the Gateway",
        |api, _| api.edit(DEPLOYMENT, "/metadata/ownerReferences/0/uid", json!("gw-0")),
        "owner",
    ),
    (
        "a Deployment of a Gateway of another group",
        |api, _| api.edit(DEPLOYMENT, "/metadata/ownerReferences/0/apiVersion", json!("evil.example/v1")),
        "owner",
    ),
];

fn edit_token(api: &ApiServer, pointer: &str, value: Value) {
    let mut status = EDGE.token_status();
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    status.pointer_mut(parent).unwrap()[last] = value;
    api.token(&EDGE.token(), status);
}

#[tokio::test]
async fn whoever_is_not_the_data_plane_of_the_gateway_gets_nothing() {
    let (api, replica) = serving().await;
    for (name, change, class) in ATTACKS {
        for data_plane in [EDGE, OTHER, BANK] {
            data_plane.install(&api);
        }
        let mut claim = EDGE.claim();
        change(&api, &mut claim);
        let sample = format!(r#"portcullis_identity_requests_total{{outcome="{class}"}}"#);
        let before = replica.metric(&sample);
        assert_eq!(claim.ask(&replica).await, (403, json!({"error": class})), "{name}");
        assert_eq!(replica.metric(&sample), before + 1, "{name}");
    }
    assert_eq!(replica.metric(r#"portcullis_identity_requests_total{outcome="issued"}"#), 0);
    EDGE.install(&api);
    assert_eq!(EDGE.claim().ask(&replica).await.0, 200);
}

#[tokio::test]
async fn a_gateway_that_is_gone_or_made_anew_gets_nothing() {
    let (_, replica) = serving().await;
    for gateways in [vec![], vec![("shop", "other", "gw-1")], vec![("shop", "edge", "gw-9")]] {
        assert_eq!(EDGE.claim().ask(&replica).await.0, 200);
        replica.server.gateways(known(&gateways));
        assert_eq!(EDGE.claim().ask(&replica).await.0, 403, "{gateways:?}");
        replica.server.gateways(known(&[("shop", "edge", "gw-1")]));
    }
}

#[tokio::test]
async fn while_nobody_can_be_asked_the_pod_waits() {
    let api = world::api_server().await;
    let replica = Replica::start(&api, "controller-0", true).await;
    let unavailable = (503, json!({"error": "unavailable"}));
    assert_eq!(EDGE.claim().ask(&replica).await, unavailable, "before the Gateways are known");
    replica.publish_all();
    for health in [Health::Failing(500), Health::Failing(429), Health::Failing(403), Health::Failing(401), Health::Gone]
    {
        assert_eq!(EDGE.claim().ask(&replica).await.0, 200);
        api.health(health);
        assert_eq!(EDGE.claim().ask(&replica).await, unavailable, "{health:?}");
        api.health(Health::Well);
    }
}

#[tokio::test]
async fn what_is_no_request_of_a_data_plane_is_refused_by_its_form() {
    let (api, replica) = serving().await;
    let before = api.log().len();
    let good = csr(&KeyPair::generate().unwrap());
    let claim = EDGE.claim();
    let with = |change: fn(&mut http::request::Parts), body: Vec<u8>| {
        let (mut parts, _) = claim.request(&good).into_parts();
        change(&mut parts);
        Request::from_parts(parts, Full::new(Bytes::from(body)))
    };
    let body = || claim.body(&good).to_string().into_bytes();
    let of = |name: &str, value: Value| {
        let mut body = claim.body(&good);
        body[name] = value;
        with(|_| {}, body.to_string().into_bytes())
    };
    for (name, request, status, class) in [
        ("another path", with(|parts| parts.uri = "/v1/identities".parse().unwrap(), body()), 404, "not_a_request"),
        ("another method", with(|parts| parts.method = Method::PUT, body()), 405, "not_a_request"),
        ("no token", with(|parts| drop(parts.headers.remove("authorization")), body()), 401, "no_token"),
        (
            "another scheme",
            with(|parts| drop(parts.headers.insert("authorization", "Basic YTpi".parse().unwrap())), body()),
            401,
            "no_token",
        ),
        ("no JSON", with(|_| {}, b"csr".to_vec()), 400, "malformed"),
        ("not an object", with(|_| {}, b"[]".to_vec()), 400, "malformed"),
        ("17 KiB", with(|_| {}, vec![b' '; 17 * 1024]), 413, "not_a_request"),
        ("no CSR", of("csr", json!("")), 400, "csr"),
        ("a certificate for a CSR", of("csr", json!(replica.bundle())), 400, "csr"),
        ("a Gateway without a namespace", of("gateway", json!("edge")), 400, "malformed"),
        ("a Gateway with a path", of("gateway", json!("shop/edge/../../bank")), 400, "malformed"),
        ("a UID with a path", of("gatewayUid", json!("gw-1/pod/other")), 400, "malformed"),
        ("a pod with a path", of("pod", json!("../secrets/s")), 400, "malformed"),
        ("a number", of("pod", json!(1)), 400, "malformed"),
    ] {
        assert_eq!(ask(&replica, request).await, (status, json!({"error": class})), "{name}");
    }
    assert_eq!(api.log().len(), before, "nobody asked the API server for any of them");
}

/// Whoever reaches the port can send these, as many as it likes.
#[tokio::test]
async fn what_is_no_token_for_us_by_its_own_words_is_not_asked_about() {
    let (api, replica) = serving().await;
    let before = api.log().len();
    let payload = |audience: &str, subject: &str, pod: Value| {
        let kubernetes = json!({"namespace": "shop", "pod": pod});
        world::jwt(&json!({"aud": [audience], "iss": "https://k", "sub": subject, "kubernetes.io": kubernetes}))
    };
    let pod = json!({"name": EDGE.pod_name(), "uid": "p-1"});
    let (ours, edge) = ("portcullis.dev/controller", "system:serviceaccount:shop:edge-portcullis");
    for (case, token, class) in [
        ("no JSON Web Token", "edge-token".to_owned(), "token"),
        ("three parts of nothing", "YQ.YQ.YQ".to_owned(), "token"),
        ("for the API server", payload("https://kubernetes.default.svc", edge, pod.clone()), "audience"),
        ("of a user", payload(ours, "alice", pod.clone()), "token"),
        ("of a node", payload(ours, "system:node:n", pod.clone()), "token"),
        ("of no pod", payload(ours, edge, json!(null)), "not_of_pod"),
        ("of another pod", payload(ours, edge, json!({"name": "other", "uid": "p-2"})), "not_of_pod"),
        ("of another namespace", BANK.token(), "namespace"),
    ] {
        let claim = Claim { token: Some(token), ..EDGE.claim() };
        assert_eq!(claim.ask(&replica).await, (403, json!({"error": class})), "{case}");
    }
    assert_eq!(api.log().len(), before, "nobody asked the API server for any of them");
}

/// One pod has as many questions under way as it can, and the API server answers none of them.
#[tokio::test]
async fn one_address_cannot_have_all_questions() {
    let (api, replica) = serving().await;
    api.silence(&EDGE.token());
    let address = replica.server.identity_address();
    let bundle = replica.bundle();
    let noisy: Vec<_> = (0..40)
        .map(|_| {
            let (request, bundle) = (EDGE.claim().request(&csr(&KeyPair::generate().unwrap())), bundle.clone());
            tokio::spawn(async move { ask_from([127, 0, 0, 1], address, &bundle, request).await })
        })
        .collect();
    let asked = async {
        while api.silent() < 4 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(world::LONG, asked).await.expect("some ask");
    for _ in 0..20 {
        let request = OTHER.claim().request(&csr(&KeyPair::generate().unwrap()));
        assert_eq!(ask_from([127, 0, 0, 2], address, &bundle, request).await.0, 200);
    }
    assert_eq!(api.silent(), 4);
    noisy.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn who_asks_without_end_is_told_to_wait_and_nobody_else() {
    let (api, replica) = serving().await;
    let (address, bundle) = (replica.server.identity_address(), replica.bundle());
    let key = csr(&KeyPair::generate().unwrap());
    let mut refused = Claim { gateway_uid: "gw-0".into(), ..EDGE.claim() };
    refused.token = Some(format!("{}AAAA", EDGE.token()));
    let before = api.log().len();
    let throttled = async {
        loop {
            let answer = ask_from([127, 0, 0, 1], address, &bundle, refused.request(&key)).await;
            if answer == (429, json!({"error": "throttled"})) {
                return;
            }
            assert_eq!(answer, (403, json!({"error": "token"})));
        }
    };
    tokio::time::timeout(world::LONG, throttled).await.expect("an end");
    assert!(api.log().len() - before >= 100, "a node full of data planes may ask at once");
    let request = OTHER.claim().request(&key);
    assert_eq!(ask_from([127, 0, 0, 2], address, &bundle, request).await.0, 200);
    assert!(replica.metric(r#"portcullis_identity_requests_total{outcome="throttled"}"#) >= 1);
}

#[tokio::test]
async fn who_gets_certificates_or_none_without_end_fills_no_log() {
    let (_, replica) = serving().await;
    let key = csr(&KeyPair::generate().unwrap());
    let log = Log::default();
    let _listening = log.listen();
    let began = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(ask(&replica, EDGE.claim().request(&key)).await.0, 200);
        assert_eq!(ask(&replica, Claim { token: Some("none".into()), ..EDGE.claim() }.request(&key)).await.0, 403);
    }
    let most = 32 + began.elapsed().as_secs() as usize + 1;
    assert!((1..=most).contains(&log.lines("got its certificate")), "{}", log.lines("got its certificate"));
    assert!((1..=most).contains(&log.lines("no certificate")), "{}", log.lines("no certificate"));
}

#[tokio::test]
async fn the_server_shows_a_certificate_for_each_of_its_names() {
    let (_, replica) = serving().await;
    let connect = async |name| {
        let config = client_config(&replica.bundle(), None, b"http/1.1");
        connect(replica.server.identity_address(), config, name).await.map(drop)
    };
    for name in [
        "portcullis-controller",
        "portcullis-controller.portcullis-system",
        "portcullis-controller.portcullis-system.svc",
        "portcullis-controller.portcullis-system.svc.cluster.local",
        "127.0.0.1",
    ] {
        connect(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert!(connect("portcullis-controller.other.svc").await.is_err());
}

#[tokio::test]
async fn one_address_cannot_have_all_handshakes() {
    let (_, replica) = serving().await;
    let mut open = Vec::new();
    for _ in 0..600 {
        open.push(tokio::net::TcpStream::connect(replica.server.identity_address()).await.unwrap());
    }
    let limited = r#"portcullis_identity_requests_total{outcome="limited"}"#;
    let some = async {
        while replica.metric(limited) == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(world::LONG, some).await.expect("some are closed at once");
}
