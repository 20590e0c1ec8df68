//! The validation that an API server would do, from the CRDs of the Gateway API themselves.
//!
//! In: an object as JSON. Out: the object with its defaults, and a [`Validation`]: one [`Violation`] per
//! mistake, in the words that kubectl prints. Structure, defaults and CEL rules come from the embedded CRDs
//! (`crates/api/crds`: the Gateway API's, and those of our own kinds), compiled per kind and version when first
//! needed. Metadata and the core kinds, which have no CRD, are checked by hand, in modules of their own.
//!
//! Two differences from an API server: `status` is neither checked nor given defaults, as a write to an object
//! with a status subresource ignores it; and control characters are refused in every text of a `spec`.

mod core;
mod expression;
mod metadata;
mod node;
mod path;
mod rules;
mod structure;
mod violation;

use std::sync::{Arc, OnceLock};

use serde_json::Value;

pub use path::{FieldPath, Segment};
pub use violation::{Validation, Violation, ViolationKind};

use crate::GROUP;
use crate::object::Scope;
use node::{Node, SchemaError};
use path::Trail;

/// Which CRDs of a release are installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Channel {
    /// Only what is stable.
    Standard,
    /// Everything: a superset of the standard channel.
    #[default]
    Experimental,
}

/// The schemas of a release of the Gateway API, and of our own kinds. Cheap to clone; shared between threads.
#[derive(Clone, Debug)]
pub struct Schemas(Arc<Vec<Crd>>);

impl Schemas {
    /// The schemas of Gateway API v1.7.0, experimental channel.
    pub fn v1_7_0() -> Self {
        Self::of(Channel::Experimental)
    }

    /// The schemas of Gateway API v1.7.0, in a channel. The same ones on each call.
    pub fn of(channel: Channel) -> Self {
        static SCHEMAS: [OnceLock<Schemas>; 2] = [OnceLock::new(), OnceLock::new()];
        let (place, pick): (_, fn(&Embedded) -> Option<&'static str>) = match channel {
            Channel::Standard => (&SCHEMAS[0], |crd| crd.standard),
            Channel::Experimental => (&SCHEMAS[1], |crd| Some(crd.experimental)),
        };
        let read = || {
            let crds = EMBEDDED.iter().filter_map(|crd| {
                Some(Crd { group: crd.group, kind: crd.kind, text: pick(crd)?, definition: OnceLock::new() })
            });
            let ours = OWN_CRDS.iter().map(|crd| Crd {
                group: GROUP,
                kind: crd.kind,
                text: crd.text,
                definition: OnceLock::new(),
            });
            Self(Arc::new(crds.chain(ours).collect()))
        };
        place.get_or_init(read).clone()
    }

    /// Sets the object's defaults and checks it as an API server does when it is created.
    pub fn validate(&self, object: &mut Value) -> Validation {
        self.validate_change(object, None)
    }

    /// Like [`validate`](Self::validate), for an object that replaces `old`: rules about changes hold as well.
    pub fn validate_update(&self, object: &mut Value, old: &Value) -> Validation {
        self.validate_change(object, Some(old))
    }

    /// Where objects of a kind live; `None` for kinds that are not known here.
    pub fn scope(&self, api_version: &str, kind: &str) -> Option<Scope> {
        let (group, _) = split_api_version(api_version);
        match self.crd(group, kind) {
            Some(crd) => crd.definition().as_ref().ok().map(|definition| definition.scope),
            None => core::scope(api_version, kind),
        }
    }

    fn validate_change(&self, object: &mut Value, old: Option<&Value>) -> Validation {
        let mut validation = Validation::default();
        let Some((api_version, kind)) = read_type(object, &mut validation) else {
            return validation;
        };
        let (group, version) = split_api_version(&api_version);
        if let Some(crd) = self.crd(group, &kind) {
            crd.validate(version, object, old, &mut validation);
        } else if self.0.iter().any(|crd| crd.group == group) {
            let served: Vec<&str> = self.0.iter().filter(|crd| crd.group == group).map(|crd| crd.kind).collect();
            let message = format!("no kind {kind:?} in group {group:?}{}", release_of(group));
            let violation = Violation::new(FieldPath::root().field("kind"), ViolationKind::NotServed, message);
            validation.push(violation.with_remedy(format!("the kinds of this group are {}", served.join(", "))));
        } else if core::scope(&api_version, &kind).is_some() {
            core::validate(&api_version, &kind, object, &mut validation);
        } else {
            let message = format!("kind not used by Portcullis: {api_version} {kind}");
            validation.push(Violation::new(FieldPath::root().field("kind"), ViolationKind::NotUsed, message));
            metadata::check(object, None, metadata::NameRule::PathSegment, &mut validation);
        }
        validation
    }

