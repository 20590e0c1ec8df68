//! TLS: which listener, which certificate, resumption, refusals.

use crate::client::{
    answer, ask, get, http2, location, read_to_end, request, tls, tls_config, tls_config_with, tls_error,
};
use crate::gateway::{Algorithm, Authority, Gateway, http, https, invalid, listener_key, options, resource, route};
use portcullis_model::{Certificate, ResourceKey};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, NamedGroup};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const UNRECOGNISED: rustls::Error = rustls::Error::AlertReceived(AlertDescription::UnrecognisedName);

/// Which certificate is shown for a server name.
async fn shown(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Result<Vec<u8>, rustls::Error> {
    match tls(address, name, config).await {
        Ok(stream) => Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()),
        error => Err(tls_error(error)),
    }
}

fn leaf(certificate: &Certificate) -> Vec<u8> {
    certificate.chain[0].clone()
}

#[tokio::test]
async fn the_server_name_chooses_listener_and_certificate() {
    let authority = Authority::new();
    let exact = authority.certificate("exact", &["a.example.com"]);
    let wildcard = authority.certificate("wildcard", &["*.example.com"]);
    let any = authority.certificate("any", &["other.example.org", "127.0.0.1"]);
    let resources = vec![
        https("exact", 443, Some("a.example.com"), &["exact"]),
        https("wildcard", 443, Some("*.example.com"), &["wildcard"]),
        invalid("invalid", 443, Some("b.example.com")),
        https("any", 443, None, &["any"]),
        resource(&exact),
        resource(&wildcard),
        resource(&any),
    ];
    let mut gateway = Gateway::start(options(), resources).await;
    let address = gateway.address(443);
    let config = Arc::new(tls_config(&authority, &[]));
    for (name, expected) in [
        ("a.example.com", &exact),
        ("A.Example.COM", &exact),
        ("c.example.com", &wildcard),
        ("other.example.org", &any),
        // An address is not sent as a server name.
        ("127.0.0.1", &any),
    ] {
        assert_eq!(shown(address, name, &config).await, Ok(leaf(expected)), "{name}");
    }
    // The listener keeps its name to itself, though it cannot serve.
    assert_eq!(shown(address, "b.example.com", &config).await, Err(UNRECOGNISED));
    gateway.handshake_failures_become(443, "listener_invalid", 1.0).await;

    gateway.apply(Vec::new(), vec![listener_key("any")]).await;
    assert_eq!(shown(address, "other.example.org", &config).await, Err(UNRECOGNISED));
    assert_eq!(shown(address, "127.0.0.1", &config).await, Err(UNRECOGNISED));
    gateway.handshake_failures_become(443, "unrecognized_name", 1.0).await;
    gateway.handshake_failures_become(443, "no_server_name", 1.0).await;
}

#[tokio::test]
async fn among_a_listeners_certificates_name_and_algorithm_choose() {
    let authority = Authority::new();
    let ecdsa = authority.certificate("ecdsa", &["a.example.com"]);
    let rsa = authority.certificate_of(Algorithm::Rsa, "rsa", &["a.example.com"]);
    let other = authority.certificate("other", &["b.example.com"]);
    let resources =
        vec![https("https", 443, None, &["ecdsa", "rsa", "other"]), resource(&ecdsa), resource(&rsa), resource(&other)];
    let gateway = Gateway::start(options(), resources).await;
    let address = gateway.address(443);
    let all = Arc::new(tls_config(&authority, &[]));
    assert_eq!(shown(address, "a.example.com", &all).await, Ok(leaf(&ecdsa)));
    assert_eq!(shown(address, "b.example.com", &all).await, Ok(leaf(&other)));

    // A client of TLS 1.2 that knows suites with RSA alone.
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    let only_rsa = Arc::new(tls_config_with(&authority, &[], provider));
    assert_eq!(shown(address, "a.example.com", &only_rsa).await, Ok(leaf(&rsa)));
    // Nothing is named so, and it cannot be verified; what can be shown is.
    assert!(shown(address, "c.example.com", &all).await.is_err());
}

async fn kind(address: SocketAddr, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut stream = tls(address, "a.example.com", config).await.unwrap();
    // Tickets of TLS 1.3 come with the first data.
    get(&mut stream, "a.example.com").await.unwrap();
    stream.get_ref().1.handshake_kind().unwrap()
}

