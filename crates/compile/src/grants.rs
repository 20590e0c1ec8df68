//! ReferenceGrants: the one place that decides whether a reference may cross a namespace.
//!
//! Grants are additive; group, kind, namespace and name all count; a `to` without a name means every object of the kind. A grant has no
//! status, so one that permits nothing that anybody refers to is a finding.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_api::reference_grant::ReferenceGrant;
use portcullis_api::{Foreign, GATEWAY_GROUP};
use portcullis_model::ObjectName;

use crate::findings::{Finding, FindingCode};
use crate::small::{self, Map};
use crate::snapshot::{Snapshot, gateway_api_key, in_namespace};
use crate::text::group_kind;

/// The kinds whose references are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Referrer {
    Gateway,
    HttpRoute,
}

impl Referrer {
    fn kind(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
        }
    }

    fn of(group: &str, kind: &str) -> Option<Self> {
        match (group, kind) {
            (GATEWAY_GROUP, "Gateway") => Some(Self::Gateway),
            (GATEWAY_GROUP, "HTTPRoute") => Some(Self::HttpRoute),
            _ => None,
        }
    }
}

/// A reference from objects of one kind in one namespace to one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) from: Referrer,
    pub(crate) from_namespace: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) kind: Arc<str>,
    pub(crate) to: ObjectName,
}

impl Reference {
    /// Whether the referent is in the referrer's own namespace, where no grant is needed.
    pub(crate) fn is_local(&self) -> bool {
        self.from_namespace == self.to.namespace
    }
}

/// Whether a reference may be followed: it stays in its namespace, or a grant in the referent's namespace permits it.
pub(crate) fn permitted(snapshot: &Snapshot, reference: &Reference) -> bool {
    reference.is_local()
        || in_namespace(&snapshot.reference_grants, &reference.to.namespace).any(|(_, grant)| permits(grant, reference))
}

fn permits(grant: &ReferenceGrant, reference: &Reference) -> bool {
    let from = grant.spec.from.iter().any(|from| {
        from.group == GATEWAY_GROUP
            && from.kind == reference.from.kind()
            && *from.namespace == *reference.from_namespace
    });
    from && grant.spec.to.iter().any(|to| {
        *to.group == *reference.group
            && *to.kind == *reference.kind
            && to.name.as_deref().is_none_or(|name| name.is_empty() || *name == *reference.to.name)
    })
}

/// The refusal of a reference, for a condition: where which grant would permit it.
pub(crate) fn refusal(reference: &Reference) -> String {
    format!(
        "{} {}/{} is in another namespace and no ReferenceGrant there permits it: create a ReferenceGrant in namespace {} with from \
         {{group: {GATEWAY_GROUP}, kind: {}, namespace: {}}} and to {{group: \"{}\", kind: {}, name: {}}}",
        group_kind(&reference.group, &reference.kind),
        Foreign(&reference.to.namespace),
        Foreign(&reference.to.name),
        Foreign(&reference.to.namespace),
        reference.from.kind(),
        Foreign(&reference.from_namespace),
        Foreign(&reference.group),
        Foreign(&reference.kind),
        Foreign(&reference.to.name),
    )
}

/// Who refers to what: referrer, referrer's namespace, group, kind, and the name or the namespace of the referent.
type Use = (Referrer, Arc<str>, Arc<str>, Arc<str>, Arc<str>);

/// How often each reference is made, and what a grant needs to know of it.
#[derive(Default)]
pub(crate) struct Uses {
    /// By referrer, referrer's namespace, group, kind and name; then the referent's namespace and how often.
    by_name: BTreeMap<Use, Map<Arc<str>, usize>>,
    /// By referrer, referrer's namespace, group, kind and the referent's namespace: how often.
    by_namespace: BTreeMap<Use, usize>,
}

impl Uses {
    /// Counts a reference. Says whether it is the first of its like, so that grants may have become used.
    pub(crate) fn add(&mut self, reference: &Reference) -> bool {
        let Reference { from, from_namespace, group, kind, to } = reference.clone();
        let by_name = (from, from_namespace.clone(), group.clone(), kind.clone(), to.name);
        let count = small::count(self.by_name.entry(by_name).or_default(), &to.namespace, true);
        *self.by_namespace.entry((from, from_namespace, group, kind, to.namespace)).or_default() += 1;
        count == 1
    }

