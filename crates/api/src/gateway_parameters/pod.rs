//! The patch of the pod template: how it is merged, and what it may not do.
//!
//! In flows `dataPlane.pod`, shaped like the template of a Deployment (`metadata`, `spec`). Out flows the merged template, or one
//! [`ParameterProblem`] per mistake. A patch is refused as a whole when it touches what is not listed in [`SPEC_FIELDS`] and
//! [`CONTAINER_FIELDS`], or when the result would not fit the restricted profile of the Pod Security Standards
//! (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
//!
//! Merging is that of a JSON merge patch (RFC 7396), but lists whose entries have a key are merged by it, as Kubernetes does:
//! `containers`, `volumes`, `env` by `name`, `volumeMounts` by `mountPath`, `hostAliases` by `ip`. Any other list is replaced.

use serde_json::{Map, Value, json};

use super::problem::ParameterProblem;

/// The container of a data plane.
pub const CONTAINER: &str = "data-plane";

/// The folder of the files that a data plane is given; nothing else may be mounted there.
pub const MOUNT_ROOT: &str = "/var/run/portcullis";

/// Fields of the pod's spec that a patch may set.
pub const SPEC_FIELDS: [&str; 17] = [
    "affinity",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostUsers",
    "nodeSelector",
    "os",
    "preemptionPolicy",
    "readinessGates",
    "runtimeClassName",
    "schedulerName",
    "securityContext",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
];

/// Fields of the container that a patch may set.
pub const CONTAINER_FIELDS: [&str; 9] = [
    "env",
    "envFrom",
    "imagePullPolicy",
    "name",
    "resources",
    "securityContext",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
];

/// The part of the template that makes it fit the restricted profile; what renders the template starts from it.
pub fn skeleton() -> Value {
    json!({
        "metadata": {},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
                // Lets a user other than root bind 80 and 443; a safe sysctl, of the pod's own network alone.
                "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
            },
            "containers": [{
                "name": CONTAINER,
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    })
}

/// Judges a patch; empty if it can be used.
pub fn problems(patch: &Value) -> Vec<ParameterProblem> {
    let mut found = Vec::new();
    check_shape(patch, &mut found);
    if found.is_empty() {
        let mut merged = skeleton();
        merge(&mut merged, patch);
        restricted(&merged, &mut found);
    }
    found
}

/// Merges a patch into a template.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(fields) = target else { return };
    for (name, change) in changes {
        match (change, merge_key(name)) {
            (Value::Null, _) => {
                fields.shift_remove(name);
            }
            (Value::Array(changes), Some(key)) => {
                let list = fields.entry(name).or_insert_with(|| json!([]));
                merge_list(list, changes, key);
            }
            (Value::Object(_), _) => merge(fields.entry(name).or_insert_with(|| json!({})), change),
            _ => {
                fields.insert(name.clone(), change.clone());
            }
        }
    }
}

fn merge_key(list: &str) -> Option<&'static str> {
    match list {
        "containers" | "volumes" | "env" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "hostAliases" => Some("ip"),
        _ => None,
    }
}

fn merge_list(list: &mut Value, changes: &[Value], key: &str) {
    if !list.is_array() {
        *list = json!([]);
    }
    let Value::Array(items) = list else { return };
    for change in changes {
        match items.iter_mut().find(|item| item.get(key).is_some() && item.get(key) == change.get(key)) {
            Some(item) => merge(item, change),
            None => items.push(change.clone()),
        }
    }
}

fn check_shape(patch: &Value, found: &mut Vec<ParameterProblem>) {
    let mut refuse =
        |field: String, message: String| found.push(ParameterProblem::new(format!("dataPlane.pod{field}"), message));
    let Some(parts) = fields_of(patch, "", &mut refuse) else { return };
    for (name, part) in parts {
        match name.as_str() {
            "metadata" => check_metadata(part, &mut refuse),
            "spec" => check_spec(part, &mut refuse),
            _ => refuse(format!(".{name}"), "a patch of the pod has the fields metadata and spec".to_owned()),
        }
    }
}

fn fields_of<'a>(
    value: &'a Value,
    field: &str,
    refuse: &mut impl FnMut(String, String),
) -> Option<&'a Map<String, Value>> {
    let fields = value.as_object();
    if fields.is_none() {
        refuse(field.to_owned(), "must be a map of fields".to_owned());
    }
    fields
}