#[tokio::test]
async fn sessions_are_resumed_on_their_own_listener_alone() {
    let authority = Authority::new();
    let certificate = authority.certificate("a", &["a.example.com"]);
    let mut gateway = Gateway::start(
        portcullis_proxy::Options { workers: 2, ..options() },
        vec![
            https("first", 443, Some("a.example.com"), &["a"]),
            https("second", 8443, Some("a.example.com"), &["a"]),
            resource(&certificate),
        ],
    )
    .await;
    gateway
        .apply_to("other", vec![https("first", 443, Some("a.example.com"), &["a"]), resource(&certificate)], vec![])
        .await;
    let (first, second) = (gateway.address(443), gateway.address(8443));
    let other = gateway.address_of("other", 443);

    let tls13 = Arc::new(tls_config(&authority, &[]));
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256];
    let tls12 = Arc::new(tls_config_with(&authority, &[], provider));
    for config in [tls13, tls12] {
        assert_eq!(kind(first, &config).await, HandshakeKind::Full);
        // Whichever worker has it: they share the key.
        for _ in 0..4 {
            assert_eq!(kind(first, &config).await, HandshakeKind::Resumed);
        }
        // The key survives a change of the certificate.
        let renewed = authority.certificate("a", &["a.example.com"]);
        gateway.apply(vec![resource(&renewed)], vec![]).await;
        assert_eq!(kind(first, &config).await, HandshakeKind::Resumed);
        // The client offers its ticket, which another listener cannot read.
        assert_eq!(kind(second, &config).await, HandshakeKind::Full);
        assert_eq!(kind(other, &config).await, HandshakeKind::Full);
    }
    let labels = "gateway=\"default/gateway\",port=\"443\",resumed=\"true\"";
    assert_eq!(gateway.metric(&format!("portcullis_tls_handshakes_total{{{labels}}}")), 10.0);
}

