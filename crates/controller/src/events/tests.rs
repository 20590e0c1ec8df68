//! The writer against an API server over real sockets, and the table by its clock.

use portcullis_api::{Object, ObjectKey};
use portcullis_compile::{FindingCode, Severity};
use portcullis_runtime::metrics::Format;

use super::*;
use crate::testing::ApiServer;

const PATH: &str = "/apis/events.k8s.io/v1/namespaces/shop/events";

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn gateway(namespace: &str, name: &str, uid: &str) -> Change {
    let object = json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": namespace, "uid": uid},
        "spec": {"gatewayClassName": "portcullis", "listeners": []},
    });
    Change::Upsert(Object::from_value(object).unwrap())
}

fn key(namespace: &str, name: &str) -> ObjectKey {
    ObjectKey::new(portcullis_api::GATEWAY_GROUP, "Gateway", namespace, name)
}

fn finding(key: &ObjectKey, code: FindingCode, message: &str) -> Finding {
    Finding {
        code,
        severity: Severity::Warning,
        object: key.clone(),
        field: "spec.listeners[0].tls.certificateRefs[0]".to_owned(),
        message: message.to_owned(),
        remedy: "renew it".to_owned(),
    }
}

fn findings(key: &ObjectKey, messages: &[&str]) -> FindingsChange {
    let of = |message: &&str| finding(key, FindingCode::CertificateExpired, message);
    FindingsChange { key: key.clone(), findings: messages.iter().map(of).collect() }
}

fn writer(server: &ApiServer, registry: &Registry) -> EventWriter {
    let options = EventOptions {
        instance: "portcullis-controller-0".to_owned(),
        request_limit: Duration::from_secs(5),
        pace: Duration::ZERO,
        settle: Duration::ZERO,
    };
    EventWriter::start(server.client(), options, registry).unwrap()
}

/// Waits until an outcome has been counted so often.
async fn counted(registry: &Registry, outcome: &str, times: u32) {
    let line = format!("portcullis_events_total{{outcome=\"{outcome}\"}} {times}");
    while !registry.render(Format::OpenMetrics).lines().any(|other| other == line) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn stored(server: &ApiServer) -> Value {
    let log = server.log();
    assert_eq!(log, [format!("POST {PATH}")]);
    server.with_prefix(PATH).pop().unwrap()
}

#[test]
fn an_event_has_what_the_api_server_and_kubectl_ask_for() {
    run(async {
        let (server, registry) = (ApiServer::start().await, Registry::new(1));
        let writer = writer(&server, &registry);
        let key = key("shop", "web");
        writer.lead(true);
        writer.update(&[gateway("shop", "web", "u1")], vec![findings(&key, &["it has expired"])]);
        counted(&registry, "told", 1).await;
        let event = stored(&server);
        assert_eq!((&event["apiVersion"], &event["kind"]), (&json!("events.k8s.io/v1"), &json!("Event")));
        let regarding = json!({
            "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "Gateway", "namespace": "shop", "name": "web", "uid": "u1",
        });
        assert_eq!(event["regarding"], regarding);
        assert_eq!((&event["type"], &event["reason"]), (&json!("Warning"), &json!("CertificateExpired")));
        assert_eq!(event["note"], "spec.listeners[0].tls.certificateRefs[0]: it has expired; renew it");
        assert_eq!(event["metadata"]["namespace"], "shop");
        for (field, limit) in
            [("reportingController", 128), ("reportingInstance", 128), ("action", 128), ("reason", 128)]
        {
            let text = event[field].as_str().unwrap();
            assert!(!text.is_empty() && text.len() <= limit, "{field}: {text}");
        }
        assert!(event["eventTime"].as_str().unwrap().ends_with('Z'));
    });
}

#[test]
fn what_another_replica_told_is_not_told_again() {
    run(async {
        let (server, first, second) = (ApiServer::start().await, Registry::new(1), Registry::new(1));
        let key = key("shop", "web");
        for (registry, outcome) in [(&first, "told"), (&second, "known")] {
            let writer = writer(&server, registry);
            writer.lead(true);
            writer.update(&[gateway("shop", "web", "u1")], vec![findings(&key, &["it has expired"])]);
            counted(registry, outcome, 1).await;
        }
        assert_eq!(server.with_prefix(PATH).len(), 1);
    });
}

#[test]
fn who_does_not_lead_tells_nothing_and_who_begins_to_tells_all() {
    run(async {
        let (server, registry) = (ApiServer::start().await, Registry::new(1));
        let writer = writer(&server, &registry);
        let key = key("shop", "web");
        writer.update(&[gateway("shop", "web", "u1")], vec![findings(&key, &["one", "two", "two"])]);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(server.log().is_empty());
        writer.lead(true);
        counted(&registry, "told", 2).await;
    });
}

#[test]
fn a_refusal_is_counted_and_the_others_are_told() {
    run(async {
        let (server, registry) = (ApiServer::start().await, Registry::new(1));
        server.fail(|_, path| path.contains("/terminating/").then_some(403));
        let writer = writer(&server, &registry);
        writer.lead(true);
        let keys = [key("terminating", "web"), key("shop", "web")];
        let changes = [gateway("terminating", "web", "u1"), gateway("shop", "web", "u2")];
        writer.update(&changes, keys.iter().map(|key| findings(key, &["it has expired"])).collect());
        counted(&registry, "refused", 1).await;
        counted(&registry, "told", 1).await;
    });
}

#[test]
fn a_note_is_one_line_of_a_bounded_length() {
    let key = key("shop", "web");
    for message in ["\u{1b}[31m\n".repeat(400), "é".repeat(3000), "x".repeat(3000)] {
        let note = note(&finding(&key, FindingCode::NotSupported, &message));
        assert!(note.len() <= NOTE_LIMIT && !note.contains(char::is_control), "{note}");
    }
}

fn told(table: &mut Table, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| table.next(now)).map(|job| format!("{} {}", job.uid, job.finding.message)).collect()
}

