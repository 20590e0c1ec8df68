//! The core kinds, which have no CRD: the rules of the API server that matter to a gateway, by hand.
//!
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/> and the validation of Kubernetes 1.33. One
//! difference: an EndpointSlice may have loopback addresses, as a folder has nothing else to point at.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value, json};

use super::metadata::{self, LABEL, NameRule, SUBDOMAIN, is_label, is_qualified_name, is_subdomain};
use super::path::Trail;
use super::violation::{Validation, ViolationKind};
use crate::object::Scope;

/// The most that a Secret or a ConfigMap may hold, in bytes.
const MAX_DATA: usize = 1024 * 1024;

struct CoreKind {
    api_version: &'static str,
    kind: &'static str,
    scope: Scope,
    name: NameRule,
    check: fn(&mut Map<String, Value>, &mut Validation),
}

const KINDS: &[CoreKind] = &[
    CoreKind {
        api_version: "v1",
        kind: "Service",
        scope: Scope::Namespaced,
        name: NameRule::Label1035,
        check: check_service,
    },
    CoreKind {
        api_version: "v1",
        kind: "Secret",
        scope: Scope::Namespaced,
        name: NameRule::Subdomain,
        check: check_secret,
    },
    CoreKind {
        api_version: "v1",
        kind: "ConfigMap",
        scope: Scope::Namespaced,
        name: NameRule::Subdomain,
        check: check_config_map,
    },
    CoreKind {
        api_version: "v1",
        kind: "Namespace",
        scope: Scope::Cluster,
        name: NameRule::Label,
        check: check_nothing,
    },
    CoreKind {
        api_version: "v1",
        kind: "Node",
        scope: Scope::Cluster,
        name: NameRule::Subdomain,
        check: check_nothing,
    },
    CoreKind {
        api_version: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        scope: Scope::Namespaced,
        name: NameRule::Subdomain,
        check: check_endpoint_slice,
    },
    CoreKind {
        api_version: "certificates.k8s.io/v1beta1",
        kind: "ClusterTrustBundle",
        scope: Scope::Cluster,
        name: NameRule::PathSegment,
        check: check_trust_bundle,
    },
    CoreKind {
        api_version: "certificates.k8s.io/v1alpha1",
        kind: "ClusterTrustBundle",
        scope: Scope::Cluster,
        name: NameRule::PathSegment,
        check: check_trust_bundle,
    },
];

fn find(api_version: &str, kind: &str) -> Option<&'static CoreKind> {
    KINDS.iter().find(|known| known.kind == kind && known.api_version == api_version)
}

/// Where objects of a core kind live.
pub(super) fn scope(api_version: &str, kind: &str) -> Option<Scope> {
    find(api_version, kind).map(|known| known.scope)
}

/// Sets the defaults of an object of a core kind and checks it.
pub(super) fn validate(api_version: &str, kind: &str, object: &mut Value, validation: &mut Validation) {
    let Some(known) = find(api_version, kind) else {
        return;
    };
    metadata::check(object, Some(known.scope), known.name, validation);
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
        (known.check)(fields, validation);
    }
}

fn check_nothing(_: &mut Map<String, Value>, _: &mut Validation) {}

/// A map being checked: typed access to its fields, each mistake reported once.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    trail: Trail<'a>,
}

