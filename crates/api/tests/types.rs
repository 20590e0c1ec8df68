//! The types against the CRDs of Gateway API v1.7.0: every field and every value of the schemas has its place in a
//! type, and what has none survives the way from JSON to the types and back.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests, their helpers included")]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use portcullis_api::manifest::{Limits, parse};
use portcullis_api::object::Scope;
use portcullis_api::schema::OWN_CRDS;
use portcullis_api::{Extra, Object};
use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

/// An object with every field of its schema.
struct Sample {
    value: Value,
    scope: Scope,
    /// JSON pointers to the objects with named fields.
    structs: Vec<String>,
    /// JSON pointers to texts with a fixed set of values.
    enums: Vec<String>,
}

/// For each served version of each CRD as many samples as the longest enumeration has values, so that each value stands
/// in one of them.
static SAMPLES: LazyLock<Vec<Sample>> =
    LazyLock::new(|| custom_resource_definitions().iter().flat_map(samples_of_crd).collect());

fn custom_resource_definitions() -> Vec<Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crds");
    let files = ["experimental", "standard"].iter().flat_map(|channel| fs::read_dir(folder.join(channel)).unwrap());
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let parsed = files.iter().map(|file| serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap());
    let ours = OWN_CRDS.iter().map(|crd| {
        let manifest = parse(crd.file, crd.text, &Limits::default());
        manifest.documents[0].value().clone()
    });
    let crds: Vec<Value> = parsed.chain(ours).filter(|crd: &Value| crd["kind"] == "CustomResourceDefinition").collect();
    assert!(crds.len() >= 24, "the CRDs of both channels");
    crds
}

fn samples_of_crd(crd: &Value) -> Vec<Sample> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (group, kind) = (text(&crd["spec"]["group"]), text(&crd["spec"]["names"]["kind"]));
    let mut samples = Vec::new();
    for version in crd["spec"]["versions"].as_array().unwrap() {
        let schema = &version["schema"]["openAPIV3Schema"];
        for turn in 0..longest_enum(schema).max(1) {
            let mut sample =
                Sample { value: Value::Null, scope: Scope::Namespaced, structs: Vec::new(), enums: Vec::new() };
            let mut value = sample.build(schema, turn, "");
            value["apiVersion"] = json!(format!("{group}/{}", text(&version["name"])));
            value["kind"] = json!(kind);
            value["metadata"] = json!({"name": "sample", "namespace": "default", "labels": {"a": "b"}});
            if crd["spec"]["scope"] == "Cluster" {
                sample.scope = Scope::Cluster;
                value["metadata"].as_object_mut().unwrap().shift_remove("namespace");
            }
            sample.value = value;
            samples.push(sample);
        }
    }
    samples
}

fn longest_enum(schema: &Value) -> usize {
    let own = schema["enum"].as_array().map_or(0, Vec::len);
    let below = match schema {
        Value::Object(fields) => fields.values().map(longest_enum).max().unwrap_or(0),
        Value::Array(items) => items.iter().map(longest_enum).max().unwrap_or(0),
        _ => 0,
    };
    own.max(below)
}

impl Sample {
    fn build(&mut self, schema: &Value, turn: usize, path: &str) -> Value {
        if let Some(values) = schema["enum"].as_array() {
            if schema["type"] == "string" {
                self.enums.push(path.to_owned());
            }
            return values[turn % values.len()].clone();
        }
        match schema["type"].as_str() {
            Some("object") => self.build_object(schema, turn, path),
            Some("array") => json!([self.build(&schema["items"], turn, &format!("{path}/0"))]),
            Some("string") => json!("sample"),
            Some("boolean") => json!(true),
            Some("integer") => json!(1),
            None if schema["x-kubernetes-int-or-string"] == true => json!(1),
            other => panic!("{path}: type {other:?}"),
        }
    }

    fn build_object(&mut self, schema: &Value, turn: usize, path: &str) -> Value {
        if !schema["additionalProperties"].is_null() {
            return json!({"key": self.build(&schema["additionalProperties"], turn, &format!("{path}/key"))});
        }
        self.structs.push(path.to_owned());
        let properties = schema["properties"].as_object().into_iter().flatten();
        Value::Object(
            properties
                .map(|(name, schema)| (name.clone(), self.build(schema, turn, &format!("{path}/{name}"))))
                .collect(),
        )
    }
}

#[test]
fn every_field_and_value_of_the_schemas_has_its_place() {
    for Sample { value, scope, .. } in SAMPLES.iter() {
        let object = Object::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}\n{value:#}"));
        let name = format!("{} {}", object.api_version(), object.kind());
        assert_eq!(object.scope(), Some(*scope), "{name} has a type, and its scope");
        // The derived text of an object shows every unknown field and every unknown value, wherever it is.
        let shown = format!("{object:?}");
        let mut extras = shown.match_indices("extra: {");
        if let Some((at, _)) = extras.find(|(at, text)| !shown[at + text.len()..].starts_with('}')) {
            panic!("{name}: a field without a place: {}", &shown[at..shown.len().min(at + 120)]);
        }
        // Where a schema takes any text, the sample's own is no known value.
        let shown = shown.replace("Unknown(\"sample\")", "");
        if let Some(at) = shown.find("Unknown(\"").or_else(|| shown.find("Other(\"")) {
            panic!("{name}: a value without a place: {}", &shown[at..shown.len().min(at + 120)]);
        }
        assert_eq!(&object.to_value(), value, "{name}");
    }
}

