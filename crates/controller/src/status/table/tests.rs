use portcullis_compile::ObjectStatus;
use serde_json::json;

use super::super::write::Written;
use super::*;

fn gateway(version: u32) -> Object {
    gateway_of("u1", version)
}

fn gateway_of(uid: &str, version: u32) -> Object {
    Object::from_value(json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "web", "namespace": "infra", "uid": uid, "resourceVersion": version.to_string(), "generation": 1},
        "spec": {"gatewayClassName": "portcullis"},
    }))
    .unwrap()
}

fn key() -> ObjectKey {
    gateway(1).key()
}

fn text(message: &str) -> Option<Box<str>> {
    status(message).map(|status| serde_json::to_string(&status).unwrap().into())
}

fn status(message: &str) -> Option<ObjectStatus> {
    let status =
        json!({"conditions": [{"type": "Accepted", "status": "True", "reason": "Accepted", "message": message}]});
    Some(ObjectStatus::Gateway(serde_json::from_value(status).unwrap()))
}

fn leading() -> (Table, Instant) {
    let mut table = Table::default();
    table.lead(true);
    (table, Instant::now())
}

fn written(version: u32) -> Outcome {
    Outcome::Written(Box::new(Written {
        seen: Seen::answered(&gateway(version).to_value()),
        settled: settled(version),
    }))
}

fn settled(version: u32) -> Settled {
    [version as u8; 32]
}

fn busy() -> Outcome {
    Outcome::Failed(Failure::Unreachable("as the test asks".into()))
}

#[test]
fn the_latest_word_wins_and_one_write_is_open() {
    let (mut table, now) = leading();
    table.seen(&gateway(1), now);
    table.desired(key(), status("one"), now);
    table.desired(key(), status("two"), now);
    let job = table.next(now).unwrap();
    assert_eq!(job.desired, text("two"));
    assert!(table.next(now).is_none());

    table.desired(key(), status("three"), now);
    table.desired(key(), status("four"), now);
    assert!(table.next(now).is_none());
    table.done(job, written(2), now);
    let job = table.next(now).unwrap();
    assert_eq!((job.desired.clone(), job.settled), (text("four"), None));
    table.done(job, written(3), now);
    assert!(table.next(now).is_none());
    assert_eq!(table.open(), 0);
}

#[test]
fn the_echo_of_a_write_and_older_events_are_not_looked_at() {
    let (mut table, now) = leading();
    table.seen(&gateway(5), now);
    table.desired(key(), status("one"), now);
    let job = table.next(now).unwrap();
    table.done(job, written(7), now);
    for version in [5, 6, 7] {
        table.seen(&gateway(version), now);
        assert!(table.next(now).is_none(), "{version}");
    }
    table.seen(&gateway(8), now);
    assert_eq!(table.next(now).unwrap().settled, Some(settled(7)));
}

#[test]
fn followers_write_nothing_and_a_new_leader_looks_at_everything() {
    let (mut table, now) = (Table::default(), Instant::now());
    table.seen(&gateway(1), now);
    table.desired(key(), status("one"), now);
    assert!(table.next(now).is_none());
    table.lead(true);
    let job = table.next(now).unwrap();
    table.lead(false);
    assert_eq!(table.open(), 0);
    table.lead(true);
    // What was begun before is not counted any more.
    table.done(job, busy(), now);
    assert_eq!(table.open(), 1);
    assert!(table.next(now).is_some());
}

#[test]
fn failures_wait_longer_and_longer_until_there_is_something_new() {
    let (mut table, mut now) = leading();
    table.seen(&gateway(1), now);
    table.desired(key(), status("one"), now);
    let mut last = Duration::ZERO;
    for _ in 0..6 {
        let job = table.next(now).unwrap();
        table.done(job, busy(), now);
        assert!(table.next(now).is_none());
        let pause = table.due().unwrap() - now;
        assert!(pause > last, "{pause:?} after {last:?}");
        last = pause;
        now += pause;
    }
    table.desired(key(), status("two"), now);
    assert_eq!(table.next(now).unwrap().desired, text("two"));
}

#[test]
fn whoever_writes_over_us_again_and_again_is_answered_ever_more_slowly() {
    let (mut table, mut now) = leading();
    table.seen(&gateway(1), now);
    table.desired(key(), status("one"), now);
    let job = table.next(now).unwrap();
    table.done(job, written(2), now);
    let mut pauses = Vec::new();
    for round in 1..5 {
        table.seen(&gateway(round * 2 + 1), now);
        let due = table.due().unwrap_or(now);
        pauses.push((due - now).as_secs());
        now = due;
        let job = table.next(now).unwrap();
        assert!(job.settled.is_some());
        table.done(job, written(round * 2 + 2), now);
    }
    assert_eq!(pauses, [0, 1, 2, 4]);
}

#[test]
fn what_is_gone_is_forgotten_and_comes_again_as_new() {
    let (mut table, now) = leading();
    table.seen(&gateway(1), now);
    table.desired(key(), status("one"), now);
    let job = table.next(now).unwrap();
    table.gone(&key());
    table.done(job, Outcome::Gone, now);
    assert!(table.items.is_empty());

    table.seen(&gateway_of("u2", 9), now);
    table.desired(key(), status("one"), now);
    let job = table.next(now).unwrap();
    assert_eq!(job.seen.uid.as_deref(), Some("u2"));
    table.done(job, busy(), now);
    table.gone(&key());
    assert!(table.items.is_empty() && table.open() == 0);
}

#[test]
fn objects_without_a_status_of_ours_are_not_kept() {
    let (mut table, now) = leading();
    for value in [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "b"}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "ReferenceGrant", "metadata": {"name": "a", "namespace": "b"}, "spec": {"from": [], "to": []}}),
    ] {
        table.seen(&Object::from_value(value).unwrap(), now);
    }
    table.desired(ObjectKey::new(GATEWAY_GROUP, "HTTPRoute", "a", "b"), None, now);
    assert!(table.items.is_empty());
}
