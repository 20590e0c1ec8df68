//! The authority: who makes it, who reads it, how it changes.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use portcullis_xds::METHOD_PATH;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::data_plane::{Certified, Channel, DataPlane, Held, certify, following};
use crate::kube::{ApiServer, Health};
use crate::world::{self, EDGE, LONG, Replica, SECRET, backend, change};

/// Signs a certificate with the key in the Secret, as only the controller can.
pub(crate) fn forge(api: &ApiServer, uri: &str, change: impl FnOnce(&mut CertificateParams)) -> Certified {
    let secret = api.object(SECRET).unwrap();
    let field = |name: &str| {
        use base64::Engine;
        let text = secret["data"][name].as_str().unwrap();
        String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap()
    };
    let ca_key = KeyPair::from_pem(&field("tls.key")).unwrap();
    let ca = CertificateDer::from_pem_slice(field("tls.crt").as_bytes()).unwrap();
    sign(&Issuer::from_ca_cert_der(&ca, ca_key).unwrap(), uri, change)
}

pub(crate) fn sign(issuer: &Issuer<'_, KeyPair>, uri: &str, change: impl FnOnce(&mut CertificateParams)) -> Certified {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = OffsetDateTime::now_utc() - time::Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::hours(1);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    Certified { certificate: params.signed_by(&key, issuer).unwrap().der().clone(), key }
}

/// Certificates in a bundle.
fn count(bundle: &str) -> usize {
    CertificateDer::pem_slice_iter(bundle.as_bytes()).map(Result::unwrap).count()
}