#[tokio::test]
async fn alpn_chooses_the_protocol() {
    let authority = Authority::new();
    let certificate = authority.certificate("a", &["a.example.com"]);
    let resources = vec![https("https", 443, None, &["a"]), resource(&certificate), route("one", &["https"])];
    let gateway = Gateway::start(options(), resources).await;
    let address = gateway.address(443);
    let config = |alpn: &[&str]| Arc::new(tls_config(&authority, alpn));

    let stream = tls(address, "a.example.com", &config(&["http/1.1", "h2"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(stream.get_ref().1.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    let (mut sender, _connection) = http2(stream).await;
    let response = sender.send_request(request("https://a.example.com/")).await.unwrap();
    assert_eq!((response.status().as_u16(), location(&response).as_str()), (302, "one"));

    for alpn in [&["http/1.1"][..], &[]] {
        let mut stream = tls(address, "a.example.com", &config(alpn)).await.unwrap();
        assert_eq!(get(&mut stream, "a.example.com").await.unwrap().location(), "one");
    }
    let refused = tls_error(tls(address, "a.example.com", &config(&["ftp"])).await);
    assert_eq!(refused, rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol));
    gateway.handshake_failures_become(443, "no_application_protocol", 1.0).await;
}

#[tokio::test]
async fn certificates_are_renewed_under_open_connections() {
    let authority = Authority::new();
    let old = authority.certificate("a", &["a.example.com"]);
    let resources = vec![https("https", 443, None, &["a"]), resource(&old), route("one", &["https"])];
    let mut gateway = Gateway::start(options(), resources).await;
    let address = gateway.address(443);
    let config = Arc::new(tls_config(&authority, &[]));
    let mut open = tls(address, "a.example.com", &config).await.unwrap();
    get(&mut open, "a.example.com").await.unwrap();
    for _ in 0..3 {
        let new = authority.certificate("a", &["a.example.com"]);
        gateway.apply(vec![resource(&new)], Vec::new()).await;
        let fresh = Arc::new(tls_config(&authority, &[]));
        assert_eq!(shown(address, "a.example.com", &fresh).await, Ok(leaf(&new)));
        assert_eq!(get(&mut open, "a.example.com").await.unwrap().location(), "one");
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_harms_its_own_listener_alone() {
    let authority = Authority::new();
    let good = authority.certificate("good", &["a.example.com"]);
    let mut broken = authority.certificate("broken", &["b.example.com"]);
    broken.private_key = good.private_key.clone();
    let resources = vec![
        https("good", 443, Some("a.example.com"), &["good"]),
        https("broken", 443, Some("b.example.com"), &["broken"]),
        https("absent", 443, Some("c.example.com"), &["absent"]),
        resource(&good),
        resource(&broken),
    ];
    let gateway = Gateway::start(options(), resources).await;
    let problems = gateway.applied().problems.join("\n");
    assert!(problems.contains("default/broken: the private key does not fit"), "{problems}");
    assert!(problems.contains("default/absent: it is not in the configuration"), "{problems}");
    let config = Arc::new(tls_config(&authority, &[]));
    let address = gateway.address(443);
    assert_eq!(shown(address, "a.example.com", &config).await, Ok(leaf(&good)));
    for name in ["b.example.com", "c.example.com"] {
        let refused = Err(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure));
        assert_eq!(shown(address, name, &config).await, refused);
    }
    gateway.handshake_failures_become(443, "no_certificate", 2.0).await;
}

#[tokio::test]
async fn other_protocols_are_turned_away() {
    let authority = Authority::new();
    let certificate = authority.certificate("a", &["a.example.com"]);
    let resources =
        vec![https("https", 443, None, &["a"]), http("http", 80), resource(&certificate), route("one", &["http"])];
    let gateway = Gateway::start(options(), resources).await;

    let mut plain = TcpStream::connect(gateway.address(443)).await.unwrap();
    ask(&mut plain, "a.example.com").await.unwrap();
    let told = answer(&mut plain).await.unwrap();
    assert_eq!((told.status, told.closes()), (400, true));
    assert_eq!(told.body, b"This port speaks HTTPS, not HTTP.\n");
    assert!(read_to_end(&mut plain).await.is_empty());
    gateway.handshake_failures_become(443, "not_tls", 1.0).await;

    let mut damaged = TcpStream::connect(gateway.address(443)).await.unwrap();
    damaged.write_all(&[22, 3, 1, 0, 4, 2, 0, 0, 0]).await.unwrap();
    assert_eq!(read_to_end(&mut damaged).await, [21, 3, 3, 0, 2, 2, 50]);
    gateway.handshake_failures_become(443, "invalid_client_hello", 1.0).await;

    let config = Arc::new(tls_config(&authority, &[]));
    assert!(tls(gateway.address(80), "a.example.com", &config).await.is_err());
}

#[tokio::test]
async fn slow_handshakes_end() {
    let authority = Authority::new();
    let certificate = authority.certificate("a", &["a.example.com"]);
    let mut options = options();
    options.timeouts.handshake = Duration::from_millis(50);
    let gateway = Gateway::start(options, vec![https("https", 443, None, &["a"]), resource(&certificate)]).await;
    // Silent, in the middle of the ClientHello, and before the client's Finished.
    for sent in [&[][..], &[22, 3, 1, 2, 0, 1]] {
        let mut stream = TcpStream::connect(gateway.address(443)).await.unwrap();
        stream.write_all(sent).await.unwrap();
        read_to_end(&mut stream).await;
    }
    gateway.handshake_failures_become(443, "timeout", 2.0).await;
    gateway.open_connections_become(443, 0.0).await;
}

#[tokio::test]
async fn a_removed_certificate_is_no_longer_shown() {
    let authority = Authority::new();
    let certificate = authority.certificate("a", &["a.example.com"]);
    let mut gateway = Gateway::start(options(), vec![https("https", 443, None, &["a"]), resource(&certificate)]).await;
    let removed = ResourceKey::Certificate(certificate.key.clone());
    gateway.apply(vec![https("https", 443, None, &[])], vec![removed]).await;
    let config = Arc::new(tls_config(&authority, &[]));
    let refused = Err(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure));
    assert_eq!(shown(gateway.address(443), "a.example.com", &config).await, refused);
}

#[tokio::test]
async fn the_metrics_tell_when_the_first_certificate_of_a_listener_expires() {
    let authority = Authority::new();
    let expires =
        |secret: &str, not_after| Certificate { not_after, ..authority.certificate(secret, &["a.example.com"]) };
    let resources = vec![
        https("two", 443, None, &["late", "early"]),
        https("one", 8443, None, &["late"]),
        http("none", 80),
        resource(&expires("late", 2_000_000_000)),
        // Long ago: it is shown nevertheless.
        resource(&expires("early", 1_000_000_000)),
    ];
    let mut gateway = Gateway::start(options(), resources).await;
    let series = |listener: &str| {
        let labels = format!("gateway=\"default/gateway\",listener=\"{listener}\"");
        format!("portcullis_certificate_not_after_timestamp_seconds{{{labels}}}")
    };
    let told = |gateway: &Gateway| ["two", "one", "none"].map(|listener| gateway.metric(&series(listener)));
    assert_eq!(told(&gateway), [1_000_000_000.0, 2_000_000_000.0, 0.0]);

    gateway.apply(vec![resource(&expires("early", 2_100_000_000))], vec![]).await;
    assert_eq!(told(&gateway), [2_000_000_000.0, 2_000_000_000.0, 0.0]);
    gateway.apply(vec![], vec![listener_key("one")]).await;
    assert_eq!(told(&gateway), [2_000_000_000.0, 0.0, 0.0]);
    gateway.apply(vec![], vec![listener_key("two")]).await;
    assert_eq!(told(&gateway), [0.0, 0.0, 0.0]);
}