fn items_of<'a>(value: &'a Value, field: &str, refuse: &mut impl FnMut(String, String)) -> &'a [Value] {
    match value.as_array() {
        Some(items) if items.iter().all(Value::is_object) => items,
        _ => {
            refuse(field.to_owned(), "must be a list of maps".to_owned());
            &[]
        }
    }
}

fn check_metadata(metadata: &Value, refuse: &mut impl FnMut(String, String)) {
    for name in fields_of(metadata, ".metadata", refuse).into_iter().flat_map(Map::keys) {
        let remedy = match name.as_str() {
            "labels" => "set dataPlane.podLabels instead",
            "annotations" => "set dataPlane.podAnnotations instead",
            _ => "a patch may not set it",
        };
        refuse(format!(".metadata.{name}"), remedy.to_owned());
    }
}

fn check_spec(spec: &Value, refuse: &mut impl FnMut(String, String)) {
    for (name, value) in fields_of(spec, ".spec", refuse).into_iter().flatten() {
        let field = format!(".spec.{name}");
        match name.as_str() {
            "containers" => {
                for (index, container) in items_of(value, &field, refuse).iter().enumerate() {
                    check_container(container, &format!("{field}[{index}]"), refuse);
                }
            }
            "volumes" => check_volumes(value, &field, refuse),
            known if SPEC_FIELDS.contains(&known) => {
                if value.is_null() {
                    refuse(field, "a patch may not take it away".to_owned());
                }
            }
            "terminationGracePeriodSeconds" => {
                refuse(field, "follows from dataPlane.shutdownDelay and dataPlane.drainTimeout".to_owned());
            }
            "imagePullSecrets" | "priorityClassName" => refuse(field, format!("set dataPlane.{name} instead")),
            _ => refuse(field, format!("a patch may set only {}", SPEC_FIELDS.join(", "))),
        }
    }
}

fn check_container(container: &Value, field: &str, refuse: &mut impl FnMut(String, String)) {
    if container.get("name").and_then(Value::as_str) != Some(CONTAINER) {
        let message =
            format!("only the container {CONTAINER:?} can be patched: no other runs in the pod of a data plane");
        return refuse(format!("{field}.name"), message);
    }
    for (name, value) in container.as_object().into_iter().flatten() {
        let here = format!("{field}.{name}");
        match name.as_str() {
            "env" => {
                for (index, variable) in items_of(value, &here, refuse).iter().enumerate() {
                    let name = variable.get("name").and_then(Value::as_str).unwrap_or_default();
                    if name.starts_with("PORTCULLIS_") || matches!(name, "" | "POD_NAME") {
                        let message = "the settings of the data plane come from its parameters".to_owned();
                        refuse(format!("{here}[{index}].name"), message);
                    }
                }
            }
            // Names with the prefix of our settings could be in there.
            "envFrom" => refuse(here, "list the variables in env".to_owned()),
            "volumeMounts" => {
                for (index, mount) in items_of(value, &here, refuse).iter().enumerate() {
                    let path = mount.get("mountPath").and_then(Value::as_str).unwrap_or_default();
                    if !path.starts_with('/') || shadows_ours(path) {
                        let message = format!("a path outside of {MOUNT_ROOT} and of what is above it");
                        refuse(format!("{here}[{index}].mountPath"), message);
                    }
                }
            }
            known if CONTAINER_FIELDS.contains(&known) => {
                if value.is_null() {
                    refuse(here, "a patch may not take it away".to_owned());
                }
            }
            _ => refuse(here, format!("a patch may set only {}", CONTAINER_FIELDS.join(", "))),
        }
    }
}

/// Whether a mount at this path would cover our files or the program: `/`, `/var`, anything below our folder, or a path with
/// segments that mean something else than they say.
fn shadows_ours(path: &str) -> bool {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) || segments.first() == Some(&"portcullis") {
        return true;
    }
    let root: Vec<&str> = MOUNT_ROOT.split('/').filter(|segment| !segment.is_empty()).collect();
    segments.iter().zip(&root).all(|(one, other)| one == other)
}

/// Kinds of volumes that the restricted profile knows.
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

