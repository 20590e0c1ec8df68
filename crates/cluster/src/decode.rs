//! From the JSON of one object, as it stands in a list or in the line of a watch, to what is told of it. The JSON is
//! looked through for name and version first; only what is new is read, and without what nobody needs:
//! `metadata.managedFields` and kubectl's copy of the object.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use portcullis_api::object::ObjectError;
use portcullis_api::{Change, Object, ObjectKey};
use portcullis_model::ObjectName;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::kinds::{CUSTOM_GROUPS, Content, KindId, Watched};
use crate::owned::{self, Owned};
use crate::served::Definition;

/// What is told of one object.
#[derive(Debug)]
pub(crate) enum Item {
    Change(Change),
    Unparsable(ObjectKey, ObjectError),
    Owned(Owned),
    /// A Secret or ConfigMap is there in this version, or is gone.
    Body(ObjectName, Option<u64>),
    /// A CustomResourceDefinition, by its name; none if it is gone.
    Definition(Box<str>, Option<DefinitionNews>),
}

/// What a CustomResourceDefinition says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct DefinitionNews {
    pub(crate) uid: String,
    pub(crate) definition: Definition,
}

/// A page of a list.
#[derive(Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(borrow, default)]
    pub(crate) metadata: PageMeta<'a>,
    #[serde(borrow, default)]
    pub(crate) items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageMeta<'a> {
    #[serde(borrow, default)]
    pub(crate) resource_version: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) r#continue: Option<Cow<'a, str>>,
}

/// A line of a watch.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    #[serde(borrow)]
    pub(crate) r#type: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) object: &'a RawValue,
}

/// By what an object and its version are known.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    metadata: Head<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head<'a> {
    #[serde(borrow, default)]
    pub(crate) name: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) namespace: Cow<'a, str>,
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) resource_version: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// The name and version in the JSON of an object, without reading the rest.
    pub(crate) fn read(raw: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(raw).map(|named: Named<'a>| named.metadata)
    }

    /// The version as a number: of two versions of an object equal only if they are the same.
    pub(crate) fn version(&self) -> u64 {
        version(&self.uid, &self.resource_version)
    }
}

/// Versions are opaque (the field `resourceVersion`), and unique only together with the object.
pub(crate) fn version(uid: &str, resource_version: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (uid, resource_version).hash(&mut hasher);
    hasher.finish()
}

/// Whether an object of the kind matters at all.
pub(crate) fn matters(watched: &Watched, name: &str) -> bool {
    watched.content != Content::Definitions
        || name.split_once('.').is_some_and(|(_, group)| CUSTOM_GROUPS.contains(&group))
}

/// What is told of an object that is new or changed.
pub(crate) fn present(watched: &Watched, api_version: &str, head: &Head<'_>, raw: &str) -> Item {
    match watched.content {
        Content::Objects => object(watched.id, api_version, head, raw),
        Content::Bodies => Item::Body(ObjectName::new(&*head.namespace, &*head.name), Some(head.version())),
        Content::Owned(kind) => {
            let name = ObjectName::new(&*head.namespace, &*head.name);
            match owned::decode(kind, raw) {
                Ok(state) => Item::Owned(Owned { kind, name, state: Some(Box::new(state)) }),
                Err(error) => {
                    let key = watched.id.key(&head.namespace, &head.name);
                    Item::Unparsable(key.clone(), invalid(key, api_version, &error))
                }
            }
        }
        Content::Definitions => Item::Definition((&*head.name).into(), Some(definition(raw))),
    }
}

/// What is told of an object that is gone.
pub(crate) fn gone(watched: &Watched, namespace: &str, name: &str) -> Item {
    match watched.content {
        Content::Objects => Item::Change(Change::Delete(watched.id.key(namespace, name))),
        Content::Bodies => Item::Body(ObjectName::new(namespace, name), None),
        Content::Owned(kind) => Item::Owned(Owned { kind, name: ObjectName::new(namespace, name), state: None }),
        Content::Definitions => Item::Definition(name.into(), None),
    }
}