impl<'a> Fields<'a> {
    fn known(&self, known: &[&str], validation: &mut Validation) {
        for name in self.map.keys().filter(|name| !known.contains(&name.as_str())) {
            validation.unknown_field(self.trail.field(name), name, known.iter().copied());
        }
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str, validation: &mut Validation) -> Option<&'a str> {
        let value = self.value(name)?;
        if !value.is_string() {
            validation.wrong_type(self.trail.field(name), value, "string");
        }
        value.as_str()
    }

    fn list(&self, name: &str, validation: &mut Validation) -> Option<&'a [Value]> {
        let value = self.value(name)?;
        if !value.is_array() {
            validation.wrong_type(self.trail.field(name), value, "array");
        }
        value.as_array().map(Vec::as_slice)
    }

    fn map(&self, name: &str, validation: &mut Validation) -> Option<&'a Map<String, Value>> {
        let value = self.value(name)?;
        if !value.is_object() {
            validation.wrong_type(self.trail.field(name), value, "object");
        }
        value.as_object()
    }

    /// One of a few texts.
    fn choice(&self, name: &str, choices: &[&str], validation: &mut Validation) -> Option<&'a str> {
        let text = self.text(name, validation)?;
        if !choices.contains(&text) {
            let choices: Vec<Value> = choices.iter().copied().map(Value::from).collect();
            validation.unsupported(self.trail.field(name), &Value::from(text), &choices);
        }
        Some(text)
    }

    /// A port number.
    fn port(&self, name: &str, validation: &mut Validation) -> Option<i64> {
        let value = self.value(name)?;
        let Some(number) = value.as_i64() else {
            validation.wrong_type(self.trail.field(name), value, "integer");
            return None;
        };
        if !(1..=65535).contains(&number) {
            validation.invalid(self.trail.field(name), value, "must be between 1 and 65535, inclusive");
        }
        Some(number)
    }
}

fn set_default(fields: &mut Map<String, Value>, name: &str, default: impl Into<Value>) {
    if fields.get(name).is_none_or(Value::is_null) {
        fields.insert(name.to_owned(), default.into());
    }
}

fn each_object(list: Option<&mut Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    list.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

fn check_service(object: &mut Map<String, Value>, validation: &mut Validation) {
    set_default(object, "spec", json!({}));
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        set_default(spec, "type", "ClusterIP");
        for port in each_object(spec.get_mut("ports")) {
            set_default(port, "protocol", "TCP");
            if let Some(number) = port.get("port").cloned() {
                set_default(port, "targetPort", number);
            }
        }
    }
    let root = Fields { map: object, trail: Trail::ROOT };
    root.known(&["apiVersion", "kind", "metadata", "spec", "status"], validation);
    let Some(spec) = root.map("spec", validation) else {
        return;
    };
    let spec = Fields { map: spec, trail: root.trail.field("spec") };
    spec.known(&SERVICE_SPEC, validation);
    let kind = spec.choice("type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], validation);
    let headless = spec.text("clusterIP", validation) == Some("None");
    if kind == Some("ExternalName") {
        check_external_name(&spec, validation);
    } else if spec.value("ports").is_none() && !headless {
        validation.required(
            spec.trail.field("ports"),
            "a Service that is neither headless nor of type ExternalName has ports",
        );
    }
    check_string_map(&spec, "selector", validation);
    if let Some(ports) = spec.list("ports", validation) {
        check_service_ports(ports, spec.trail.field("ports"), validation);
    }
}

const SERVICE_SPEC: [&str; 20] = [
    "allocateLoadBalancerNodePorts",
    "clusterIP",
    "clusterIPs",
    "externalIPs",
    "externalName",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "internalTrafficPolicy",
    "ipFamilies",
    "ipFamilyPolicy",
    "loadBalancerClass",
    "loadBalancerIP",
    "loadBalancerSourceRanges",
    "ports",
    "publishNotReadyAddresses",
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "trafficDistribution",
    "type",
];

fn check_external_name(spec: &Fields<'_>, validation: &mut Validation) {
    let field = spec.trail.field("externalName");
    match spec.text("externalName", validation) {
        None | Some("") => validation.required(field, "a Service of type ExternalName names a host"),
        Some(name) if !is_subdomain(name.strip_suffix('.').unwrap_or(name)) => {
            validation.invalid(field, &Value::String(name.to_owned()), SUBDOMAIN);
        }
        Some(_) => {}
    }
    if spec.value("clusterIP").is_some_and(|address| !matches!(address.as_str(), Some("" | "None"))) {
        let message = "Forbidden: may not be set when `type` is 'ExternalName'";
        validation.add(spec.trail.field("clusterIP"), ViolationKind::Forbidden, message);
    }
}

fn check_service_ports(ports: &[Value], trail: Trail<'_>, validation: &mut Validation) {
    let mut numbers = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let here = trail.index(index);
        let Some(map) = port.as_object() else {
            validation.wrong_type(here, port, "object");
            continue;
        };
        let fields = Fields { map, trail: here };
        fields.known(&["appProtocol", "name", "nodePort", "port", "protocol", "targetPort"], validation);
        if fields.value("port").is_none() {
            validation.required(here.field("port"), "");
        }
        let number = fields.port("port", validation);
        let protocol = fields.choice("protocol", &PROTOCOLS, validation);
        if number.is_some() && !numbers.insert((protocol, number)) {
            let key = json!({"port": number, "protocol": protocol});
            validation.add(here, ViolationKind::Duplicate, format!("Duplicate value: {key}"));
        }
        if ports.len() > 1 && fields.value("name").is_none() {
            validation.required(here.field("name"), "each port of several has a name");
        }
        check_target_port(&fields, validation);
        check_port_name(&fields, validation);
    }
    check_unique_names(ports, trail, validation);
}