fn check_volumes(value: &Value, field: &str, refuse: &mut impl FnMut(String, String)) {
    for (index, volume) in items_of(value, field, refuse).iter().enumerate() {
        let here = format!("{field}[{index}]");
        let name = volume.get("name").and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() || name.starts_with("portcullis-") {
            refuse(format!("{here}.name"), "a name that does not begin with \"portcullis-\"".to_owned());
        }
        // A token for an audience that the patch chooses would speak for the data plane elsewhere.
        let sources = volume.pointer("/projected/sources").and_then(Value::as_array);
        if sources.is_some_and(|sources| sources.iter().any(|source| source.get("serviceAccountToken").is_some())) {
            refuse(format!("{here}.projected.sources"), "no tokens of the data plane's ServiceAccount".to_owned());
        }
    }
}

/// What of a template does not fit the restricted profile, version 1.33, and a read-only root.
fn restricted(template: &Value, found: &mut Vec<ParameterProblem>) {
    let spec = &template["spec"];
    let mut refuse = |field: &str, message: &str| {
        found.push(ParameterProblem::new(
            format!("dataPlane.pod.spec{field}"),
            format!("{message} (restricted Pod Security)"),
        ));
    };
    for name in ["hostNetwork", "hostPID", "hostIPC"] {
        if !matches!(spec.get(name), None | Some(Value::Bool(false))) {
            refuse(&format!(".{name}"), "must be absent or false");
        }
    }
    check_volume_kinds(&spec["volumes"], &mut refuse);
    let pod = &spec["securityContext"];
    check_context(pod, ".securityContext", &mut refuse);
    check_sysctls(&pod["sysctls"], &mut refuse);
    if pod.get("supplementalGroups").is_some() {
        // Allowed by the profile, with the group of root as well.
        let groups = pod["supplementalGroups"].as_array().map(Vec::as_slice).unwrap_or_default();
        if groups.iter().any(|group| group.as_i64() == Some(0)) {
            refuse(".securityContext.supplementalGroups", "must not contain the group of root");
        }
    }
    for (index, container) in spec["containers"].as_array().into_iter().flatten().enumerate() {
        let field = format!(".containers[{index}].securityContext");
        let own = &container["securityContext"];
        check_context(own, &field, &mut refuse);
        check_container_context(own, &field, &mut refuse);
        let effective = |name: &str| own.get(name).or_else(|| pod.get(name)).cloned().unwrap_or(Value::Null);
        if effective("runAsNonRoot") != Value::Bool(true) {
            refuse(&format!("{field}.runAsNonRoot"), "must be true");
        }
        let profile = effective("seccompProfile");
        if !matches!(profile["type"].as_str(), Some("RuntimeDefault" | "Localhost")) {
            refuse(&format!("{field}.seccompProfile.type"), "must be RuntimeDefault or Localhost");
        }
    }
}

fn check_volume_kinds(volumes: &Value, refuse: &mut impl FnMut(&str, &str)) {
    for (index, volume) in volumes.as_array().into_iter().flatten().enumerate() {
        for kind in volume.as_object().into_iter().flat_map(Map::keys).filter(|kind| *kind != "name") {
            if !VOLUMES.contains(&kind.as_str()) {
                let message = format!("a volume must be one of {}", VOLUMES.join(", "));
                refuse(&format!(".volumes[{index}].{kind}"), &message);
            }
        }
    }
}

/// What holds for the security context of a pod and of a container alike.
fn check_context(context: &Value, field: &str, refuse: &mut impl FnMut(&str, &str)) {
    if !matches!(context.get("runAsNonRoot"), None | Some(Value::Bool(true))) {
        refuse(&format!("{field}.runAsNonRoot"), "must be true");
    }
    for name in ["runAsUser", "runAsGroup", "fsGroup"] {
        // The profile refuses the user of root only; its group has no use here either.
        if context.get(name).is_some_and(|id| id.as_i64().is_none_or(|id| id <= 0)) {
            refuse(&format!("{field}.{name}"), "must be greater than 0");
        }
    }
    if let Some(profile) = context.get("seccompProfile")
        && !matches!(profile["type"].as_str(), Some("RuntimeDefault" | "Localhost"))
    {
        refuse(&format!("{field}.seccompProfile.type"), "must be RuntimeDefault or Localhost");
    }
    if let Some(profile) = context.get("appArmorProfile")
        && !matches!(profile["type"].as_str(), Some("RuntimeDefault" | "Localhost"))
    {
        refuse(&format!("{field}.appArmorProfile.type"), "must be RuntimeDefault or Localhost");
    }
    if let Some(options) = context.get("seLinuxOptions") {
        let kinds = ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
        if options
            .get("type")
            .is_some_and(|kind| !kind.as_str().is_some_and(|kind| kind.is_empty() || kinds.contains(&kind)))
        {
            refuse(&format!("{field}.seLinuxOptions.type"), &format!("must be one of {}", kinds.join(", ")));
        }
        for name in ["user", "role"] {
            if options.get(name).is_some_and(|text| text != "") {
                refuse(&format!("{field}.seLinuxOptions.{name}"), "must be absent");
            }
        }
    }
    if context.pointer("/windowsOptions/hostProcess").is_some_and(|value| *value != Value::Bool(false)) {
        refuse(&format!("{field}.windowsOptions.hostProcess"), "must be absent or false");
    }
}