    fn crd(&self, group: &str, kind: &str) -> Option<&Crd> {
        self.0.iter().find(|crd| crd.kind == kind && crd.group == group)
    }
}

/// `apiVersion` and `kind`, if the object has them.
fn read_type(object: &Value, validation: &mut Validation) -> Option<(String, String)> {
    let Some(fields) = object.as_object() else {
        let message = format!("Invalid value: {}: a Kubernetes object is a map of fields", violation::shown(object));
        validation.push(Violation::new(FieldPath::root(), ViolationKind::Type, message));
        return None;
    };
    let mut read = |name| {
        let trail = Trail::ROOT;
        match fields.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
            None | Some(Value::Null | Value::String(_)) => {
                validation.required(trail.field(name), "every object names its apiVersion and its kind");
                None
            }
            Some(other) => {
                let message = format!("Invalid value: {}: must be of type string", violation::shown(other));
                validation.add(trail.field(name), ViolationKind::Type, message);
                None
            }
        }
    };
    let (api_version, kind) = (read("apiVersion"), read("kind"));
    Some((api_version?, kind?))
}

/// What a kind's absence is blamed on: ` of Gateway API v1.7.0`, or nothing for our own kinds.
fn release_of(group: &str) -> String {
    if group == GROUP { String::new() } else { format!(" of Gateway API {VERSION}") }
}

/// Group and version; the core group is empty.
fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// A kind's definition, read when first needed.
#[derive(Debug)]
struct Crd {
    group: &'static str,
    kind: &'static str,
    text: &'static str,
    definition: OnceLock<Result<Definition, SchemaError>>,
}

#[derive(Debug)]
struct Definition {
    scope: Scope,
    /// The newest first, as in the CRD.
    versions: Vec<Version>,
}

#[derive(Debug)]
struct Version {
    name: Box<str>,
    served: bool,
    /// The warning that a user of it gets.
    deprecation: Option<Box<str>>,
    schema: Value,
    node: OnceLock<Result<Node, SchemaError>>,
}

impl Crd {
    fn definition(&self) -> &Result<Definition, SchemaError> {
        self.definition.get_or_init(|| {
            read_definition(self.text).ok_or_else(|| SchemaError::Form(self.kind.to_owned(), "the embedded CRD"))
        })
    }

    fn validate(&self, version: &str, object: &mut Value, old: Option<&Value>, validation: &mut Validation) {
        let definition = match self.definition() {
            Ok(definition) => definition,
            Err(error) => return refuse(error, validation),
        };
        let path = || FieldPath::root().field("apiVersion");
        let known = definition.versions.iter().find(|known| &*known.name == version);
        let Some(known) = known.filter(|known| known.served) else {
            let served: Vec<String> = definition
                .versions
                .iter()
                .filter(|known| known.served && known.deprecation.is_none())
                .map(|known| format!("{}/{}", self.group, known.name))
                .collect();
            let why = if known.is_some() { "is no longer served" } else { "does not exist" };
            let release = release_of(self.group).replacen(" of ", " in ", 1);
            let message = format!("version {version:?} of {} {why}{release}", self.kind);
            let violation = Violation::new(path(), ViolationKind::NotServed, message);
            return validation.push(violation.with_remedy(format!("write the object for {}", served.join(" or "))));
        };
        if let Some(warning) = &known.deprecation {
            validation.push(Violation::new(path(), ViolationKind::Deprecated, warning.to_string()));
        }
        let node = match known.node.get_or_init(|| compile_root(&known.schema, self.kind)) {
            Ok(node) => node,
            Err(error) => return refuse(error, validation),
        };
        structure::apply_defaults(node, object);
        metadata::check(object, Some(definition.scope), metadata::NameRule::Subdomain, validation);
        structure::check_structure(node, object, Trail::ROOT, validation);
        rules::check_rules(node, object, old, Trail::ROOT, validation);
    }
}

