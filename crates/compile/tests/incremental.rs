//! Any sequence of changes ends where a fresh compile of the last state does, and what is given out on the way adds up to it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests read files and the environment")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use portcullis_api::Change;
use portcullis_api::{Object, ObjectKey};
use portcullis_compile::{Compiler, Options, SecretNamespaces, Wanted, compile};
use portcullis_model::{Config, ObjectName};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Seeds of one object: what is chosen where.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn next(&mut self) -> usize {
        self.0.next().copied().map_or(0, usize::from)
    }

    fn of<T: Clone>(&mut self, options: &[T]) -> T {
        options[self.next() % options.len()].clone()
    }

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.next() % times == times - 1
    }

    /// A few values.
    fn list(&mut self, most: usize, mut value: impl FnMut(&mut Self) -> Value) -> Value {
        let length = self.next() % (most + 1);
        (0..length).map(|_| value(self)).collect()
    }
}

const NAMESPACES: [&str; 2] = ["a", "b"];
const KINDS: usize = 14;

/// Two certificates, made once; and one that is none.
static CERTIFICATES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let mut certificates: Vec<_> = ["example.com", "*.example.org"]
        .iter()
        .map(|name| {
            let certified = rcgen::generate_simple_self_signed(vec![(*name).to_owned()]).unwrap();
            (certified.cert.pem(), certified.signing_key.serialize_pem())
        })
        .collect();
    certificates.push((certificates[0].0.clone(), certificates[1].1.clone()));
    certificates
});

/// An object of a small universe, so that objects meet. Kind and name come first, for deletions to hit what was there.
fn object(seeds: &[u8]) -> Value {
    let mut choose = Choices(seeds.iter());
    let kind = choose.next() % KINDS;
    let (namespace, name) = (choose.of(&NAMESPACES), choose.of(&["x", "y"]));
    let group = "gateway.networking.k8s.io";
    let mut metadata = json!({ "name": name, "namespace": namespace, "generation": choose.next() % 3 });
    if choose.once_in(2) {
        metadata["creationTimestamp"] = json!(format!("2020-01-0{}T00:00:00Z", choose.next() % 3 + 1));
    }
    let object = |api_version: &str, kind: &str, spec: Value| json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec });
    match kind {
        0 => {
            let controller = choose.of(&[
                "portcullis.dev/gateway-controller",
                "portcullis.dev/gateway-controller",
                "other.example/x",
            ]);
            let mut spec = json!({ "controllerName": controller });
            if choose.once_in(4) {
                spec["parametersRef"] = json!({ "group": "", "kind": "ConfigMap", "name": "x", "namespace": "a" });
            }
            if choose.once_in(2) {
                let name = choose.of(&["x", "y"]);
                spec["parametersRef"] =
                    json!({ "group": "portcullis.dev", "kind": "GatewayParameters", "name": name, "namespace": "a" });
            }
            json!({ "apiVersion": format!("{group}/v1"), "kind": "GatewayClass", "metadata": { "name": name }, "spec": spec })
        }
        1 | 2 => gateway(&mut choose, metadata),
        3 | 4 => http_route(&mut choose, metadata),
        5 => service(&mut choose, metadata),
        6 => {
            let endpoints = choose.list(2, |choose| {
                json!({
                    "addresses": [choose.of(&["10.0.0.1", "10.0.0.2", "nonsense"])],
                    "conditions": { "ready": choose.once_in(2), "serving": true, "terminating": choose.once_in(2) },
                })
            });
            metadata["labels"] = json!({ "kubernetes.io/service-name": choose.of(&["x", "y"]) });
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
                "endpoints": endpoints, "ports": [{ "name": choose.of(&["http", ""]), "port": 8080 }],
            })
        }
        7 => {
            let (certificate, key) = choose.of(&CERTIFICATES);
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls",
                "stringData": { "tls.crt": certificate, "tls.key": key },
            })
        }
        8 => {
            let labels = json!({ "team": choose.of(&["blue", "red"]) });
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace, "labels": labels } })
        }
        9 => {
            let kind = choose.of(&["HTTPRoute", "Gateway", "GRPCRoute"]);
            let from = json!([{ "group": group, "kind": kind, "namespace": choose.of(&NAMESPACES) }]);
            let mut to = json!({ "group": "", "kind": choose.of(&["Service", "Secret"]) });
            if choose.once_in(2) {
                to["name"] = json!(choose.of(&["x", "y"]));
            }
            object(&format!("{group}/v1beta1"), "ReferenceGrant", json!({ "from": from, "to": [to] }))
        }
        10 => {
            let mut target = json!({ "group": "", "kind": "Service", "name": choose.of(&["x", "y"]) });
            if choose.once_in(2) {
                target["sectionName"] = json!(choose.of(&["http", "other"]));
            }
            let spec = json!({ "targetRefs": [target], "validation": { "hostname": "x.example", "wellKnownCACertificates": "System" } });
            object(&format!("{group}/v1"), "BackendTLSPolicy", spec)
        }
        11 => {
            let mut spec = json!({
                "dataPlane": { "replicas": choose.of(&[1, 2, -1]), "workers": choose.of(&[1, 2]) },
                "allowGatewayFields": choose.of(&[json!([]), json!(["dataPlane.replicas"])]),
            });
            if choose.once_in(2) {
                let domains = choose.of(&[json!(["example.net"]), json!([]), json!(["*"])]);
                spec["upstreams"] = json!({ "allowedExternalNames": domains, "allowedAddresses": ["10.0.0.0/8"] });
            }
            object("portcullis.dev/v1alpha1", "GatewayParameters", spec)
        }
        12 => {
            let address = choose.of(&["192.168.0.1", "192.168.0.2", "nonsense"]);
            let status = json!({ "addresses": [{ "type": "InternalIP", "address": address }] });
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name }, "status": status })
        }
        _ => match choose.next() % 4 {
            0 => object(&format!("{group}/v1"), "GRPCRoute", json!({ "parentRefs": [parent_ref(&mut choose)] })),
            1 => object(&format!("{group}/v9"), "HTTPRoute", json!({})),
            2 => object(&format!("{group}/v9"), "Gateway", json!({})),
            _ => {
                object(&format!("{group}/v1"), "ListenerSet", json!({ "parentRef": { "name": name }, "listeners": [] }))
            }
        },
    }
}