fn check_container_context(context: &Value, field: &str, refuse: &mut impl FnMut(&str, &str)) {
    if !matches!(context.get("privileged"), None | Some(Value::Bool(false))) {
        refuse(&format!("{field}.privileged"), "must be absent or false");
    }
    if context["allowPrivilegeEscalation"] != Value::Bool(false) {
        refuse(&format!("{field}.allowPrivilegeEscalation"), "must be false");
    }
    if context["readOnlyRootFilesystem"] != Value::Bool(true) {
        refuse(&format!("{field}.readOnlyRootFilesystem"), "must be true");
    }
    if !matches!(context.get("procMount").and_then(Value::as_str), None | Some("Default")) {
        refuse(&format!("{field}.procMount"), "must be absent or Default");
    }
    let drops = context.pointer("/capabilities/drop").and_then(Value::as_array);
    if !drops.is_some_and(|drops| drops.iter().any(|name| name == "ALL")) {
        refuse(&format!("{field}.capabilities.drop"), "must contain ALL");
    }
    // The profile allows NET_BIND_SERVICE; a data plane does not need it.
    if !matches!(context.pointer("/capabilities/add"), None | Some(Value::Null))
        && context.pointer("/capabilities/add") != Some(&json!([]))
    {
        refuse(&format!("{field}.capabilities.add"), "must be absent");
    }
}

/// Safe sysctls of the profile.
const SYSCTLS: [&str; 11] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
];

