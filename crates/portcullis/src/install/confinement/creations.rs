//! What is created, and whether that is allowed: what the controller renders, whole, and with one thing changed at a time.

use super::{GATEWAYS_NAMESPACE, NAMESPACE, with};
use portcullis_api::manifest::{Limits, parse};
use serde_json::{Value, json};

/// What the controller makes of Gateways, as its own tests hold it.
const RENDERED: [(&str, &str); 4] = [
    ("default", include_str!("../../../../controller/tests/infrastructure/default.yaml")),
    ("everything", include_str!("../../../../controller/tests/infrastructure/everything.yaml")),
    ("little", include_str!("../../../../controller/tests/infrastructure/little.yaml")),
    ("long-name", include_str!("../../../../controller/tests/infrastructure/long-name.yaml")),
];

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";

/// An object, and whether its creation is allowed.
type Case = (String, Value, bool);

/// The objects of a Gateway, as they are for this installation.
pub(super) fn rendered(name: &str) -> Vec<Value> {
    let (_, text) = RENDERED.iter().find(|(other, _)| *other == name).unwrap();
    let text = text
        .replace("localhost/portcullis:test", concat!("localhost/portcullis:", env!("CARGO_PKG_VERSION")))
        .replace("namespace: infra", &format!("namespace: {GATEWAYS_NAMESPACE}"))
        .replace("--gateway=infra/", &format!("--gateway={GATEWAYS_NAMESPACE}/"));
    let manifest = parse("built-in", &text, &Limits::default());
    let mut objects: Vec<Value> = manifest.documents.iter().map(|document| document.value().clone()).collect();
    // Not every cluster has IPv6.
    objects.retain(|object| object["spec"]["ipFamilies"] != json!(["IPv6"]));
    for object in &mut objects {
        if object["kind"] == "ConfigMap" {
            object["data"]["ca.crt"] = json!(PEM);
        }
    }
    objects
}

fn one(name: &str, kind: &str) -> Value {
    rendered(name).into_iter().find(|object| object["kind"] == kind).unwrap()
}

fn deployment() -> Value {
    one("default", "Deployment")
}

pub(super) fn service() -> Value {
    one("default", "Service")
}

fn secret(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "portcullis.dev/certificate-authority",
        "metadata": { "name": name, "namespace": namespace },
    })
}

fn lease(namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name, "namespace": namespace } })
}

/// Everything, what is allowed first.
pub(super) fn creations() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, _) in RENDERED {
        for object in rendered(name) {
            cases.push((format!("{name}: {} {}", object["kind"], object["metadata"]["name"]), object, true));
        }
    }
    cases.extend(own_namespace());
    cases.extend(events());
    cases.extend(owners());
    cases.extend(pods());
    cases.extend(containers());
    cases.extend(volumes());
    cases.extend(beside_pods());
    cases
}

fn own_namespace() -> Vec<Case> {
    let token = json!("kubernetes.io/service-account-token");
    let annotated = with(
        with(secret(NAMESPACE, "portcullis-ca"), "/type", token),
        "/metadata/annotations",
        json!({ "kubernetes.io/service-account.name": "default" }),
    );
    [
        ("the authority", secret(NAMESPACE, "portcullis-ca"), true),
        ("another Secret", secret(NAMESPACE, "other"), false),
        ("a Secret elsewhere", secret(GATEWAYS_NAMESPACE, "portcullis-ca"), false),
        ("a Secret that gets a token of another account", annotated, false),
        ("a Secret of another type", with(secret(NAMESPACE, "portcullis-ca"), "/type", json!("Opaque")), false),
        ("the lease", lease(NAMESPACE, "portcullis-controller"), true),
        ("another lease", lease(NAMESPACE, "other"), false),
        ("a lease elsewhere", lease(GATEWAYS_NAMESPACE, "portcullis-controller"), false),
    ]
    .into_iter()
    .map(|(what, object, allowed)| (what.to_owned(), object, allowed))
    .collect()
}