fn gateway(choose: &mut Choices<'_>, metadata: Value) -> Value {
    let mut spec = json!({ "gatewayClassName": choose.of(&["x", "y"]) });
    spec["listeners"] = choose.list(3, |choose| {
        let mut listener = json!({
            "name": choose.of(&["one", "two", "three"]),
            "port": choose.of(&[80, 80, 443, 8080, 0]),
            "protocol": choose.of(&["HTTP", "HTTP", "HTTPS", "HTTPS", "TCP"]),
        });
        let hostname = choose.of(&["", "example.com", "*.example.org", "a.example.org", "no_name"]);
        if !hostname.is_empty() {
            listener["hostname"] = json!(hostname);
        }
        if listener["protocol"] == "HTTPS" {
            listener["tls"] = json!({ "certificateRefs": choose.list(2, |choose| {
                json!({ "name": choose.of(&["x", "y"]), "namespace": choose.of(&NAMESPACES) })
            }) });
        }
        listener["allowedRoutes"] = choose.of(&[
            json!({}),
            json!({ "namespaces": { "from": "All" } }),
            json!({ "namespaces": { "from": "Selector", "selector": { "matchLabels": { "team": "blue" } } } }),
            json!({ "namespaces": { "from": "All" }, "kinds": [{ "kind": "GRPCRoute" }] }),
        ]);
        listener
    });
    if choose.once_in(4) {
        spec["addresses"] = json!([choose.of(&[
            json!({ "value": "10.0.0.1" }),
            json!({ "value": "10.0.0.2" }),
            json!({ "type": "Hostname", "value": "x" }),
            json!({ "value": "nonsense" }),
            json!({ "routability": "Cluster" }),
            json!({ "routability": "example.com/x" }),
        ])]);
    }
    if choose.once_in(3) {
        let name = choose.of(&["x", "y"]);
        let reference = json!({ "group": "portcullis.dev", "kind": "GatewayParameters", "name": name });
        spec["infrastructure"] =
            json!({ "labels": { "team": choose.of(&["blue", "red"]) }, "parametersRef": reference });
    }
    if choose.once_in(6) {
        let refs = json!([{ "group": "", "kind": "ConfigMap", "name": "ca" }]);
        spec["tls"] = json!({ "frontend": { "default": { "validation": { "caCertificateRefs": refs } } } });
    }
    json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec })
}

fn parent_ref(choose: &mut Choices<'_>) -> Value {
    let mut parent = json!({ "name": choose.of(&["x", "y"]), "namespace": choose.of(&NAMESPACES) });
    if choose.once_in(4) {
        parent["sectionName"] = json!(choose.of(&["one", "two"]));
    }
    if choose.once_in(6) {
        parent["port"] = json!(choose.of(&[80, 443]));
    }
    if choose.once_in(12) {
        parent["kind"] = json!("Service");
    }
    parent
}

fn backend_ref(choose: &mut Choices<'_>) -> Value {
    let mut reference = json!({ "name": choose.of(&["x", "y"]), "namespace": choose.of(&NAMESPACES) });
    if !choose.once_in(6) {
        reference["port"] = json!(choose.of(&[80, 80, 81]));
    }
    if choose.once_in(10) {
        reference["kind"] = json!("Nonsense");
    }
    reference
}

