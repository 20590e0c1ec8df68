//! The manifests that this program holds: `deploy/install.yaml`, and the Gateway API's definitions of both channels.

use super::gateway_api::Channel;
use super::resources;
use portcullis_api::manifest::{Limits, parse};
use serde_json::{Value, json};

const INSTALL: &str = include_str!("../../../../deploy/install.yaml");
const STANDARD: &str = include_str!("../../../../charts/portcullis-crds/gateway-api/standard.yaml");
const STANDARD_SAFE_UPGRADES: &str =
    include_str!("../../../../charts/portcullis-crds/gateway-api/safe-upgrades-standard.yaml");
const EXPERIMENTAL: &str = include_str!("../../../../charts/portcullis-crds/gateway-api/experimental.yaml");
const EXPERIMENTAL_SAFE_UPGRADES: &str =
    include_str!("../../../../charts/portcullis-crds/gateway-api/safe-upgrades-experimental.yaml");

/// The namespace of the manifests; nothing else in them has this text.
pub(crate) const NAMESPACE: &str = "portcullis-system";
/// The image of the manifests; nothing else in them has this text.
const IMAGE: &str = concat!("localhost/portcullis:", env!("CARGO_PKG_VERSION"));

/// What differs from the manifests as they are.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) namespace: String,
    image: Option<String>,
    replicas: Option<u32>,
}

impl Settings {
    /// What was typed, or what is wrong with it.
    pub(crate) fn new(namespace: &str, image: Option<&str>, replicas: Option<u32>) -> Result<Self, String> {
        let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = namespace.as_bytes();
        let ends = [bytes.first(), bytes.last()].iter().all(|end| end.is_some_and(letter));
        if !ends || bytes.len() > 63 || !bytes.iter().all(|byte| letter(byte) || *byte == b'-') {
            return Err(format!("--namespace {namespace:?} is no name of a namespace"));
        }
        if image.is_some_and(|image| image.is_empty() || image.contains(|c: char| c.is_whitespace() || c.is_control()))
        {
            return Err("--image is no name of an image, such as registry.example.com/portcullis:1.0.0".to_owned());
        }
        Ok(Self { namespace: namespace.to_owned(), image: image.map(str::to_owned), replicas })
    }
}

/// Everything of ours, in the order in which it is applied.
pub(crate) fn objects(settings: &Settings) -> Vec<Value> {
    let mut objects = documents(INSTALL);
    for object in &mut objects {
        replace(object, NAMESPACE, &settings.namespace);
        if let Some(image) = &settings.image {
            replace(object, IMAGE, image);
        }
        if let (Some(replicas), Some("Deployment")) = (settings.replicas, object["kind"].as_str()) {
            object["spec"]["replicas"] = json!(replicas);
        }
        without_helm(object);
    }
    // A role is there before what it is bound to, and the account before its pods.
    objects.sort_by_key(|object| match object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("CustomResourceDefinition") => 1,
        Some("ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding") => 2,
        Some("Deployment") => 4,
        Some("GatewayClass") => 5,
        _ => 3,
    });
    objects
}

/// The Gateway API's definitions of a channel, with the policy that guards their upgrades.
pub(crate) fn gateway_api(channel: Channel) -> Vec<Value> {
    let (definitions, safe_upgrades) = match channel {
        Channel::Standard => (STANDARD, STANDARD_SAFE_UPGRADES),
        Channel::Experimental => (EXPERIMENTAL, EXPERIMENTAL_SAFE_UPGRADES),
    };
    // A line for each, as JSON.
    let mut objects: Vec<Value> = definitions.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    objects.extend(documents(safe_upgrades));
    objects.iter_mut().for_each(without_helm);
    objects
}

/// Without the annotation by which Helm never deletes an object.
fn without_helm(object: &mut Value) {
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.shift_remove("helm.sh/resource-policy");
    }
}

/// Names of the Gateway API's definitions, and of the policy and binding that guard them.
pub(crate) fn gateway_api_of_any_channel() -> Vec<Value> {
    let mut objects = gateway_api(Channel::Experimental);
    for object in gateway_api(Channel::Standard) {
        if !objects.iter().any(|other| resources::display(other) == resources::display(&object)) {
            objects.push(object);
        }
    }
    objects
}

fn documents(text: &str) -> Vec<Value> {
    let manifest = parse("built-in", text, &Limits::default());
    manifest.documents.iter().map(|document| document.value().clone()).filter(Value::is_object).collect()
}

fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text.contains(from) => *text = text.replace(from, to),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, from, to)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, from, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::install::resources::Resource;

    fn settings(namespace: &str, image: Option<&str>, replicas: Option<u32>) -> Settings {
        Settings::new(namespace, image, replicas).unwrap()
    }

    #[test]
    fn every_object_is_of_a_kind_that_can_be_applied() {
        let ours = objects(&settings(NAMESPACE, None, None));
        assert!(ours.len() > 20);
        let separators = |text: &str| text.lines().filter(|line| *line == "---").count();
        assert_eq!(ours.len(), separators(INSTALL));
        for (channel, count) in [(Channel::Standard, 10), (Channel::Experimental, 14)] {
            let definitions = gateway_api(channel);
            assert_eq!(definitions.iter().filter(|object| resources::is_definition(object)).count(), count);
            assert_eq!(definitions.len(), count + 2);
            // The policy says that it is of the standard channel in both.
            for definition in definitions.iter().filter(|object| resources::is_definition(object)) {
                let annotations = &definition["metadata"]["annotations"];
                assert_eq!(annotations["gateway.networking.k8s.io/bundle-version"], portcullis_api::schema::VERSION);
                assert_eq!(annotations["gateway.networking.k8s.io/channel"], channel.to_string());
            }
        }
        for object in ours.iter().chain(&gateway_api_of_any_channel()) {
            assert!(Resource::of(object).is_some(), "{}", resources::display(object));
        }
    }

    #[test]
    fn helm_never_deletes_a_definition() {
        let parsed =
            |text: &str| -> Vec<Value> { text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect() };
        let mut all = [parsed(STANDARD), parsed(EXPERIMENTAL), documents(INSTALL)].concat();
        all.retain(resources::is_definition);
        assert_eq!(all.len(), 25);
        all.extend([STANDARD_SAFE_UPGRADES, EXPERIMENTAL_SAFE_UPGRADES].into_iter().flat_map(documents));
        for object in all {
            let policy = &object["metadata"]["annotations"]["helm.sh/resource-policy"];
            assert_eq!(policy, "keep", "{}", resources::display(&object));
        }
    }

    #[test]
    fn namespace_image_and_replicas_are_set_wherever_they_stand() {
        let objects = objects(&settings("edge", Some("registry.example.com/p:2"), Some(3)));
        let text = json!(objects).to_string();
        assert!(!text.contains(NAMESPACE) && !text.contains(IMAGE), "{text}");
        assert!(text.contains("system:serviceaccount:edge:portcullis-controller"));
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        assert_eq!(deployment["spec"]["replicas"], 3);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "registry.example.com/p:2");
        assert!(container["args"].as_array().unwrap().contains(&json!("--image=registry.example.com/p:2")));
        assert_eq!(objects[0]["metadata"]["name"], "edge");
    }

    #[test]
    fn what_is_no_namespace_or_image_is_refused() {
        for namespace in ["", "A", "-a", "a-", "a.b", "a_b", &"a".repeat(64)] {
            assert!(Settings::new(namespace, None, None).is_err(), "{namespace}");
        }
        for image in ["", "a b", "a\n"] {
            assert!(Settings::new("a", Some(image), None).is_err(), "{image}");
        }
    }
}