/// What is told about objects.
fn events() -> Vec<Case> {
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "type": "Warning", "reason": "NoEndpoints", "action": "Compile",
        "metadata": { "name": "portcullis-a", "namespace": GATEWAYS_NAMESPACE }, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "portcullis.dev/gateway-controller", "reportingInstance": "a", "note": "a",
        "regarding": {
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "namespace": GATEWAYS_NAMESPACE, "name": "a",
        },
    });
    [
        ("/note", json!("b"), true),
        ("/metadata/name", json!("other"), false),
        ("/reportingController", json!("kubelet"), false),
        ("/regarding/apiVersion", json!("apps/v1"), false),
    ]
    .into_iter()
    .map(|(pointer, value, allowed)| {
        (format!("Event with {pointer} {value}"), with(event.clone(), pointer, value), allowed)
    })
    .collect()
}

/// What holds for every kind.
fn owners() -> Vec<Case> {
    let mut cases = Vec::new();
    let owner = "/metadata/ownerReferences";
    let pod = json!([{ "apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "1", "controller": true }]);
    let second = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "1" });
    let of_kinds = rendered("default").into_iter().chain([one("everything", "HorizontalPodAutoscaler")]);
    for object in of_kinds {
        for (pointer, value) in [
            (owner.to_owned(), Value::Null),
            (owner.to_owned(), pod.clone()),
            (format!("{owner}/-"), second.clone()),
            (format!("{owner}/0/controller"), json!(false)),
            (format!("{owner}/0/apiVersion"), json!("example.com/v1")),
            (format!("{owner}/0/name"), json!("other")),
            ("/metadata/labels".to_owned(), Value::Null),
            ("/metadata/labels/app.kubernetes.io~1managed-by".to_owned(), json!("someone")),
            ("/metadata/labels/app.kubernetes.io~1instance".to_owned(), json!("other")),
            ("/metadata/labels/app.kubernetes.io~1instance".to_owned(), Value::Null),
            ("/metadata/labels/gateway.networking.k8s.io~1gateway-name".to_owned(), json!("other")),
            ("/metadata/annotations/portcullis.dev~1gateway-name".to_owned(), json!("other")),
            ("/metadata/annotations/portcullis.dev~1controller-name".to_owned(), json!("example.com/other")),
            ("/metadata/annotations".to_owned(), Value::Null),
            ("/metadata/name".to_owned(), json!("other")),
        ] {
            let what = format!("{} with {pointer} {value}", object["kind"]);
            cases.push((what, with(object.clone(), &pointer, value), false));
        }
    }
    cases
}

fn changed(start: &str, changes: Vec<(&str, Value, bool)>) -> Vec<Case> {
    let case = |(pointer, value, allowed): (&str, Value, bool)| {
        let pointer = format!("{start}{pointer}");
        (format!("Deployment with {pointer} {value}"), with(deployment(), &pointer, value), allowed)
    };
    changes.into_iter().map(case).collect()
}

/// The whole of a pod's spec, field by field, and what is around it.
fn pods() -> Vec<Case> {
    let anti_affinity = |term: Value| {
        json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [with(
            with(term, "/topologyKey", json!("kubernetes.io/hostname")), "/labelSelector", json!({}),
        )] } })
    };
    let spec = vec![
        ("/affinity", anti_affinity(json!({})), true),
        ("/affinity", anti_affinity(json!({ "namespaceSelector": {} })), false),
        ("/affinity", anti_affinity(json!({ "namespaces": ["default"] })), false),
        ("/automountServiceAccountToken", json!(true), false),
        ("/automountServiceAccountToken", Value::Null, false),
        ("/dnsConfig", json!({ "options": [{ "name": "ndots", "value": "1" }] }), true),
        ("/dnsConfig", json!({ "nameservers": ["192.0.2.1"] }), false),
        ("/dnsConfig", json!({ "searches": ["example.com"] }), false),
        ("/dnsPolicy", json!("Default"), true),
        ("/enableServiceLinks", json!(true), true),
        ("/hostAliases", json!([{ "ip": "192.0.2.1", "hostnames": ["a"] }]), false),
        ("/hostIPC", json!(true), false),
        ("/hostPID", json!(true), false),
        ("/hostUsers", json!(false), true),
        ("/hostname", json!("a"), false),
        ("/imagePullSecrets", json!([{ "name": "a" }]), true),
        ("/initContainers", json!([{ "name": "other", "image": "alpine" }]), false),
        ("/nodeName", json!("node"), false),
        ("/nodeSelector", json!({ "a": "b" }), true),
        ("/os", json!({ "name": "linux" }), true),
        ("/preemptionPolicy", json!("Never"), true),
        ("/priorityClassName", json!("system-node-critical"), false),
        ("/priorityClassName", json!("system-cluster-critical"), false),
        ("/priorityClassName", json!("edge"), true),
        ("/readinessGates", json!([{ "conditionType": "example.com/a" }]), true),
        ("/resourceClaims", json!([{ "name": "a", "resourceClaimName": "b" }]), false),
        ("/runtimeClassName", json!("a"), false),
        ("/schedulerName", json!("a"), true),
        ("/schedulingGates", json!([{ "name": "example.com/a" }]), false),
        ("/serviceAccountName", json!("default"), false),
        ("/setHostnameAsFQDN", json!(true), false),
        ("/shareProcessNamespace", json!(true), false),
        ("/subdomain", json!("a"), false),
        ("/terminationGracePeriodSeconds", json!(1), true),
        ("/tolerations", json!([{ "operator": "Exists" }]), true),
    ];
    let context = vec![
        ("/appArmorProfile", json!({ "type": "RuntimeDefault" }), true),
        ("/appArmorProfile", json!({ "type": "Unconfined" }), false),
        ("/fsGroup", json!(0), false),
        ("/runAsGroup", json!(0), false),
        ("/runAsNonRoot", json!(false), false),
        ("/runAsNonRoot", Value::Null, false),
        ("/runAsUser", json!(0), false),
        ("/seLinuxOptions", json!({ "level": "s0:c1" }), true),
        ("/seLinuxOptions", json!({ "type": "spc_t" }), false),
        ("/seLinuxOptions", json!({ "user": "system_u" }), false),
        ("/seLinuxOptions", json!({ "role": "system_r" }), false),
        ("/seccompProfile", json!({ "type": "Unconfined" }), false),
        ("/seccompProfile", json!({ "type": "Localhost", "localhostProfile": "a.json" }), true),
        ("/seccompProfile", Value::Null, false),
        ("/supplementalGroups", json!([0]), false),
        ("/supplementalGroups", json!([1000]), true),
        ("/sysctls", json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }]), true),
        ("/sysctls", json!([{ "name": "kernel.msgmax", "value": "1" }]), false),
        ("/windowsOptions", json!({ "runAsUserName": "a" }), false),
    ];
    let apparmor = "/annotations/container.apparmor.security.beta.kubernetes.io~1data-plane";
    let metadata = vec![
        ("/labels/app.kubernetes.io~1component", json!("other"), false),
        ("/labels/app.kubernetes.io~1managed-by", json!("other"), false),
        ("/labels/app.kubernetes.io~1name", json!("portcullis"), false),
        ("/labels/app", json!("other"), false),
        ("/labels/app", Value::Null, false),
        ("/labels/k8s-app", json!("kube-dns"), false),
        ("/labels/team", json!("edge"), true),
        (apparmor, json!("unconfined"), false),
    ];
    let mut cases = changed("/spec/template/spec", spec);
    cases.extend(changed("/spec/template/spec/securityContext", context));
    cases.extend(changed("/spec/template/metadata", metadata));
    // An API server takes no sysctls of the network with it.
    let host = with(deployment(), "/spec/template/spec/securityContext/sysctls", Value::Null);
    let host = with(host, "/spec/template/spec/hostNetwork", json!(true));
    cases.push(("Deployment in the node's network".to_owned(), host, false));
    // Of a Gateway that the pods are not for: as the API server wants it, selected, too.
    for label in ["gateway.networking.k8s.io~1gateway-name", "app.kubernetes.io~1instance"] {
        let mut object = with(deployment(), &format!("/spec/template/metadata/labels/{label}"), json!("other"));
        object = with(object, &format!("/spec/selector/matchLabels/{label}"), json!("other"));
        cases.push((format!("Deployment with pods of another {label}"), object, false));
    }
    let more = with(deployment(), "/spec/selector/matchLabels/app", json!("gateway-controller"));
    cases.push(("Deployment with a selector of its own".to_owned(), more, false));
    cases
}