#[test]
fn a_missing_field_or_value_would_be_noticed() {
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "a"},
        "spec": {"rules": [{"novelty": 1, "filters": [{"type": "Novelty"}]}]},
    });
    let shown = format!("{:?}", Object::from_value(route).unwrap());
    assert!(shown.contains("extra: {\"novelty\": Number(1)}"), "{shown}");
    assert!(shown.contains("Unknown(\"Novelty\")"), "{shown}");
}

#[test]
fn core_kinds_find_their_way_back() {
    for value in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
               "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca", "namespace": "a"}, "data": {"ca.crt": "PEM"},
               "binaryData": {"ca.der": "AAEC"}, "immutable": true}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "a", "generation": 3, "finalizers": ["x/y"],
               "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]},
               "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "selector": {"app": "s"},
                        "ipFamilies": ["IPv4"], "sessionAffinity": "None", "externalIPs": ["192.0.2.1"],
                        "ports": [{"name": "http", "protocol": "TCP", "appProtocol": "kubernetes.io/h2c", "port": 80, "targetPort": "web",
                                   "nodePort": 30080}, {"port": 81, "targetPort": 8081}]},
               "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.2", "ipMode": "VIP"}, {"hostname": "lb.example"}]}}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "s-1", "namespace": "a"},
               "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
               "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false},
                              "nodeName": "n", "zone": "z", "targetRef": {"kind": "Pod", "name": "p"},
                              "hints": {"forZones": [{"name": "z"}]}}]}),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"podCIDR": "10.1.0.0/24", "unschedulable": true},
               "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.9"}, {"type": "Novel", "address": "x"}],
                          "conditions": [{"type": "Ready", "status": "Unknown", "reason": "", "message": "", "lastHeartbeatTime": "t"}]}}),
        json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle", "metadata": {"name": "b"},
               "spec": {"signerName": "example.com/s", "trustBundle": "PEM"}}),
        json!({"apiVersion": "gateway.networking.k8s.io/v1alpha2", "kind": "BackendTLSPolicy", "metadata": {"name": "b", "namespace": "a"},
               "spec": {"targetRef": {"group": "", "kind": "Service", "name": "s", "sectionName": "https"},
                        "tls": {"caCertRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}], "wellKnownCACerts": "System",
                                "hostname": "s.example"}}}),
        json!({"apiVersion": "gateway.networking.x-k8s.io/v1alpha1", "kind": "XListenerSet", "metadata": {"name": "l", "namespace": "a"},
               "spec": {"parentRef": {"name": "g"}, "listeners": [{"name": "one", "protocol": "HTTP"}]},
               "status": {"listeners": [{"name": "one", "port": 8080, "supportedKinds": [], "attachedRoutes": 0, "conditions": []}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "a"}, "spec": {"replicas": null}}),
    ] {
        let object = Object::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}\n{value:#}"));
        assert_eq!(object.to_value(), value);
    }
}

#[test]
fn no_unknown_fields_cost_one_pointer() {
    assert_eq!(size_of::<Extra>(), size_of::<usize>());
}

#[test]
fn route_rules_stay_small() {
    // 100,000 routes are held in memory: rare parts are boxed.
    assert!(size_of::<portcullis_api::http_route::HttpRouteRule>() <= 136);
    assert!(size_of::<portcullis_api::http_route::HttpRouteFilter>() <= 104);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |number| Number::from_f64(number).map(Value::Number)),
        ".*".prop_map(Value::String),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((".*", inner), 0..4).prop_map(|fields| Value::Object(Map::from_iter(fields))),
        ]
    })
}

proptest! {
    #[test]
    fn unknown_fields_and_values_survive(
        sample in any::<prop::sample::Index>(),
        fields in prop::collection::vec((any::<prop::sample::Index>(), "unknown.{0,12}", any_value()), 0..4),
        texts in prop::collection::vec((any::<prop::sample::Index>(), ".{0,12}"), 0..4),
    ) {
        let sample = sample.get(&SAMPLES);
        let mut value = sample.value.clone();
        for (place, text) in &texts {
            if let Some(place) = (!sample.enums.is_empty()).then(|| place.get::<String>(&sample.enums)) {
                *value.pointer_mut(place).unwrap() = json!(text);
            }
        }
        for (place, name, field) in &fields {
            value.pointer_mut(place.get::<String>(&sample.structs)).unwrap()[name.as_str()] = field.clone();
        }
        prop_assert_eq!(Object::from_value(value.clone()).unwrap().to_value(), value);
    }

    #[test]
    fn no_value_makes_reading_fail_without_an_error(
        sample in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), field in any::<prop::sample::Index>(), other in any_value(),
    ) {
        let sample = sample.get(&SAMPLES);
        let mut value = sample.value.clone();
        let target = value.pointer_mut(place.get::<String>(&sample.structs)).unwrap().as_object_mut().unwrap();
        if !target.is_empty() {
            let name = field.get(&target.keys().cloned().collect::<Vec<_>>()).clone();
            target[&name] = other;
        }
        if let Err(error) = Object::from_value(value) {
            prop_assert!(!error.message.is_empty());
            prop_assert!(!error.to_string().chars().any(char::is_control));
        }
    }
}