/// A schema that cannot be used refuses every object.
fn refuse(error: &SchemaError, validation: &mut Validation) {
    let message = format!("the schema cannot be used: {error}");
    validation.push(Violation::new(FieldPath::root(), ViolationKind::Invalid, message));
}

/// The Gateway API's CRDs are embedded as JSON, ours as the YAML that is installed.
fn read_text(text: &str) -> Option<Value> {
    if text.starts_with('{') {
        return serde_json::from_str(text).ok();
    }
    let manifest = crate::manifest::parse("crd", text, &crate::manifest::Limits::default());
    manifest.documents.first().map(|document| document.value().clone())
}

fn read_definition(text: &str) -> Option<Definition> {
    let mut crd = read_text(text)?;
    let spec = crd.get_mut("spec")?;
    let scope = match spec.get("scope")?.as_str()? {
        "Cluster" => Scope::Cluster,
        _ => Scope::Namespaced,
    };
    let versions = spec.get_mut("versions")?.as_array_mut()?;
    let versions = versions.iter_mut().map(|version| {
        let name = version.get("name")?.as_str()?.into();
        let deprecated = version.get("deprecated").and_then(Value::as_bool) == Some(true);
        let warning = version.get("deprecationWarning").and_then(Value::as_str).unwrap_or("deprecated version");
        Some(Version {
            name,
            served: version.get("served")?.as_bool()?,
            deprecation: deprecated.then(|| warning.into()),
            schema: version.get_mut("schema")?.get_mut("openAPIV3Schema")?.take(),
            node: OnceLock::new(),
        })
    });
    Some(Definition { scope, versions: versions.collect::<Option<_>>()? })
}

/// Metadata is checked apart, and status is not what a user writes.
fn compile_root(schema: &Value, kind: &str) -> Result<Node, SchemaError> {
    let mut root = Node::compile(schema, kind)?;
    for property in &mut root.properties {
        if matches!(&*property.name, "metadata" | "status") {
            property.node = Node { preserve_unknown: true, ..Node::default() };
        }
    }
    Ok(root)
}

/// The release that the embedded CRDs are of.
pub const VERSION: &str = "v1.7.0";

/// The CRD of a kind of our own.
#[derive(Clone, Copy, Debug)]
pub struct OwnCrd {
    /// The kind.
    pub kind: &'static str,
    /// The name of its file.
    pub file: &'static str,
    /// YAML, as it is installed.
    pub text: &'static str,
}

/// The CRDs of our own kinds (`crates/api/crds/portcullis`), the one source of what charts and manifests install.
pub const OWN_CRDS: &[OwnCrd] = &[OwnCrd {
    kind: "GatewayParameters",
    file: "portcullis.dev_gatewayparameters.yaml",
    text: include_str!("../crds/portcullis/portcullis.dev_gatewayparameters.yaml"),
}];

struct Embedded {
    group: &'static str,
    kind: &'static str,
    experimental: &'static str,
    standard: Option<&'static str>,
}

macro_rules! embedded {
    ($($group:literal / $plural:literal : $kind:literal $($standard:ident)?;)+) => {
        const EMBEDDED: &[Embedded] = &[$(Embedded {
            group: $group,
            kind: $kind,
            experimental: include_str!(concat!("../crds/experimental/", $group, "_", $plural, ".json")),
            standard: embedded!(@standard $group $plural $($standard)?),
        }),+];
    };
    (@standard $group:literal $plural:literal standard) => {
        Some(include_str!(concat!("../crds/standard/", $group, "_", $plural, ".json")))
    };
    (@standard $group:literal $plural:literal) => { None };
}