fn table() -> (Table, Instant) {
    let mut table = Table::new(table::SETTLE);
    table.lead(true);
    (table, Instant::now())
}

#[test]
fn what_soon_goes_away_is_not_told() {
    let (mut table, now) = table();
    let key = key("shop", "web");
    table.object(&gateway("shop", "web", "u1"), now);
    table.findings(findings(&key, &["lasts", "goes"]), now);
    assert!(told(&mut table, now + table::SETTLE / 2).is_empty());
    table.findings(findings(&key, &["lasts"]), now + table::SETTLE / 2);
    assert_eq!(told(&mut table, now + table::SETTLE), ["u1 lasts"]);
    table.findings(findings(&key, &[]), now + table::SETTLE);
    assert_eq!(table.due(), None);
}

#[test]
fn what_lasts_is_told_again_when_it_was_forgotten() {
    let (mut table, now) = table();
    let key = key("shop", "web");
    table.object(&gateway("shop", "web", "u1"), now);
    table.findings(findings(&key, &["lasts"]), now);
    let job = table.next(now + table::SETTLE).unwrap();
    table.done(&job, now + REPEAT);
    assert!(told(&mut table, now + REPEAT - Duration::from_secs(1)).is_empty());
    let job = table.next(now + REPEAT).unwrap();
    // It goes while it is being told.
    table.findings(findings(&key, &[]), now);
    table.done(&job, now + REPEAT);
    assert_eq!(table.due(), None);
}

#[test]
fn an_object_that_was_made_anew_is_another_one() {
    let (mut table, now) = table();
    let key = key("shop", "web");
    // The finding may be known before the object.
    table.findings(findings(&key, &["lasts"]), now);
    assert!(told(&mut table, now + table::SETTLE).is_empty());
    for uid in ["u1", "u2"] {
        table.object(&gateway("shop", "web", uid), now);
        assert_eq!(told(&mut table, now + table::SETTLE), [format!("{uid} lasts")]);
        table.object(&gateway("shop", "web", uid), now);
        assert!(told(&mut table, now + table::SETTLE).is_empty());
    }
}

#[test]
fn no_object_and_no_namespace_takes_the_room_of_others() {
    let (mut table, now) = table();
    let many: Vec<String> = (0..100).map(|index| format!("m{index}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut left_out = 0;
    for index in 0..100 {
        let name = format!("g{index}");
        table.object(&gateway("greedy", &name, &name), now);
        left_out += table.findings(findings(&key("greedy", &name), &many), now);
    }
    table.object(&gateway("shop", "web", "u1"), now);
    assert_eq!(table.findings(findings(&key("shop", "web"), &["it has expired"]), now), 0);
    let all = told(&mut table, now + table::SETTLE);
    assert_eq!((all.len(), left_out), (201, 100 * 100 - 200));
    assert!(all.contains(&"u1 it has expired".to_owned()));
    // What goes makes room.
    table.findings(findings(&key("greedy", "g0"), &[]), now);
    assert_eq!(table.findings(findings(&key("greedy", "g99"), &["one"]), now), 0);
}

#[test]
fn nothing_is_told_of_what_others_have() {
    let (mut table, now) = table();
    let key = key("shop", "web");
    table.object(&gateway("shop", "web", "u1"), now);
    let codes = [FindingCode::ParentNotFound, FindingCode::ReferenceGrantUnused, FindingCode::HostnameShared];
    let findings = codes.map(|code| finding(&key, code, "of another namespace")).to_vec();
    assert_eq!(table.findings(FindingsChange { key, findings }, now), 0);
    assert_eq!(table.due(), None);
}