/// A whole object.
pub(crate) fn object(id: KindId, api_version: &str, head: &Head<'_>, raw: &str) -> Item {
    let key = id.key(&head.namespace, &head.name);
    let value = match prune(raw) {
        Ok(value) => with_type(value, api_version, id.kind),
        Err(error) => return Item::Unparsable(key.clone(), invalid(key, api_version, &error)),
    };
    match Object::from_value(trim(id, value)) {
        // An object that calls itself something else than what was asked for would be kept under another key.
        Ok(object) if object.key() == key => Item::Change(Change::Upsert(object)),
        Ok(object) => {
            let message = format!("the API server gave it in place of {key}");
            Item::Unparsable(
                key,
                ObjectError { api_version: api_version.to_owned(), key: object.key(), field: String::new(), message },
            )
        }
        Err(error) => Item::Unparsable(key, error),
    }
}

fn invalid(key: ObjectKey, api_version: &str, error: &serde_json::Error) -> ObjectError {
    ObjectError { api_version: api_version.to_owned(), key, field: String::new(), message: error.to_string() }
}

/// In a list of some kinds the items go without.
fn with_type(mut value: Value, api_version: &str, kind: &str) -> Value {
    if let Some(fields) = value.as_object_mut() {
        for (name, text) in [("apiVersion", api_version), ("kind", kind)] {
            if !fields.contains_key(name) {
                fields.insert(name.to_owned(), Value::String(text.to_owned()));
            }
        }
    }
    value
}

/// What is left out of objects of which nearly everything is of no use here: of a Node only the addresses are.
fn trim(id: KindId, mut value: Value) -> Value {
    if id != KindId::NODE {
        return value;
    }
    if let Some(status) = value.get_mut("status").and_then(Value::as_object_mut) {
        status.retain(|name, _| name == "addresses");
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| name != "annotations" && name != "resourceVersion");
    }
    value
}

/// Whether only the content of an object says whether it is new: a Node is written every few minutes with nothing but
/// the time.
pub(crate) fn is_known_by_content(id: KindId) -> bool {
    id == KindId::NODE
}

/// The content of an object as a number.
pub(crate) fn content(item: &Item) -> u64 {
    let mut hasher = DefaultHasher::new();
    if let Item::Change(Change::Upsert(object)) = item {
        object.to_value().to_string().hash(&mut hasher);
    }
    hasher.finish()
}

fn definition(raw: &str) -> DefinitionNews {
    #[derive(Default, Deserialize)]
    struct Annotated {
        #[serde(default)]
        metadata: Annotations,
    }
    #[derive(Default, Deserialize)]
    struct Annotations {
        #[serde(default)]
        uid: String,
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    let Annotated { metadata } = serde_json::from_str(raw).unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    DefinitionNews {
        uid: metadata.uid,
        definition: Definition::Known {
            bundle_version: annotations.remove("gateway.networking.k8s.io/bundle-version"),
            channel: annotations.remove("gateway.networking.k8s.io/channel"),
        },
    }
}

/// What is not read of one level of an object, and of the level below.
struct Level {
    left_out: &'static [&'static str],
    below: Option<(&'static str, &'static Level)>,
}

const OBJECT: Level = Level { left_out: &[], below: Some(("metadata", &METADATA)) };
const METADATA: Level = Level { left_out: &["managedFields"], below: Some(("annotations", &ANNOTATIONS)) };
const ANNOTATIONS: Level = Level { left_out: &["kubectl.kubernetes.io/last-applied-configuration"], below: None };

/// The JSON of an object without what nobody needs.
fn prune(raw: &str) -> Result<Value, serde_json::Error> {
    prune_level(raw, &OBJECT)
}