fn http_route(choose: &mut Choices<'_>, metadata: Value) -> Value {
    let mut spec = json!({ "parentRefs": choose.list(3, parent_ref) });
    spec["hostnames"] =
        choose.list(2, |choose| json!(choose.of(&["example.com", "*.example.org", "a.b.example.org", "no_name"])));
    spec["rules"] = choose.list(2, |choose| {
        let mut rule = json!({ "backendRefs": choose.list(2, backend_ref) });
        let mirrored = backend_ref(choose);
        rule["filters"] = choose.of(&[
            json!([]),
            json!([{ "type": "RequestMirror", "requestMirror": { "backendRef": mirrored } }]),
            json!([{ "type": "ExtensionRef", "extensionRef": { "group": "x", "kind": "Y", "name": "z" } }]),
            json!([{ "type": "Nonsense" }]),
        ]);
        rule["matches"] = choose.of(&[
            json!([]),
            json!([{ "path": { "type": "RegularExpression", "value": "/a/[" } }]),
            json!([{ "path": { "type": "Exact", "value": "/a" }, "method": "GET" }]),
        ]);
        rule
    });
    json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": spec })
}

fn service(choose: &mut Choices<'_>, metadata: Value) -> Value {
    let mut port = json!({ "port": 80, "targetPort": 8080, "name": choose.of(&["http", "http", "other"]) });
    if choose.once_in(4) {
        port["appProtocol"] = json!(choose.of(&["kubernetes.io/h2c", "nonsense"]));
    }
    let mut spec = json!({ "ports": [port] });
    if choose.once_in(4) {
        spec["type"] = json!("ExternalName");
        spec["externalName"] = json!(choose.of(&["example.net", ""]));
    }
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec })
}

#[derive(Clone)]
struct Step {
    seeds: Vec<u8>,
    delete: bool,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", if self.delete { "delete" } else { "upsert" }, object(&self.seeds))
    }
}

fn step() -> impl Strategy<Value = Step> {
    (prop::collection::vec(any::<u8>(), 48), prop::bool::weighted(0.25))
        .prop_map(|(seeds, delete)| Step { seeds, delete })
}

fn check(batches: &[Vec<Step>], options: &Options) -> Result<(), TestCaseError> {
    let mut compiler = Compiler::new(Options { now: 0, ..options.clone() });
    let mut state: BTreeMap<ObjectKey, Object> = BTreeMap::new();
    let mut configs = BTreeMap::new();
    let mut statuses = BTreeMap::new();
    let mut findings = BTreeMap::new();
    let mut infrastructure = BTreeMap::new();
    let mut wanted = Wanted::default();
    let mut next_change_at = None;
    let mut add_up = |delta: &portcullis_compile::Delta| {
        delta.config.iter().for_each(|change| Config::apply(&mut configs, change));
        for change in &delta.status {
            match &change.status {
                Some(status) => statuses.insert(change.key.clone(), status.clone()),
                None => statuses.remove(&change.key),
            };
        }
        for change in &delta.findings {
            if change.findings.is_empty() {
                findings.remove(&change.key);
            } else {
                findings.insert(change.key.clone(), change.findings.clone());
            }
        }
        for change in &delta.infrastructure {
            match &change.infrastructure {
                Some(new) => infrastructure.insert(change.gateway.clone(), new.clone()),
                None => infrastructure.remove(&change.gateway),
            };
        }
        wanted = delta.wanted.clone().unwrap_or(wanted.clone());
        next_change_at = delta.next_change_at;
    };
    for (index, batch) in batches.iter().enumerate() {
        let mut changes = Vec::new();
        for step in batch {
            let object = Object::from_value(object(&step.seeds)).unwrap();
            let key = object.key();
            if step.delete {
                state.remove(&key);
                changes.push(Change::Delete(key));
            } else {
                state.insert(key, object.clone());
                changes.push(Change::Upsert(object));
            }
        }
        if index == batches.len() / 2 {
            add_up(&compiler.advance(options.now));
        }
        add_up(&compiler.apply(changes));
    }
    let fresh = compile(state.into_values(), options.clone());
    prop_assert_eq!(compiler.configs(), &fresh.configs);
    prop_assert_eq!(compiler.statuses(), &fresh.statuses);
    prop_assert_eq!(compiler.findings(), &fresh.findings);
    prop_assert_eq!(next_change_at, fresh.next_change_at);
    prop_assert_eq!(&configs, &fresh.configs);
    prop_assert_eq!(&statuses, &fresh.statuses);
    prop_assert_eq!(&findings, &fresh.findings);
    prop_assert_eq!(compiler.infrastructure(), &fresh.infrastructure);
    prop_assert_eq!(&infrastructure, &fresh.infrastructure);
    prop_assert_eq!(compiler.wanted(), &wanted);
    prop_assert_eq!(&wanted, &fresh.wanted);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(600), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_end_where_the_batch_does(
        batches in prop::collection::vec(prop::collection::vec(step(), 1..6), 1..16),
        standalone in any::<bool>(),
        shared_machine in any::<bool>(),
        labelled in any::<bool>(),
    ) {
        let control_plane = [ObjectName::new("a", "x")].into();
        let selector = json!({ "matchLabels": { "team": "blue" } });
        let secrets = match labelled {
            true => SecretNamespaces::Labelled(serde_json::from_value(selector).unwrap()),
            false => SecretNamespaces::All,
        };
        let options =
            Options { now: 1_767_225_600, standalone, shared_machine, control_plane, secrets, ..Options::default() };
        check(&batches, &options)?;
    }
}