/// A number, or the name of a port of the pods.
fn check_target_port(fields: &Fields<'_>, validation: &mut Validation) {
    match fields.value("targetPort") {
        None => {}
        // A target that repeats a port that is out of range is the same mistake.
        Some(Value::Number(_)) if fields.value("targetPort") == fields.value("port") => {}
        Some(Value::Number(_)) => {
            fields.port("targetPort", validation);
        }
        Some(Value::String(name)) if is_label(name) && name.len() <= 15 => {}
        Some(other) => {
            let why =
                "must be a port number, or the name of a port of at most 15 lower case alphanumeric characters or '-'";
            validation.invalid(fields.trail.field("targetPort"), other, why);
        }
    }
}

fn check_port_name(fields: &Fields<'_>, validation: &mut Validation) {
    if let Some(name) = fields.text("name", validation)
        && !name.is_empty()
        && !is_label(name)
    {
        validation.invalid(fields.trail.field("name"), &Value::String(name.to_owned()), LABEL);
    }
    if let Some(protocol) = fields.text("appProtocol", validation)
        && !is_qualified_name(protocol)
    {
        let why =
            "must be the name of a protocol, with an optional DNS subdomain prefix and '/' (e.g. 'kubernetes.io/h2c')";
        validation.invalid(fields.trail.field("appProtocol"), &Value::String(protocol.to_owned()), why);
    }
}

fn check_unique_names(ports: &[Value], trail: Trail<'_>, validation: &mut Validation) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        if let Some(name) = port.get("name").and_then(Value::as_str)
            && !names.insert(name)
        {
            let here = trail.index(index);
            let message = format!("Duplicate value: {}", super::violation::shown(&Value::String(name.to_owned())));
            validation.add(here.field("name"), ViolationKind::Duplicate, message);
        }
    }
}

fn check_string_map(fields: &Fields<'_>, name: &str, validation: &mut Validation) {
    let trail = fields.trail.field(name);
    for (key, value) in fields.map(name, validation).into_iter().flatten() {
        if !value.is_string() {
            validation.wrong_type(trail.key(key), value, "string");
        }
    }
}

fn check_endpoint_slice(object: &mut Map<String, Value>, validation: &mut Validation) {
    for port in each_object(object.get_mut("ports")) {
        set_default(port, "protocol", "TCP");
        set_default(port, "name", "");
    }
    let root = Fields { map: object, trail: Trail::ROOT };
    root.known(&["addressType", "apiVersion", "endpoints", "kind", "metadata", "ports"], validation);
    let address_type = root.choice("addressType", &["FQDN", "IPv4", "IPv6"], validation);
    if root.value("addressType").is_none() {
        validation.required(root.trail.field("addressType"), "one of \"IPv4\", \"IPv6\", \"FQDN\"");
    }
    let endpoints = root.list("endpoints", validation).unwrap_or_default();
    if endpoints.len() > 1000 {
        let message = format!("Too many: {}: must have at most 1000 items", endpoints.len());
        validation.add(root.trail.field("endpoints"), ViolationKind::TooMany, message);
    }
    let trail = root.trail.field("endpoints");
    for (index, endpoint) in endpoints.iter().take(1000).enumerate() {
        check_endpoint(endpoint, address_type, trail.index(index), validation);
    }
    if let Some(ports) = root.list("ports", validation) {
        check_endpoint_ports(ports, root.trail.field("ports"), validation);
    }
}