fn prune_level(raw: &str, level: &Level) -> Result<Value, serde_json::Error> {
    // What should be a map, but is none, is for the types to refuse.
    let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw) else {
        return serde_json::from_str(raw);
    };
    let mut pruned = Map::new();
    for (name, raw) in fields {
        if level.left_out.contains(&name.as_str()) {
            continue;
        }
        let value = match level.below {
            Some((below, level)) if below == name => prune_level(raw.get(), level)?,
            _ => serde_json::from_str(raw.get())?,
        };
        pruned.insert(name, value);
    }
    Ok(Value::Object(pruned))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::WATCHED;

    fn watched(kind: &str) -> &'static Watched {
        WATCHED.iter().find(|watched| watched.id.kind == kind).unwrap()
    }

    fn item(kind: &str, raw: &str) -> Item {
        let watched = watched(kind);
        let api_version =
            if watched.id.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", watched.id.group) };
        present(watched, &api_version, &Head::read(raw).unwrap(), raw)
    }

    #[test]
    fn what_nobody_needs_is_left_out() {
        let raw = json!({
            "metadata": {
                "name": "a", "namespace": "b", "managedFields": [{"f:spec": {}}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "c": "d"},
            },
            "spec": {"hostnames": ["e.example"], "managedFields": 1},
        });
        let pruned = prune(&raw.to_string()).unwrap();
        let expected = json!({
            "metadata": {"name": "a", "namespace": "b", "annotations": {"c": "d"}},
            "spec": {"hostnames": ["e.example"], "managedFields": 1},
        });
        assert_eq!(pruned, expected);
    }

    #[test]
    fn an_item_of_a_list_gets_its_type_from_the_list() {
        let Item::Change(Change::Upsert(Object::Service(service))) =
            item("Service", r#"{"metadata": {"name": "a", "namespace": "b"}, "spec": {}}"#)
        else {
            panic!("no Service");
        };
        assert_eq!(service.metadata.name, "a");
    }

    #[test]
    fn one_bad_object_is_an_error_that_names_it() {
        let deep = format!(
            r#"{{"metadata": {{"name": "a", "namespace": "b"}}, "spec": {}{}}}"#,
            "[".repeat(500),
            "]".repeat(500)
        );
        for (raw, message) in [
            (r#"{"metadata": {"name": "a", "namespace": "b"}, "spec": {"rules": 1}}"#, "spec.rules: expected a list"),
            (r#"{"metadata": {"name": "a", "namespace": "b"}, "spec": "x"}"#, "spec: expected an object"),
            (r#"{"kind": "Other", "metadata": {"name": "a", "namespace": "b"}}"#, "in place of HTTPRoute b/a"),
            (&deep, "recursion limit"),
        ] {
            match item("HTTPRoute", raw) {
                Item::Unparsable(key, error) => {
                    assert_eq!(key.to_string(), "HTTPRoute b/a");
                    assert!(error.to_string().contains(message), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_node_is_its_addresses() {
        let node = |version: &str, address: &str| {
            let raw = json!({
                "metadata": {"name": "a", "resourceVersion": version, "annotations": {"c": version}},
                "status": {"addresses": [{"type": "InternalIP", "address": address}], "images": [{"names": [version]}]},
            });
            content(&item("Node", &raw.to_string()))
        };
        assert_eq!(node("1", "192.0.2.1"), node("2", "192.0.2.1"));
        assert_ne!(node("1", "192.0.2.1"), node("1", "192.0.2.2"));
    }

    #[test]
    fn a_definition_says_from_which_release_it_is() {
        let raw = r#"{"metadata": {"name": "gateways.gateway.networking.k8s.io", "uid": "u", "annotations":
            {"gateway.networking.k8s.io/bundle-version": "v1.7.0", "gateway.networking.k8s.io/channel": "standard"}}}"#;
        let Item::Definition(_, Some(news)) = item("CustomResourceDefinition", raw) else { panic!("no definition") };
        let definition =
            Definition::Known { bundle_version: Some("v1.7.0".to_owned()), channel: Some("standard".to_owned()) };
        assert_eq!(news, DefinitionNews { uid: "u".to_owned(), definition });
        for (name, expected) in [
            ("gateways.gateway.networking.k8s.io", true),
            ("gatewayparameters.portcullis.dev", true),
            ("gateways.networking.istio.io", false),
            ("odd", false),
        ] {
            assert_eq!(matters(watched("CustomResourceDefinition"), name), expected, "{name}");
        }
        assert!(matters(watched("HTTPRoute"), "odd"));
    }
}