embedded! {
    "gateway.networking.k8s.io" / "gatewayclasses": "GatewayClass" standard;
    "gateway.networking.k8s.io" / "gateways": "Gateway" standard;
    "gateway.networking.k8s.io" / "listenersets": "ListenerSet" standard;
    "gateway.networking.k8s.io" / "httproutes": "HTTPRoute" standard;
    "gateway.networking.k8s.io" / "grpcroutes": "GRPCRoute" standard;
    "gateway.networking.k8s.io" / "tlsroutes": "TLSRoute" standard;
    "gateway.networking.k8s.io" / "tcproutes": "TCPRoute" standard;
    "gateway.networking.k8s.io" / "udproutes": "UDPRoute" standard;
    "gateway.networking.k8s.io" / "referencegrants": "ReferenceGrant" standard;
    "gateway.networking.k8s.io" / "backendtlspolicies": "BackendTLSPolicy" standard;
    "gateway.networking.x-k8s.io" / "xbackends": "XBackend";
    "gateway.networking.x-k8s.io" / "xbackendtrafficpolicies": "XBackendTrafficPolicy";
    "gateway.networking.x-k8s.io" / "xmeshes": "XMesh";
    "gateway.networking.x-k8s.io" / "xtelemetrypolicies": "XTelemetryPolicy";
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_crd_file_is_embedded_under_its_own_group_and_kind() {
        for (channel, folder) in [(Channel::Standard, "standard"), (Channel::Experimental, "experimental")] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds").join(folder);
            let files: BTreeSet<String> = folder
                .read_dir()
                .unwrap()
                .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
                .collect();
            let schemas = Schemas::of(channel);
            let upstream = || schemas.0.iter().filter(|crd| crd.group != GROUP);
            let embedded: BTreeSet<String> = upstream().map(|crd| crd.text.to_owned()).collect();
            assert_eq!(files, embedded);
            for crd in upstream() {
                let text: Value = serde_json::from_str(crd.text).unwrap();
                assert_eq!(text["spec"]["group"], crd.group);
                assert_eq!(text["spec"]["names"]["kind"], crd.kind);
                assert_eq!(text["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"], VERSION);
            }
        }
        assert_eq!(include_str!("../crds/VERSION").trim(), VERSION);
    }

    #[test]
    fn every_crd_of_our_own_is_embedded_under_its_own_group_and_kind() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/portcullis");
        let files: BTreeSet<String> =
            folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(files, OWN_CRDS.iter().map(|crd| crd.file.to_owned()).collect());
        for crd in OWN_CRDS {
            let manifest = crate::manifest::parse(crd.file, crd.text, &crate::manifest::Limits::default());
            assert!(manifest.diagnostics.is_empty(), "{:?}", manifest.diagnostics);
            let value = read_text(crd.text).unwrap();
            assert_eq!((&value["spec"]["group"], &value["spec"]["names"]["kind"]), (&GROUP.into(), &crd.kind.into()));
            assert_eq!(value["spec"]["names"]["categories"][0], "portcullis");
            assert!(value["spec"]["names"]["shortNames"][0].is_string());
            let name = format!("{}.{GROUP}", value["spec"]["names"]["plural"].as_str().unwrap());
            assert_eq!(value["metadata"]["name"], name);
        }
    }

    /// Visits the compiled schema of every version of every kind, in both channels.
    pub(super) fn each_root(mut visit: impl FnMut(&Node)) {
        for channel in [Channel::Standard, Channel::Experimental] {
            for crd in Schemas::of(channel).0.iter() {
                for version in &crd.definition().as_ref().unwrap().versions {
                    visit(&compile_root(&version.schema, crd.kind).unwrap());
                }
            }
        }
    }

    #[test]
    fn every_schema_pattern_and_rule_compiles() {
        let mut fallbacks = BTreeSet::new();
        each_root(|root| {
            rules::test::each_node(root, &mut |node| {
                node.pattern.iter().for_each(|pattern| assert!(pattern.is_match("").is_ok(), "{}", pattern.text));
                // Go's classes are ASCII, Rust's are Unicode.
                node.pattern
                    .iter()
                    .for_each(|pattern| assert!(!pattern.text.contains(r"\d") && !pattern.text.contains(r"\w")));
                node.rules.iter().for_each(|rule| fallbacks.extend(rule.fallback()));
            });
        });
        // What the evaluator of our own leaves to kube-cel: the two rules with format.*.
        assert_eq!(fallbacks.len(), 2, "{fallbacks:?}");
        assert!(fallbacks.iter().all(|rule| rule.contains("format.")), "{fallbacks:?}");
    }
}