fn containers() -> Vec<Case> {
    let exec = json!({ "exec": { "command": ["/portcullis"] } });
    let windows = json!({ "windowsOptions": { "runAsUserName": "a" } });
    let from = |kind: &str, value: Value| json!({ "name": "A", "valueFrom": { kind: value } });
    let get = |fields: Value| {
        let mut get = json!({ "path": "/healthz", "port": 9090 });
        get.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!({ "httpGet": get })
    };
    let container = vec![
        ("/args", json!(["controller"]), false),
        ("/args", json!(["data-plane"]), false),
        ("/args", Value::Null, false),
        ("/args/-", json!("--log-level=debug"), true),
        ("/args/-", json!("--workers=3"), true),
        ("/args/-", json!("--controller=evil.example:8443"), false),
        ("/args/-", json!("--identity=evil.example:8444"), false),
        ("/args/-", json!("--gateway=other/edge"), false),
        ("/args/-", json!("--token-file=/etc/extra/secret"), false),
        ("/args/-", json!("--access-log=/scratch/file"), false),
        ("/args/-", json!("--other"), false),
        ("/command", json!(["/portcullis"]), false),
        ("/env/-", json!({ "name": "A", "value": "b" }), true),
        ("/env/-", json!({ "name": "PORTCULLIS_CONTROLLER", "value": "b" }), false),
        ("/env/-", json!({ "name": "POD_NAME", "value": "b" }), false),
        ("/env/-", from("fieldRef", json!({ "fieldPath": "spec.nodeName" })), true),
        ("/env/-", from("secretKeyRef", json!({ "name": "a", "key": "b" })), false),
        ("/env/-", from("configMapKeyRef", json!({ "name": "a", "key": "b" })), false),
        ("/envFrom", json!([{ "secretRef": { "name": "a" } }]), false),
        ("/envFrom", json!([{ "configMapRef": { "name": "a" } }]), false),
        ("/image", json!("docker.io/library/alpine"), false),
        ("/imagePullPolicy", json!("Always"), true),
        ("/lifecycle", json!({ "postStart": exec }), false),
        ("/lifecycle", json!({ "preStop": { "sleep": { "seconds": 1 } } }), false),
        ("/livenessProbe", exec.clone(), false),
        ("/livenessProbe", get(json!({ "host": "192.0.2.1" })), false),
        ("/livenessProbe", get(json!({ "port": 10250 })), false),
        ("/livenessProbe", get(json!({ "httpHeaders": [{ "name": "Host", "value": "a" }] })), false),
        ("/livenessProbe", json!({ "tcpSocket": { "port": 9090, "host": "192.0.2.1" } }), false),
        ("/livenessProbe", json!({ "grpc": { "port": 9090 } }), false),
        ("/name", json!("other"), false),
        ("/ports", json!([{ "containerPort": 80, "hostPort": 80 }]), false),
        ("/ports", json!([{ "containerPort": 80 }]), false),
        ("/readinessProbe", exec.clone(), false),
        ("/resources", json!({ "limits": { "memory": "1Gi" } }), true),
        ("/startupProbe", exec, false),
        ("/stdin", json!(true), false),
        ("/terminationMessagePolicy", json!("FallbackToLogsOnError"), true),
        ("/tty", json!(true), false),
        ("/workingDir", json!("/scratch"), false),
        ("/securityContext", windows, false),
        ("/securityContext/allowPrivilegeEscalation", Value::Null, false),
        ("/securityContext/appArmorProfile", json!({ "type": "Unconfined" }), false),
        ("/securityContext/capabilities", Value::Null, false),
        ("/securityContext/capabilities/add", json!(["NET_ADMIN"]), false),
        ("/securityContext/procMount", json!("Default"), true),
        ("/securityContext/readOnlyRootFilesystem", json!(false), false),
        ("/securityContext/runAsGroup", json!(0), false),
        ("/securityContext/runAsNonRoot", json!(false), false),
        ("/securityContext/runAsUser", json!(0), false),
        ("/securityContext/seLinuxOptions", json!({ "type": "spc_t" }), false),
        ("/securityContext/seccompProfile", json!({ "type": "Unconfined" }), false),
    ];
    let mut cases = changed("/spec/template/spec/containers/0", container);
    cases.extend(changed(
        "/spec/template/spec",
        vec![("/containers/-", json!({ "name": "other", "image": "alpine" }), false)],
    ));
    // Only with user namespaces does an API server take it at all.
    let unmasked = with(deployment(), "/spec/template/spec/hostUsers", json!(false));
    let unmasked = with(unmasked, "/spec/template/spec/containers/0/securityContext/procMount", json!("Unmasked"));
    cases.push(("Deployment with an unmasked /proc".to_owned(), unmasked, false));
    cases
}