/// A certificate of an authority of some days' age with its key, both in PEM.
fn aged(days: i64, hours: i64) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("made {days} days ago"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = OffsetDateTime::now_utc() - time::Duration::days(days) - time::Duration::hours(hours);
    params.not_after = params.not_before + time::Duration::days(365);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn secret(fields: &[(&str, &str)]) -> Value {
    let data: BTreeMap<_, _> = fields.iter().map(|(name, text)| (*name, STANDARD.encode(text))).collect();
    json!({"metadata": {"name": "portcullis-ca", "namespace": "portcullis-system"}, "data": data})
}

fn field(api: &ApiServer, name: &str) -> Option<String> {
    let secret = api.object(SECRET)?;
    let text = secret["data"].get(name)?.as_str()?;
    Some(String::from_utf8(STANDARD.decode(text).unwrap()).unwrap())
}

/// Makes the replica look at the Secret now: it does so whenever its role changes.
fn look(replica: &Replica, leading: bool) {
    replica.authority.lead(!leading);
    replica.authority.lead(leading);
}

async fn wait_bundle(replica: &Replica, mut until: impl FnMut(&str) -> bool) -> String {
    let mut bundle = replica.authority.bundle();
    let waited = tokio::time::timeout(LONG, bundle.wait_for(|bundle| until(bundle))).await;
    waited.expect("the bundle changes").unwrap().to_string()
}

#[tokio::test]
async fn the_holder_of_the_lease_makes_it_and_the_others_read_it() {
    let api = world::api_server().await;
    let follower = tokio::spawn({
        let api = api.clone();
        async move { Replica::start(&api, "controller-1", false).await }
    });
    while !api.log().iter().any(|request| request.starts_with("GET")) {
        tokio::task::yield_now().await;
    }
    assert!(api.object(SECRET).is_none(), "a follower makes none");
    let leader = Replica::start(&api, "controller-0", true).await;
    let follower = follower.await.unwrap();
    assert_eq!(leader.bundle(), follower.bundle());
    assert_eq!(count(&leader.bundle()), 1);
    let written = api.log().iter().filter(|request| !request.starts_with("GET")).count();
    assert_eq!(written, 1, "{:?}", api.log());

    let secret = api.object(SECRET).unwrap();
    assert_eq!(secret["type"], "portcullis.dev/certificate-authority");
    assert_eq!(secret["metadata"]["labels"]["app.kubernetes.io/managed-by"], "portcullis");
    assert_eq!(field(&api, "ca.crt"), Some(leader.bundle()));

    // A certificate of one replica is good at the other.
    leader.publish_all();
    follower.publish_all();
    let certified = certify(&leader, EDGE).await;
    let mut stream = DataPlane::open(&follower, &certified).await;
    let mut held = Held::new(EDGE);
    held.start(&stream).await;
    held.take(&mut stream).await;
}

#[tokio::test]
async fn a_successor_is_handed_out_before_it_signs() {
    let api = world::api_server().await;
    let (certificate, key) = aged(300, 0);
    api.store(SECRET, secret(&[("tls.crt", &certificate), ("tls.key", &key)]));
    let replica = Replica::start(&api, "controller-0", true).await;
    replica.publish_all();
    let bundle = wait_bundle(&replica, |bundle| count(bundle) == 2).await;
    assert_eq!(field(&api, "tls.key").as_ref(), Some(&key), "the old one still signs");
    assert!(bundle.starts_with(&certificate.replace("\r\n", "\n")));
    assert!(field(&api, "next.key").is_some());
    assert_eq!(replica.metric(r#"portcullis_ca_changes_total{step="next"}"#), 1);
    following(&replica, EDGE).await;
}

#[tokio::test]
async fn a_change_of_the_signing_one_harms_no_stream_and_no_certificate() {
    let api = world::api_server().await;
    let (old, old_key) = aged(300, 0);
    let (next, next_key) = aged(0, 1);
    let fields = [("tls.crt", &*old), ("tls.key", &*old_key), ("next.crt", &*next), ("next.key", &*next_key)];
    api.store(SECRET, secret(&fields));
    let replica = Replica::start(&api, "controller-0", true).await;
    replica.publish_all();
    let (mut stream, mut held, certified) = following(&replica, EDGE).await;
    let before = replica.bundle();
    assert_eq!(count(&before), 2);

    // A day later.
    let (next, next_key) = aged(1, 1);
    let fields = [("tls.crt", &*old), ("tls.key", &*old_key), ("next.crt", &*next), ("next.key", &*next_key)];
    api.store(SECRET, secret(&fields));
    look(&replica, true);
    wait_bundle(&replica, |bundle| bundle != before && count(bundle) == 2).await;
    replica.wait_metric(r#"portcullis_ca_changes_total{step="promoted"}"#, 1).await;
    assert_eq!(field(&api, "tls.key"), Some(next_key.replace("\r\n", "\n")));
    assert_eq!(field(&api, "previous.crt"), Some(old.replace("\r\n", "\n")));
    assert_eq!(field(&api, "next.crt"), None);

    // What is open stays, what was signed before is still good, and so is what is signed now.
    replica.server.publish(change(EDGE, vec![backend("more", "")], vec![]));
    held.take(&mut stream).await;
    for certified in [certified, certify(&replica, EDGE).await] {
        let mut stream = DataPlane::open(&replica, &certified).await;
        held.start(&stream).await;
        held.take(&mut stream).await;
    }
}

#[tokio::test]
async fn who_wrote_first_wins() {
    let api = world::api_server().await;
    let one = Replica::start(&api, "controller-0", true).await;
    // Two that both think that they hold the lease.
    let other = Replica::start(&api, "controller-1", true).await;
    assert_eq!(one.bundle(), other.bundle());
    assert_eq!(api.log().iter().filter(|request| request.starts_with("PUT")).count(), 0);
}

#[tokio::test]
async fn a_damaged_secret_is_not_taken_and_a_deleted_one_is_made_anew() {
    let api = world::api_server().await;
    let replica = Replica::start(&api, "controller-0", true).await;
    replica.publish_all();
    let before = replica.bundle();
    let good = api.object(SECRET).unwrap();
    let mut damaged = good.clone();
    damaged["data"]["tls.key"] = json!(STANDARD.encode(aged(0, 0).1));
    api.store(SECRET, damaged.clone());
    look(&replica, true);
    replica.wait_metric(r#"portcullis_ca_problems_total{problem="damaged"}"#, 1).await;
    assert_eq!(replica.bundle(), before);
    assert_eq!(api.object(SECRET).unwrap()["data"], damaged["data"], "nobody overwrites what may be repaired");
    following(&replica, EDGE).await;

    api.delete(SECRET);
    look(&replica, true);
    let anew = wait_bundle(&replica, |bundle| bundle != before).await;
    assert_eq!(field(&api, "ca.crt"), Some(anew));
    following(&replica, EDGE).await;
}

#[tokio::test]
async fn without_the_api_server_the_last_authority_stays() {
    let api = world::api_server().await;
    let replica = Replica::start(&api, "controller-0", true).await;
    replica.publish_all();
    let (mut stream, mut held, certified) = following(&replica, EDGE).await;
    let before = replica.bundle();
    api.health(Health::Gone);
    look(&replica, true);
    replica.wait_metric(r#"portcullis_ca_problems_total{problem="read"}"#, 1).await;
    assert_eq!(replica.bundle(), before);
    replica.server.publish(change(EDGE, vec![backend("more", "")], vec![]));
    held.take(&mut stream).await;
    Channel::open(&replica, Some(&certified)).await.unwrap().call(METHOD_PATH).await.unwrap();
}