fn check_endpoint(endpoint: &Value, address_type: Option<&str>, trail: Trail<'_>, validation: &mut Validation) {
    let Some(map) = endpoint.as_object() else {
        return validation.wrong_type(trail, endpoint, "object");
    };
    let fields = Fields { map, trail };
    let known = ["addresses", "conditions", "deprecatedTopology", "hints", "hostname", "nodeName", "targetRef", "zone"];
    fields.known(&known, validation);
    let addresses = fields.list("addresses", validation).unwrap_or_default();
    let here = trail.field("addresses");
    if addresses.is_empty() {
        return validation.required(here, "must contain at least 1 address");
    }
    if addresses.len() > 100 {
        let message = format!("Too many: {}: must have at most 100 items", addresses.len());
        return validation.add(here, ViolationKind::TooMany, message);
    }
    for (index, address) in addresses.iter().enumerate() {
        let Some(text) = address.as_str() else {
            validation.wrong_type(here.index(index), address, "string");
            continue;
        };
        let (holds, why) = match address_type {
            Some("IPv4") => (text.parse::<Ipv4Addr>().is_ok(), "must be an IPv4 address"),
            Some("IPv6") => (text.parse::<Ipv6Addr>().is_ok(), "must be an IPv6 address"),
            Some("FQDN") => (is_subdomain(text.strip_suffix('.').unwrap_or(text)), SUBDOMAIN),
            _ => (true, ""),
        };
        if !holds {
            validation.invalid(here.index(index), address, why);
        }
    }
}

fn check_endpoint_ports(ports: &[Value], trail: Trail<'_>, validation: &mut Validation) {
    for (index, port) in ports.iter().enumerate() {
        let here = trail.index(index);
        let Some(map) = port.as_object() else {
            validation.wrong_type(here, port, "object");
            continue;
        };
        let fields = Fields { map, trail: here };
        fields.known(&["appProtocol", "name", "port", "protocol"], validation);
        fields.port("port", validation);
        fields.choice("protocol", &PROTOCOLS, validation);
        check_port_name(&fields, validation);
    }
    check_unique_names(ports, trail, validation);
}

/// No message here may quote a value.
fn check_secret(object: &mut Map<String, Value>, validation: &mut Validation) {
    set_default(object, "type", "Opaque");
    let root = Fields { map: object, trail: Trail::ROOT };
    root.known(&["apiVersion", "data", "immutable", "kind", "metadata", "stringData", "type"], validation);
    let mut size = 0;
    for (name, is_base64) in [("data", true), ("stringData", false)] {
        let trail = root.trail.field(name);
        for (key, value) in object.get(name).and_then(Value::as_object).into_iter().flatten() {
            check_data_key(key, trail, validation);
            size += value.as_str().map_or(0, |text| if is_base64 { text.len() / 4 * 3 } else { text.len() });
            match value.as_str() {
                None if value.is_null() => {}
                None => validation.add(trail.key(key), ViolationKind::Type, "Invalid value: must be of type string"),
                Some(text) if is_base64 && !is_base64_text(text) => {
                    validation.add(
                        trail.key(key),
                        ViolationKind::Invalid,
                        "Invalid value: must be base64 (plain text goes in stringData)",
                    );
                }
                Some(_) => {}
            }
        }
        if object.get(name).is_some_and(|data| !data.is_object()) {
            validation.add(trail, ViolationKind::Type, "Invalid value: must be of type object");
        }
    }
    check_data_size(size, validation);
    if root.text("type", validation) == Some("kubernetes.io/tls") {
        for key in ["tls.crt", "tls.key"] {
            let holds = |name: &str| object.get(name).is_some_and(|data| data.get(key).is_some());
            if !holds("data") && !holds("stringData") {
                let trail = root.trail.field("data");
                validation.required(trail.key(key), "a Secret of type kubernetes.io/tls has tls.crt and tls.key");
            }
        }
    }
}

