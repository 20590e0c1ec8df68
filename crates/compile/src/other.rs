//! Objects of kinds that are not supported yet, as far as they refer to Gateways or Services: routes get a status that refuses them, a
//! BackendTLSPolicy closes the Services that it targets, and each gets a finding. None of them is ever followed.

use portcullis_api::shared::ParentReference;
use portcullis_api::{EXPERIMENTAL_GATEWAY_GROUP, GATEWAY_GROUP, Object, ObjectKey};
use portcullis_model::ObjectName;
use serde_json::Value;

/// An object of a kind that is not supported yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Other {
    pub(crate) key: ObjectKey,
    pub(crate) generation: Option<i64>,
    /// What it is, as far as it matters.
    pub(crate) role: Role,
}

/// What an unsupported object is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Role {
    /// A route of another kind; its parents have a status.
    Route(Vec<ParentReference>),
    /// A BackendTLSPolicy: what it targets must not be spoken to in cleartext.
    BackendTls(Vec<Target>),
    /// Anything else that names objects: a policy, a ListenerSet.
    Referrer(Vec<Target>),
    /// An object of a supported kind in a version that cannot be read.
    Unreadable {
        /// The API version.
        api_version: String,
    },
}

/// An object that is named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: ObjectName,
    pub(crate) section_name: Option<String>,
}

impl Target {
    pub(crate) fn is_gateway(&self) -> bool {
        self.group == GATEWAY_GROUP && self.kind == "Gateway"
    }

    pub(crate) fn is_service(&self) -> bool {
        self.group.is_empty() && self.kind == "Service"
    }
}

const GROUPS: &[&str] = &[GATEWAY_GROUP, EXPERIMENTAL_GATEWAY_GROUP, "portcullis.dev"];

impl Other {
    /// What matters of an object; nothing of objects that have no business with Gateways.
    pub(crate) fn read(object: &Object) -> Option<Self> {
        let key = object.key();
        if !GROUPS.contains(&key.group()) {
            return None;
        }
        let value = object.to_value();
        let spec = value.get("spec").unwrap_or(&Value::Null);
        let role = match (key.group(), key.kind()) {
            (GATEWAY_GROUP, "GRPCRoute" | "TLSRoute" | "TCPRoute" | "UDPRoute") => Role::Route(parents(spec)),
            (GATEWAY_GROUP, "BackendTLSPolicy") => Role::BackendTls(targets(spec, key.namespace())),
            _ => Role::Referrer(targets(spec, key.namespace())),
        };
        Some(Self { generation: object.metadata().generation, key, role })
    }

    /// An object of a supported kind in a version that has no type.
    pub(crate) fn unreadable(object: &Object) -> Self {
        let role = Role::Unreadable { api_version: object.api_version().to_owned() };
        Self { generation: object.metadata().generation, key: object.key(), role }
    }

    /// The Gateways that it names.
    pub(crate) fn gateways(&self) -> Vec<ObjectName> {
        match &self.role {
            Role::Route(parents) => {
                parents.iter().filter_map(|parent| gateway_of(parent, self.key.namespace())).collect()
            }
            Role::BackendTls(_) | Role::Unreadable { .. } => Vec::new(),
            Role::Referrer(targets) => {
                targets.iter().filter(|target| target.is_gateway()).map(|target| target.name.clone()).collect()
            }
        }
    }

    /// The Services that it names.
    pub(crate) fn services(&self) -> impl Iterator<Item = &ObjectName> {
        let targets = match &self.role {
            Role::BackendTls(targets) | Role::Referrer(targets) => targets.as_slice(),
            Role::Route(_) | Role::Unreadable { .. } => &[],
        };
        targets.iter().filter(|target| target.is_service()).map(|target| &target.name)
    }

    /// The Services that must not be spoken to in cleartext, each with a port's name or for all of its ports.
    pub(crate) fn backend_tls_targets(&self) -> impl Iterator<Item = &Target> {
        let targets = match &self.role {
            Role::BackendTls(targets) => targets.as_slice(),
            _ => &[],
        };
        targets.iter().filter(|target| target.is_service())
    }
}

/// The Gateway that a parentRef names.
pub(crate) fn gateway_of(parent: &ParentReference, namespace: &str) -> Option<ObjectName> {
    let is_gateway = parent.group() == GATEWAY_GROUP && parent.kind() == "Gateway";
    is_gateway.then(|| ObjectName::new(parent.namespace.as_deref().unwrap_or(namespace), parent.name.as_str()))
}

fn parents(spec: &Value) -> Vec<ParentReference> {
    let entries = spec.get("parentRefs").and_then(Value::as_array);
    entries.into_iter().flatten().filter_map(|entry| serde_json::from_value(entry.clone()).ok()).collect()
}

/// Everything in `targetRefs`, `targetRef` (older shapes) and `parentRef`.
fn targets(spec: &Value, namespace: &str) -> Vec<Target> {
    let list = spec.get("targetRefs").and_then(Value::as_array).into_iter().flatten();
    list.chain(spec.get("targetRef"))
        .chain(spec.get("parentRef"))
        .filter_map(|entry| target(entry, namespace))
        .collect()
}

fn target(entry: &Value, namespace: &str) -> Option<Target> {
    let text = |name| entry.get(name).and_then(Value::as_str);
    Some(Target {
        group: text("group").unwrap_or(GATEWAY_GROUP).to_owned(),
        kind: text("kind").unwrap_or("Gateway").to_owned(),
        name: ObjectName::new(text("namespace").unwrap_or(namespace), text("name")?),
        section_name: text("sectionName").filter(|section| !section.is_empty()).map(str::to_owned),
    })
}
