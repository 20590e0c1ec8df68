//! What is rendered, beside what it was: `tests/infrastructure/*.yaml`. `UPDATE=1` rewrites the files: read the difference before it is
//! committed.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api;
use portcullis_api::gateway_parameters::{DataPlane, pod};
use portcullis_compile::{AddressKind, AddressRequest, AddressScope, Infrastructure, TransportProtocol};
use portcullis_model::ObjectName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::super::kind::Kind;
use super::super::render::{Rendered, Services, render};
use super::{infrastructure, options};

fn rendered(infrastructure: &Infrastructure) -> Vec<Rendered> {
    let services = Services { ports: infrastructure.ports.clone(), ..Services::default() };
    render(infrastructure, &options(), &services).unwrap()
}

fn data_plane(value: Value) -> Option<Arc<DataPlane>> {
    let data_plane: DataPlane = serde_json::from_value(value).unwrap();
    assert_eq!(data_plane.problems(), []);
    Some(Arc::new(data_plane))
}

fn with_parameters(value: Value) -> Infrastructure {
    Infrastructure { parameters: data_plane(value), ..infrastructure() }
}

fn everything() -> Infrastructure {
    let request = |(index, (kind, scope))| AddressRequest { index, kind, scope };
    let ip = |text: &str| AddressKind::Ip(text.parse().unwrap());
    let addresses = [
        (ip("192.0.2.1"), AddressScope::Default),
        (AddressKind::Any, AddressScope::Cluster),
        (ip("2001:db8::1"), AddressScope::Sentinel),
    ];
    Infrastructure {
        labels: [("team", "red"), ("app.kubernetes.io/managed-by", "someone"), ("app", "mine")].map(owned).into(),
        annotations: [("example.com/note", "here"), ("portcullis.dev/gateway-name", "another")].map(owned).into(),
        ports: [(443, TransportProtocol::Tcp), (443, TransportProtocol::Udp), (9090, TransportProtocol::Tcp)].into(),
        addresses: addresses.into_iter().enumerate().map(request).collect(),
        ..with_parameters(json!({
            "autoscaling": {"minReplicas": 2, "maxReplicas": 10, "targetCPUUtilization": 70},
            "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 2, "memory": "256Mi"}},
            "nodeSelector": {"disk": "ssd"},
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}}},
            ]}},
            "tolerations": [{"key": "edge", "operator": "Exists"}],
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"},
            ],
            "priorityClassName": "high",
            "imagePullSecrets": [{"name": "registry"}],
            "service": {
                "annotations": {"example.com/pool": "public"}, "labels": {"exposed": "true"}, "externalTrafficPolicy": "Local",
                "loadBalancerClass": "example.com/balancer", "loadBalancerSourceRanges": ["10.0.0.0/8"],
            },
            "podDisruptionBudget": {"minAvailable": "50%"},
            "podLabels": {"tier": "edge"},
            "podAnnotations": {"example.com/scrape": "true"},
            "pod": {"spec": {
                "dnsPolicy": "Default",
                "containers": [{"name": "data-plane", "env": [{"name": "TZ", "value": "UTC"}], "volumeMounts": [{"name": "extra", "mountPath": "/etc/extra"}]}],
                "volumes": [{"name": "extra", "emptyDir": {}}],
            }},
            "shutdownDelay": "1500ms",
            "drainTimeout": "1m",
            "logLevel": "Debug",
            "workers": 2,
        }))
    }
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn cases() -> Vec<(&'static str, Infrastructure)> {
    let long = "long-name.".repeat(25) + "end";
    vec![
        ("default", infrastructure()),
        ("everything", everything()),
        (
            "little",
            with_parameters(json!({
                "replicas": 3, "service": {"type": "ClusterIP"}, "podDisruptionBudget": {"disabled": true}, "networkPolicy": "Disabled",
                "resources": {"limits": {"memory": "64Mi"}},
            })),
        ),
        ("long-name", Infrastructure { gateway: ObjectName::new("infra", long.as_str()), ..infrastructure() }),
        ("no-ports", Infrastructure { ports: [].into(), ..infrastructure() }),
    ]
}

#[test]
fn objects_are_as_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/infrastructure");
    let mut wrong = Vec::new();
    for (name, infrastructure) in cases() {
        let mut text = String::new();
        for object in rendered(&infrastructure) {
            write!(text, "---\n{}", serde_saphyr::to_string(&object.body).unwrap()).unwrap();
        }
        let path = folder.join(format!("{name}.yaml"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "not as before (UPDATE=1 rewrites):\n{}", wrong.join("\n"));
}

/// Reads an object as the type of its kind and writes it again: a field that the type does not know is lost.
fn round_trip<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(object.clone()).unwrap()).unwrap()
}