fn check_config_map(object: &mut Map<String, Value>, validation: &mut Validation) {
    let root = Fields { map: object, trail: Trail::ROOT };
    root.known(&["apiVersion", "binaryData", "data", "immutable", "kind", "metadata"], validation);
    check_string_map(&root, "data", validation);
    check_string_map(&root, "binaryData", validation);
    let mut size = 0;
    for name in ["data", "binaryData"] {
        let trail = root.trail.field(name);
        for (key, value) in object.get(name).and_then(Value::as_object).into_iter().flatten() {
            check_data_key(key, trail, validation);
            size += value.as_str().map_or(0, str::len);
            if name == "binaryData" && value.as_str().is_some_and(|text| !is_base64_text(text)) {
                validation.add(
                    trail.key(key),
                    ViolationKind::Invalid,
                    "Invalid value: must be base64 (plain text goes in data)",
                );
            }
            if name == "binaryData" && object.get("data").is_some_and(|data| data.get(key).is_some()) {
                validation.add(trail.key(key), ViolationKind::Duplicate, "Duplicate value: the key is in data as well");
            }
        }
    }
    check_data_size(size, validation);
}

fn check_data_key(key: &str, trail: Trail<'_>, validation: &mut Validation) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if key.is_empty() || key.len() > 253 || !key.bytes().all(allowed) || key == "." || key.starts_with("..") {
        let why = "a valid key consists of at most 253 alphanumeric characters, '-', '_' or '.'";
        validation.add(trail.key(key), ViolationKind::Invalid, format!("Invalid value: {why}"));
    }
}

fn check_data_size(size: usize, validation: &mut Validation) {
    if size > MAX_DATA {
        let message = format!("Too long: may not be more than {MAX_DATA} bytes");
        validation.add(Trail::ROOT.field("data"), ViolationKind::TooLong, message);
    }
}

/// RFC 4648, section 4, with padding; line breaks are ignored, as Go ignores them.
fn is_base64_text(text: &str) -> bool {
    let text = text.trim_end_matches(['\n', '\r']);
    let mut length = 0_usize;
    let mut padding = 0_usize;
    for byte in text.bytes().filter(|byte| !matches!(byte, b'\n' | b'\r')) {
        match byte {
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            _ => return false,
        }
        length += 1;
    }
    length.is_multiple_of(4) && padding <= 2
}

fn check_trust_bundle(object: &mut Map<String, Value>, validation: &mut Validation) {
    let root = Fields { map: object, trail: Trail::ROOT };
    root.known(&["apiVersion", "kind", "metadata", "spec"], validation);
    let Some(spec) = root.map("spec", validation) else {
        return validation.required(root.trail.field("spec"), "");
    };
    let spec = Fields { map: spec, trail: root.trail.field("spec") };
    spec.known(&["signerName", "trustBundle"], validation);
    let bundle = spec.text("trustBundle", validation).unwrap_or_default();
    if !bundle.contains("-----BEGIN CERTIFICATE-----") {
        validation.required(spec.trail.field("trustBundle"), "at least one certificate in PEM");
    }
    let signer = spec.text("signerName", validation).unwrap_or_default();
    let name =
        object.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Value::as_str).unwrap_or_default();
    let prefix = format!("{}:", signer.replace('/', ":"));
    if !signer.is_empty() && !name.starts_with(&prefix) {
        let why = format!("a bundle of signer {signer:?} has a name that starts with {prefix:?}");
        let trail = Trail::ROOT;
        let trail = trail.field("metadata");
        validation.invalid(trail.field("name"), &Value::String(name.to_owned()), &why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64() {
        for text in ["", "aGVsbG8=", "aGVsbG8K", "aA==", "aGVs\nbG8=\n"] {
            assert!(is_base64_text(text), "{text:?}");
        }
        for text in ["hello", "a", "aA=", "aA===", "=aaa", "a-b_", "aGVsbG8 "] {
            assert!(!is_base64_text(text), "{text:?}");
        }
    }
}