fn check_sysctls(sysctls: &Value, refuse: &mut impl FnMut(&str, &str)) {
    let mut binds_low_ports = false;
    for (index, sysctl) in sysctls.as_array().into_iter().flatten().enumerate() {
        let name = sysctl["name"].as_str().unwrap_or_default();
        if !SYSCTLS.contains(&name) {
            let message = format!("must be one of {}", SYSCTLS.join(", "));
            refuse(&format!(".securityContext.sysctls[{index}].name"), &message);
        }
        binds_low_ports |= name == "net.ipv4.ip_unprivileged_port_start";
    }
    if !binds_low_ports {
        refuse(
            ".securityContext.sysctls",
            "must keep net.ipv4.ip_unprivileged_port_start: listeners have ports below 1024",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(patch: &Value) -> Vec<String> {
        problems(patch).iter().map(ToString::to_string).collect()
    }

    fn of_spec(spec: Value) -> Value {
        json!({"spec": spec})
    }

    fn of_container(mut container: Value) -> Value {
        container["name"] = json!(CONTAINER);
        of_spec(json!({"containers": [container]}))
    }

    #[test]
    fn what_a_patch_may_do() {
        for patch in [
            json!({}),
            of_spec(json!({})),
            of_spec(
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.1"]}, "runtimeClassName": "gvisor"}),
            ),
            of_spec(
                json!({"hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}], "schedulerName": "other", "hostUsers": false}),
            ),
            of_spec(json!({"securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}})),
            of_spec(
                json!({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"}}}),
            ),
            of_spec(json!({"securityContext": {"seLinuxOptions": {"type": "container_t", "level": "s0:c1"}}})),
            of_spec(
                json!({"volumes": [{"name": "extra", "configMap": {"name": "c"}}, {"name": "scratch", "emptyDir": {}}]}),
            ),
            of_container(
                json!({"env": [{"name": "TZ", "value": "UTC"}], "volumeMounts": [{"name": "extra", "mountPath": "/etc/extra"}]}),
            ),
            of_container(json!({"resources": {"limits": {"memory": "1Gi"}}, "imagePullPolicy": "Always"})),
            of_container(json!({"securityContext": {"capabilities": {"add": []}, "privileged": false}})),
        ] {
            assert_eq!(said(&patch), Vec::<String>::new(), "{patch}");
        }
    }

    #[test]
    fn what_a_patch_may_not_do() {
        let sysctls = |name: &str| of_spec(json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}}));
        for (patch, expected) in [
            (json!([]), "dataPlane.pod: must be a map of fields"),
            (json!({"kind": "Pod"}), "dataPlane.pod.kind: a patch of the pod has the fields metadata and spec"),
            (json!({"metadata": {"labels": {}}}), "dataPlane.pod.metadata.labels: set dataPlane.podLabels instead"),
            (json!({"metadata": {"name": "a"}}), "dataPlane.pod.metadata.name: a patch may not set it"),
            (of_spec(json!({"hostNetwork": true})), "dataPlane.pod.spec.hostNetwork: a patch may set only"),
            (
                of_spec(json!({"serviceAccountName": "admin"})),
                "dataPlane.pod.spec.serviceAccountName: a patch may set only",
            ),
            (
                of_spec(json!({"automountServiceAccountToken": true})),
                "dataPlane.pod.spec.automountServiceAccountToken: ",
            ),
            (of_spec(json!({"initContainers": []})), "dataPlane.pod.spec.initContainers: a patch may set only"),
            (of_spec(json!({"nodeName": "n"})), "dataPlane.pod.spec.nodeName: a patch may set only"),
            (of_spec(json!({"terminationGracePeriodSeconds": 0})), "follows from dataPlane.shutdownDelay"),
            (of_spec(json!({"imagePullSecrets": []})), "set dataPlane.imagePullSecrets instead"),
            (
                of_spec(json!({"securityContext": null})),
                "dataPlane.pod.spec.securityContext: a patch may not take it away",
            ),
            (of_spec(json!({"containers": {}})), "dataPlane.pod.spec.containers: must be a list of maps"),
            (of_spec(json!({"containers": [1]})), "dataPlane.pod.spec.containers: must be a list of maps"),
            (
                of_spec(json!({"containers": [{"name": "sidecar", "image": "x"}]})),
                "only the container \"data-plane\" can be patched",
            ),
            (of_container(json!({"image": "x"})), "dataPlane.pod.spec.containers[0].image: a patch may set only"),
            (of_container(json!({"args": []})), "dataPlane.pod.spec.containers[0].args: a patch may set only"),
            (
                of_container(json!({"lifecycle": {}})),
                "dataPlane.pod.spec.containers[0].lifecycle: a patch may set only",
            ),
            (
                of_container(json!({"ports": [{"hostPort": 80}]})),
                "dataPlane.pod.spec.containers[0].ports: a patch may set only",
            ),
            (of_container(json!({"envFrom": []})), "containers[0].envFrom: list the variables in env"),
            (
                of_container(json!({"env": [{"name": "PORTCULLIS_CONTROLLER", "value": "x"}]})),
                "containers[0].env[0].name: ",
            ),
            (
                of_container(json!({"volumeMounts": [{"name": "a", "mountPath": "/var/run/portcullis/ca"}]})),
                "volumeMounts[0].mountPath: ",
            ),
            (
                of_container(json!({"volumeMounts": [{"name": "a", "mountPath": "/var/run"}]})),
                "volumeMounts[0].mountPath: ",
            ),
            (of_container(json!({"volumeMounts": [{"name": "a", "mountPath": "/"}]})), "volumeMounts[0].mountPath: "),
            (
                of_container(json!({"volumeMounts": [{"name": "a", "mountPath": "/portcullis"}]})),
                "volumeMounts[0].mountPath: ",
            ),
            (
                of_container(json!({"volumeMounts": [{"name": "a", "mountPath": "/x/../var/run"}]})),
                "volumeMounts[0].mountPath: ",
            ),
            (
                of_container(json!({"volumeMounts": [{"name": "a", "mountPath": "/var//run/./portcullis"}]})),
                "volumeMounts[0].mountPath: ",
            ),
            (
                of_spec(json!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]})),
                "spec.volumes[0].hostPath: a volume must be one of",
            ),
            (of_spec(json!({"volumes": [{"name": "a", "nfs": {}}]})), "spec.volumes[0].nfs: a volume must be one of"),
            (
                of_spec(json!({"volumes": [{"name": "portcullis-ca", "emptyDir": {}}]})),
                "spec.volumes[0].name: a name that",
            ),
            (
                of_spec(
                    json!({"volumes": [{"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}),
                ),
                "spec.volumes[0].projected.sources: no tokens",
            ),
            (
                of_spec(json!({"securityContext": {"runAsNonRoot": false}})),
                "spec.securityContext.runAsNonRoot: must be true",
            ),
            (
                of_spec(json!({"securityContext": {"runAsUser": 0}})),
                "spec.securityContext.runAsUser: must be greater than 0",
            ),
            (
                of_spec(json!({"securityContext": {"runAsUser": "0"}})),
                "spec.securityContext.runAsUser: must be greater than 0",
            ),
            (
                of_spec(json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}})),
                "seccompProfile.type: must be",
            ),
            (
                of_spec(json!({"securityContext": {"seccompProfile": null}})),
                "seccompProfile.type: must be RuntimeDefault",
            ),
            (
                of_spec(json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}})),
                "appArmorProfile.type: must be",
            ),
            (
                of_spec(json!({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}})),
                "seLinuxOptions.type: must be one of",
            ),
            (
                of_spec(json!({"securityContext": {"seLinuxOptions": {"user": "system_u"}}})),
                "seLinuxOptions.user: must be absent",
            ),
            (
                of_spec(json!({"securityContext": {"windowsOptions": {"hostProcess": true}}})),
                "windowsOptions.hostProcess: ",
            ),
            (of_spec(json!({"securityContext": {"supplementalGroups": [0]}})), "supplementalGroups: must not contain"),
            (sysctls("kernel.msgmax"), "spec.securityContext.sysctls[0].name: must be one of"),
            (sysctls("net.ipv4.tcp_syncookies"), "must keep net.ipv4.ip_unprivileged_port_start"),
            (
                of_container(json!({"securityContext": {"privileged": true}})),
                "securityContext.privileged: must be absent or false",
            ),
            (
                of_container(json!({"securityContext": {"allowPrivilegeEscalation": true}})),
                "allowPrivilegeEscalation: must be false",
            ),
            (
                of_container(json!({"securityContext": {"allowPrivilegeEscalation": null}})),
                "allowPrivilegeEscalation: must be false",
            ),
            (
                of_container(json!({"securityContext": {"readOnlyRootFilesystem": false}})),
                "readOnlyRootFilesystem: must be true",
            ),
            (
                of_container(json!({"securityContext": {"capabilities": {"add": ["NET_RAW"]}}})),
                "capabilities.add: must be absent",
            ),
            (of_container(json!({"securityContext": {"capabilities": null}})), "capabilities.drop: must contain ALL"),
            (
                of_container(json!({"securityContext": {"capabilities": {"drop": ["NET_RAW"]}}})),
                "capabilities.drop: must contain ALL",
            ),
            (
                of_container(json!({"securityContext": {"procMount": "Unmasked"}})),
                "procMount: must be absent or Default",
            ),
            (
                of_container(json!({"securityContext": {"runAsUser": 0}})),
                "containers[0].securityContext.runAsUser: must be",
            ),
            (of_container(json!({"securityContext": "none"})), "allowPrivilegeEscalation: must be false"),
        ] {
            let said = said(&patch);
            assert!(said.iter().any(|problem| problem.contains(expected)), "{patch}: {said:?}");
        }
    }

    #[test]
    fn the_skeleton_is_restricted() {
        let mut found = Vec::new();
        restricted(&skeleton(), &mut found);
        assert_eq!(found, []);
    }

    #[test]
    fn merging() {
        for (target, patch, expected) in [
            (json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2})),
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null}}), json!({"a": {"c": 2}})),
            (json!({"args": ["a"]}), json!({"args": ["b"]}), json!({"args": ["b"]})),
            (
                json!({"containers": [{"name": "a", "x": 1}]}),
                json!({"containers": [{"name": "a", "y": 2}, {"name": "b"}]}),
                json!({"containers": [{"name": "a", "x": 1, "y": 2}, {"name": "b"}]}),
            ),
            (json!({"env": 1}), json!({"env": [{"name": "A"}]}), json!({"env": [{"name": "A"}]})),
            (json!({"a": 1}), json!({"a": {"b": null}}), json!({"a": {}})),
            (json!({}), json!({"a": {"b": null, "c": 1}}), json!({"a": {"c": 1}})),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, expected, "{target} {patch}");
        }
    }
}