#[test]
fn every_field_is_one_of_its_kind() {
    for (name, infrastructure) in cases() {
        for Rendered { kind, body, .. } in rendered(&infrastructure) {
            let read = match kind {
                Kind::ServiceAccount => round_trip::<api::core::v1::ServiceAccount>(&body),
                Kind::ConfigMap => round_trip::<api::core::v1::ConfigMap>(&body),
                Kind::Service => round_trip::<api::core::v1::Service>(&body),
                Kind::NetworkPolicy => round_trip::<api::networking::v1::NetworkPolicy>(&body),
                Kind::PodDisruptionBudget => round_trip::<api::policy::v1::PodDisruptionBudget>(&body),
                Kind::Deployment => round_trip::<api::apps::v1::Deployment>(&body),
                Kind::HorizontalPodAutoscaler => round_trip::<api::autoscaling::v2::HorizontalPodAutoscaler>(&body),
            };
            // Quantities are texts in the types.
            let plain = |value: &Value| value.to_string().replace("\"cpu\":2", "\"cpu\":\"2\"");
            let sorted = |text: String| serde_json::from_str::<Value>(&text).unwrap();
            assert_eq!(sorted(plain(&read)), sorted(plain(&body)), "{name} {kind:?}");
        }
    }
}

fn of(objects: &[Rendered], kind: Kind) -> &Value {
    &objects.iter().find(|object| object.kind == kind).unwrap().body
}

#[test]
fn only_what_a_pod_needs_rolls_it() {
    let template =
        |infrastructure: &Infrastructure| of(&rendered(infrastructure), Kind::Deployment)["spec"]["template"].clone();
    let before = template(&infrastructure());
    let mut other = infrastructure();
    other.generation = 7;
    other.ports = [(443, TransportProtocol::Tcp), (53, TransportProtocol::Udp)].into();
    other.addresses = vec![AddressRequest { index: 0, kind: AddressKind::Any, scope: AddressScope::Cluster }];
    other.parameters = data_plane(json!({"replicas": 5, "service": {"type": "NodePort"}, "networkPolicy": "Disabled"}));
    assert_eq!(template(&other), before);
    let mut options = options();
    options.ca_bundle = "another".to_owned();
    let services = Services { ports: other.ports.clone(), ..Services::default() };
    let objects = render(&other, &options, &services).unwrap();
    assert_eq!(of(&objects, Kind::Deployment)["spec"]["template"], before);
    assert_ne!(template(&with_parameters(json!({"workers": 2}))), before);
}

#[test]
fn infrastructure_labels_are_everywhere_and_override_nothing() {
    for object in rendered(&everything()) {
        let mut all = vec![&object.body["metadata"]];
        all.extend(object.body.pointer("/spec/template/metadata"));
        for metadata in all {
            assert_eq!(metadata["labels"]["team"], "red", "{:?}", object.kind);
            assert_eq!(metadata["labels"]["app.kubernetes.io/managed-by"], "portcullis");
            assert_eq!(metadata["annotations"]["example.com/note"], "here");
            assert_eq!(metadata["annotations"]["portcullis.dev/gateway-name"], "edge");
        }
    }
    let deployment = of(&rendered(&everything()), Kind::Deployment).clone();
    assert_eq!(deployment["spec"]["template"]["metadata"]["labels"]["app"], "gateway-controller");
}

#[test]
fn the_selector_selects_and_nothing_else_does() {
    for (name, infrastructure) in cases() {
        let objects = rendered(&infrastructure);
        let deployment = of(&objects, Kind::Deployment);
        let selector = deployment["spec"]["selector"]["matchLabels"].as_object().unwrap();
        let labels = &deployment["spec"]["template"]["metadata"]["labels"];
        assert!(selector.iter().all(|(key, value)| labels[key] == *value), "{name}");
        for service in objects.iter().filter(|object| object.kind == Kind::Service) {
            assert_eq!(service.body["spec"]["selector"].as_object().unwrap(), selector);
        }
    }
}

#[test]
fn a_patch_that_was_not_refused_in_time_is_left_out() {
    let mut infrastructure = infrastructure();
    let data_plane: DataPlane = serde_json::from_value(json!({"pod": {"spec": {"hostNetwork": true}}})).unwrap();
    assert!(!pod::problems(data_plane.pod.as_ref().unwrap()).is_empty());
    infrastructure.parameters = Some(Arc::new(data_plane));
    let objects = rendered(&infrastructure);
    assert_eq!(of(&objects, Kind::Deployment)["spec"]["template"]["spec"].get("hostNetwork"), None);
}

#[test]
fn without_parameters_nothing_is_said() {
    assert_eq!(
        render(&Infrastructure { parameters: None, ..infrastructure() }, &options(), &Services::default()),
        None
    );
}