fn volumes() -> Vec<Case> {
    let sources = |source: Value| json!({ "name": "a", "projected": { "sources": [source] } });
    let token = |audience: &str| json!({ "serviceAccountToken": { "audience": audience, "path": "token" } });
    let audience = "/1/projected/sources/0/serviceAccountToken/audience";
    let volumes = vec![
        ("/-", json!({ "name": "a", "emptyDir": {} }), true),
        ("/-", json!({ "name": "a", "hostPath": { "path": "/" } }), false),
        ("/-", json!({ "name": "a", "secret": { "secretName": "a" } }), false),
        ("/-", json!({ "name": "a", "configMap": { "name": "other" } }), false),
        ("/-", json!({ "name": "a", "configMap": { "name": "edge-portcullis" } }), false),
        ("/-", json!({ "name": "a", "csi": { "driver": "example.com" } }), false),
        ("/-", json!({ "name": "a", "image": { "reference": "alpine" } }), false),
        ("/-", json!({ "name": "a", "nfs": { "server": "a", "path": "/" } }), false),
        ("/-", json!({ "name": "a", "persistentVolumeClaim": { "claimName": "a" } }), false),
        ("/-", sources(json!({ "secret": { "name": "a" } })), false),
        ("/-", sources(json!({ "configMap": { "name": "other" } })), false),
        ("/-", sources(token("portcullis.dev/controller")), false),
        ("/-", sources(token("https://kubernetes.default.svc")), false),
        (
            "/-",
            sources(json!({ "podCertificate": {
            "signerName": "example.com/a", "keyType": "ED25519", "credentialBundlePath": "a",
        } })),
            false,
        ),
        ("/0/configMap/name", json!("other"), false),
        (audience, json!("other"), false),
        (audience, Value::Null, false),
        ("/1/projected/sources/-", json!({ "secret": { "name": "a" } }), false),
    ];
    let mut cases = changed("/spec/template/spec/volumes", volumes);
    for (path, allowed) in [
        ("/scratch", true),
        ("/var/lib/scratch", true),
        ("/", false),
        ("/portcullis", false),
        ("//portcullis", false),
        ("/portcullis/a", false),
        ("/var", false),
        ("/var/run/", false),
        ("/var//run/portcullis", false),
        ("/var/run/portcullis/token", false),
        ("/a/./b", false),
    ] {
        let object = with(deployment(), "/spec/template/spec/volumes/-", json!({ "name": "a", "emptyDir": {} }));
        // In place of ours, as no two can have one path.
        let mounts = json!([{ "name": "a", "mountPath": path }]);
        let object = with(object, "/spec/template/spec/containers/0/volumeMounts", mounts);
        cases.push((format!("Deployment with a folder at {path}"), object, allowed));
    }
    // What the controller writes into its ConfigMap would be run as a program.
    for mount in [
        json!([{ "name": "portcullis-ca", "mountPath": "/portcullis", "subPath": "ca.crt" }]),
        json!([{ "name": "portcullis-ca", "mountPath": "/var/run/portcullis/ca", "subPath": "ca.crt" }]),
        json!([{ "name": "portcullis-token", "mountPath": "/token" }]),
    ] {
        let what = format!("Deployment with mounts {mount}");
        cases.push((what, with(deployment(), "/spec/template/spec/containers/0/volumeMounts", mount), false));
    }
    cases
}