/// A Gateway, one Service with an endpoint, and many routes.
fn many_routes(count: usize) -> Vec<Object> {
    let group = "gateway.networking.k8s.io/v1";
    let mut objects = vec![
        json!({ "apiVersion": group, "kind": "GatewayClass", "metadata": { "name": "x" },
            "spec": { "controllerName": "portcullis.dev/gateway-controller" } }),
        json!({ "apiVersion": group, "kind": "Gateway", "metadata": { "name": "x", "namespace": "a" }, "spec": {
            "gatewayClassName": "x", "listeners": [{ "name": "http", "port": 80, "protocol": "HTTP" }] } }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "x", "namespace": "a" },
            "spec": { "ports": [{ "port": 80 }] } }),
    ];
    objects.extend((0..count).map(|index| many_routes_route(index, "/")));
    objects.into_iter().map(|value| Object::from_value(value).unwrap()).collect()
}

fn many_routes_route(index: usize, path: &str) -> Value {
    json!({ "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
        "metadata": { "name": format!("route-{index}"), "namespace": "a" },
        "spec": { "parentRefs": [{ "name": "x" }], "hostnames": [format!("host-{index}.example.com")],
            "rules": [{ "matches": [{ "path": { "value": path } }], "backendRefs": [{ "name": "x", "port": 80 }] }] } })
}

/// An edit of one route gives out that route and nothing else, and leaves what was made of the others as it was.
#[test]
fn an_edit_costs_what_it_touches() {
    let count = std::env::var("ROUTES").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000);
    let mut compiler = Compiler::new(Options::default());
    compiler.apply(many_routes(count).into_iter().map(Change::Upsert).collect());
    let rules = |compiler: &Compiler| -> Vec<_> {
        compiler.configs().values().flat_map(|config| config.routes.values()).map(|route| route.rules.clone()).collect()
    };
    let before = rules(&compiler);
    assert_eq!(before.len(), count);
    assert_eq!(compiler.statuses().len(), count + 2);

    let edited = Object::from_value(many_routes_route(7, "/edited")).unwrap();
    let delta = compiler.apply(vec![Change::Upsert(edited.clone())]);
    let [portcullis_model::ConfigDelta::Change { upserted, removed, .. }] = delta.config.as_slice() else {
        panic!("{:?}", delta.config)
    };
    assert!(matches!(upserted.as_slice(), [portcullis_model::Resource::Route(_)]), "{upserted:?}");
    assert!(removed.is_empty() && delta.status.is_empty() && delta.findings.is_empty());
    assert!(delta.infrastructure.is_empty() && delta.wanted.is_none());
    let changed =
        before.iter().zip(rules(&compiler)).filter(|(before, after)| !std::sync::Arc::ptr_eq(before, after)).count();
    assert_eq!(changed, 1);

    let delta = compiler.apply(vec![Change::Delete(edited.key())]);
    let [portcullis_model::ConfigDelta::Change { upserted, removed, .. }] = delta.config.as_slice() else {
        panic!("{:?}", delta.config)
    };
    assert!(upserted.is_empty() && removed.len() == 1);
    assert_eq!(delta.status.len(), 2, "the route's own, and the Gateway's count");

    // An unchanged object changes nothing, and neither does what is written beside the spec: the echo of our own status.
    let again = many_routes_route(8, "/");
    let mut written = again.clone();
    written["metadata"]["resourceVersion"] = json!("12");
    written["metadata"]["annotations"] = json!({ "x": "y" });
    written["status"] = json!({ "parents": [] });
    let before = rules(&compiler);
    for object in [again, written] {
        let delta = compiler.apply(vec![Change::Upsert(Object::from_value(object).unwrap())]);
        assert!(delta.config.is_empty() && delta.status.is_empty() && delta.findings.is_empty());
    }
    assert!(before.iter().zip(rules(&compiler)).all(|(before, after)| std::sync::Arc::ptr_eq(before, &after)));
}
