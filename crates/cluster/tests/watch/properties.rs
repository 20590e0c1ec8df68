//! Whatever happens at the API server, and to the connections to it, in the end whoever watches knows what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portcullis_model::ObjectName;
use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::json;

use super::consumer::{Consumer, selection};
use super::objects::route;
use super::server::Server;

#[derive(Clone, Debug)]
enum Step {
    Put(Thing, u8),
    PutBad(u8),
    Delete(Thing),
    Want(BTreeSet<u8>),
    Cut,
    Compact,
    Bookmark,
    Away(u8),
    Pause(u8),
    Fail(u16),
    Redefine,
}

#[derive(Clone, Copy, Debug)]
struct Thing {
    kind: &'static str,
    name: u8,
}

fn thing() -> impl Strategy<Value = Thing> {
    let kind = prop_oneof![3 => Just("HTTPRoute"), 1 => Just("Service"), 2 => Just("Secret")];
    (kind, 0..4_u8).prop_map(|(kind, name)| Thing { kind, name })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (thing(), any::<u8>()).prop_map(|(thing, content)| Step::Put(thing, content)),
        1 => (0..4_u8).prop_map(Step::PutBad),
        4 => thing().prop_map(Step::Delete),
        2 => proptest::collection::btree_set(0..4_u8, 0..4).prop_map(Step::Want),
        2 => Just(Step::Cut),
        1 => Just(Step::Compact),
        1 => Just(Step::Bookmark),
        1 => (0..60_u8).prop_map(Step::Away),
        4 => (0..20_u8).prop_map(Step::Pause),
        1 => prop_oneof![Just(500_u16), Just(429), Just(410), Just(404)].prop_map(Step::Fail),
        1 => Just(Step::Redefine),
    ]
}

const KINDS: &[&str] = &["HTTPRoute", "Service", "Secret"];

async fn run(steps: Vec<Step>) {
    let server = Server::with_definitions().await;
    server.lock().page = Some(2);
    let mut consumer = Consumer::start(&server, selection()).await;
    let mut wanted = BTreeSet::new();
    for step in steps {
        match step {
            Step::Put(Thing { kind, name }, content) => {
                let content = match kind {
                    "HTTPRoute" => route(&format!("h{content}.example")),
                    "Service" => json!({"spec": {"type": "ClusterIP"}}),
                    _ => json!({"stringData": {"value": content.to_string()}}),
                };
                server.put(kind, "infra", &format!("x{name}"), content);
            }
            Step::PutBad(name) => {
                server.put("HTTPRoute", "infra", &format!("x{name}"), json!({"spec": 1}));
            }
            Step::Delete(Thing { kind, name }) => server.delete(kind, "infra", &format!("x{name}")),
            Step::Want(names) => {
                wanted = names.into_iter().map(|name| ObjectName::new("infra", format!("x{name}"))).collect();
                consumer.watch.want(wanted.clone(), BTreeSet::new());
            }
            Step::Cut => server.cut(),
            Step::Compact => server.compact(),
            Step::Bookmark => server.bookmark(),
            Step::Away(moment) => {
                server.down();
                consumer.listen(Duration::from_millis(moment.into())).await;
                server.up();
            }
            Step::Pause(moment) => consumer.listen(Duration::from_millis(moment.into())).await,
            Step::Fail(code) => {
                server.lock().failing.insert("httproutes".to_owned(), (code, 1));
            }
            Step::Redefine => {
                server.undefine("HTTPRoute");
                server.define("HTTPRoute", &["v1"]);
            }
        }
    }
    let expected = expected(&server, &wanted);
    let bad = bad(&server);
    consumer
        .until(&format!("{expected:?} and bad {bad:?}"), |consumer| {
            let known: BTreeSet<_> = consumer.unparsable.keys().map(|key| key.name().to_owned()).collect();
            let mut versions = consumer.versions(KINDS);
            // Of a bad object the last good version stays.
            versions.retain(|key, _| key.0 != "HTTPRoute" || !bad.contains(&key.2));
            consumer.all_listed && versions == expected && known == bad
        })
        .await;
}

/// What is there, and in which version.
fn expected(server: &Server, wanted: &BTreeSet<ObjectName>) -> BTreeMap<(String, String, String), String> {
    let state = server.lock();
    let objects = state.objects.values().filter(|object| {
        let kind = object["kind"].as_str().unwrap();
        let name = object["metadata"]["name"].as_str().unwrap();
        KINDS.contains(&kind)
            && object["spec"] != 1
            && (kind != "Secret" || wanted.contains(&ObjectName::new("infra", name)))
    });
    objects
        .map(|object| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            let metadata = &object["metadata"];
            let key = (text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]));
            (key, text(&metadata["resourceVersion"]))
        })
        .collect()
}

fn bad(server: &Server) -> BTreeSet<String> {
    let state = server.lock();
    let bad = state.objects.values().filter(|object| object["spec"] == 1);
    bad.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

proptest! {
    #![proptest_config(Config { cases: 48, failure_persistence: None, max_shrink_iters: 40, ..Config::default() })]

    #[test]
    fn in_the_end_everything_is_known(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