    /// Takes a reference back. Says whether it was the last of its like.
    pub(crate) fn remove(&mut self, reference: &Reference) -> bool {
        let Reference { from, from_namespace, group, kind, to } = reference.clone();
        let by_namespace = (from, from_namespace.clone(), group.clone(), kind.clone(), to.namespace.clone());
        if let Some(count) = self.by_namespace.get_mut(&by_namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_namespace.remove(&by_namespace);
            }
        }
        let by_name = (from, from_namespace, group, kind, to.name);
        let Some(namespaces) = self.by_name.get_mut(&by_name) else { return false };
        let last = namespaces.get(&to.namespace).is_some() && small::count(namespaces, &to.namespace, false) == 0;
        if namespaces.is_empty() {
            self.by_name.remove(&by_name);
        }
        last
    }
}

/// The kinds and namespaces that a grant names, whose references its findings depend on.
pub(crate) fn referrers(grant: &ReferenceGrant) -> BTreeSet<(Referrer, Arc<str>)> {
    let referrers = grant
        .spec
        .from
        .iter()
        .filter_map(|from| Some((Referrer::of(&from.group, &from.kind)?, Arc::from(from.namespace.as_str()))));
    referrers.collect()
}

/// The findings about a grant: entries of `to` that no reference uses.
pub(crate) fn findings(name: &ObjectName, grant: &ReferenceGrant, uses: &Uses) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, to) in grant.spec.to.iter().enumerate() {
        let (group, kind): (Arc<str>, Arc<str>) = (to.group.as_str().into(), to.kind.as_str().into());
        let to_name = to.name.as_deref().filter(|name| !name.is_empty());
        let mut used = false;
        let mut elsewhere = Vec::new();
        for from in &grant.spec.from {
            // References of kinds that are not looked at may well use the grant.
            let Some(referrer) = Referrer::of(&from.group, &from.kind) else {
                used = true;
                continue;
            };
            let from_namespace: Arc<str> = from.namespace.as_str().into();
            let Some(to_name) = to_name else {
                let key = (referrer, from_namespace.clone(), group.clone(), kind.clone(), name.namespace.clone());
                used |= uses.by_namespace.contains_key(&key) && from_namespace != name.namespace;
                continue;
            };
            let key = (referrer, from_namespace.clone(), group.clone(), kind.clone(), to_name.into());
            for namespace in uses.by_name.get(&key).into_iter().flat_map(Map::keys) {
                if *namespace == name.namespace {
                    used |= from_namespace != name.namespace;
                } else {
                    elsewhere.push((from, namespace.clone()));
                }
            }
        }
        if !used {
            findings.push(unused(name, index, &group_kind(&group, &kind), to_name, &elsewhere));
        }
    }
    findings
}

fn unused(
    name: &ObjectName,
    index: usize,
    kind: &str,
    to_name: Option<&str>,
    elsewhere: &[(&portcullis_api::reference_grant::ReferenceGrantFrom, Arc<str>)],
) -> Finding {
    let to = to_name.map_or_else(|| format!("any {kind}"), |to_name| format!("{kind} {}", Foreign(to_name)));
    let here = Foreign(&name.namespace);
    let nothing = format!(
        "this grant permits nothing that is in use: a ReferenceGrant speaks for its own namespace, and nothing in its `from` refers to \
         {to} in namespace {here}"
    );
    let (message, remedy) = match elsewhere.first() {
        Some((from, namespace)) if *from.namespace == **namespace => (
            format!(
                "{nothing}; the {}s in namespace {} refer to {to} in their own namespace, which needs no grant",
                Foreign(&from.kind),
                Foreign(namespace)
            ),
            "delete it".to_owned(),
        ),
        Some((from, namespace)) => (
            format!(
                "{nothing}; the {}s in namespace {} refer to {to} in namespace {}",
                Foreign(&from.kind),
                Foreign(&from.namespace),
                Foreign(namespace)
            ),
            format!("move the grant to namespace {}, where the referent is", Foreign(namespace)),
        ),
        None => (nothing, "delete it, or correct `from`, `to` or the namespace of the grant".to_owned()),
    };
    let key = gateway_api_key("ReferenceGrant", name);
    Finding::new(FindingCode::ReferenceGrantUnused, key, format!("spec.to[{index}]"), message, remedy)
}