/// Services and what selects or scales pods.
fn beside_pods() -> Vec<Case> {
    let account = || one("default", "ServiceAccount");
    let config_map = || one("default", "ConfigMap");
    let budget = || one("default", "PodDisruptionBudget");
    let network = || one("default", "NetworkPolicy");
    let autoscaler = || one("everything", "HorizontalPodAutoscaler");
    let name = "gateway.networking.k8s.io~1gateway-name";
    let anything = json!([{ "key": "app", "operator": "Exists" }]);
    let external = json!({ "type": "External", "external": {
        "metric": { "name": "a" }, "target": { "type": "Value", "value": 1 },
    } });
    let mut cases = Vec::new();
    for (object, pointer, value, allowed) in [
        (service(), "/spec/type".to_owned(), json!("ClusterIP"), true),
        (service(), "/spec/loadBalancerIP".to_owned(), json!("192.0.2.1"), true),
        (service(), "/spec/externalIPs".to_owned(), json!(["192.0.2.1"]), false),
        (service(), "/spec".to_owned(), json!({ "type": "ExternalName", "externalName": "example.com" }), false),
        (service(), "/spec/selector".to_owned(), json!({ "app": "other" }), false),
        (service(), "/spec/selector".to_owned(), Value::Null, false),
        (service(), format!("/spec/selector/{name}"), json!("other"), false),
        (service(), format!("/spec/selector/{name}"), Value::Null, false),
        (service(), "/spec/selector/app".to_owned(), json!("other"), false),
        (service(), "/spec/ports/0/targetPort".to_owned(), json!(9090), false),
        (service(), "/spec/ports/0/targetPort".to_owned(), json!("metrics"), false),
        (account(), "/automountServiceAccountToken".to_owned(), Value::Null, false),
        (account(), "/secrets".to_owned(), json!([{ "name": "a" }]), false),
        (account(), "/imagePullSecrets".to_owned(), json!([{ "name": "a" }]), false),
        (config_map(), "/data/other".to_owned(), json!("x"), false),
        (config_map(), "/data/ca.crt".to_owned(), json!("#!/bin/sh"), false),
        (config_map(), "/data/ca.crt".to_owned(), json!(format!("{PEM}-----BEGIN PRIVATE KEY-----")), false),
        (config_map(), "/binaryData".to_owned(), json!({ "a": "AA==" }), false),
        (budget(), "/spec/selector".to_owned(), Value::Null, false),
        (budget(), "/spec/selector".to_owned(), json!({}), false),
        (budget(), "/spec/selector/matchLabels".to_owned(), json!({ "app": "other" }), false),
        (budget(), format!("/spec/selector/matchLabels/{name}"), Value::Null, false),
        (budget(), "/spec/selector/matchExpressions".to_owned(), anything.clone(), false),
        (network(), "/spec/podSelector".to_owned(), json!({}), false),
        (network(), "/spec/podSelector/matchLabels".to_owned(), json!({ "app": "other" }), false),
        (network(), format!("/spec/podSelector/matchLabels/{name}"), json!("other"), false),
        (network(), format!("/spec/podSelector/matchLabels/{name}"), Value::Null, false),
        (network(), "/spec/podSelector/matchExpressions".to_owned(), anything, false),
        (autoscaler(), "/spec/scaleTargetRef/name".to_owned(), json!("other"), false),
        (autoscaler(), "/spec/scaleTargetRef/kind".to_owned(), json!("StatefulSet"), false),
        (autoscaler(), "/spec/scaleTargetRef/apiVersion".to_owned(), json!("example.com/v1"), false),
        (autoscaler(), "/spec/metrics/-".to_owned(), external, false),
    ] {
        let what = format!("{} with {pointer} {value}", object["kind"]);
        cases.push((what, with(object, &pointer, value), allowed));
    }
    cases
}
