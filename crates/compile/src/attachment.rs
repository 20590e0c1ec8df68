//! Attachment: which listeners of which Gateways take a route, and for which hostnames.
//!
//! In the order of the questions: does the parentRef name a listener (sectionName, port); does one of those take the kind and the
//! namespace; does one of those share a hostname. Whether a listener serves, or its references are resolved, plays no part.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_api::meta::LabelSelector;
use portcullis_api::shared::ParentReference;
use portcullis_api::{Extra, Foreign, GATEWAY_GROUP, ObjectKey};
use portcullis_model::{Attachment, Hostname, ListenerKey, ObjectName, RouteHostname};

use crate::conditions::route::NotAccepted;
use crate::findings::{Finding, FindingCode};
use crate::listener::{Admission, AllowedNamespaces};
use crate::other::gateway_of;
use crate::parameters::ExternalNames;
use crate::small::Map;
use crate::snapshot::Snapshot;
use crate::text::{group_kind, joined, shown, unknown_field};

/// A Gateway as a parent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Parent {
    Missing,
    /// Another controller's; nothing is written about it.
    Foreign,
    /// With its listeners, and the names that Services behind it may stand for.
    Ours(Arc<Vec<Admission>>, ExternalNames),
}

impl Parent {
    /// The names that Services behind a Gateway of ours may stand for.
    pub(crate) fn external_names(&self) -> Option<&ExternalNames> {
        match self {
            Self::Ours(_, names) => Some(names),
            Self::Missing | Self::Foreign => None,
        }
    }
}

/// What of a route decides about its attachment.
pub(crate) struct Candidate<'a> {
    pub(crate) key: &'a ObjectKey,
    pub(crate) parent_refs: &'a [ParentReference],
    pub(crate) hostnames: &'a [Hostname],
    /// Where the folder is the whole world, everything that is named should be in it.
    pub(crate) standalone: bool,
}

/// Why a route is not accepted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    pub(crate) reason: NotAccepted,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(reason: NotAccepted, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// A listener that takes a route, and what they have in common.
type Admitted<'a> = (&'a Admission, Vec<RouteHostname>);

/// What became of a route at its parents.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Attachments {
    /// Each parentRef to a Gateway of ours, with group and kind filled in, and what became of it.
    pub(crate) parents: Vec<(ParentReference, Result<(), Refusal>)>,
    /// The listeners of each Gateway that take the route.
    pub(crate) listeners: Map<ObjectName, Vec<ListenerKey>>,
    /// What stands in the configuration of each Gateway.
    pub(crate) configured: Map<ObjectName, Vec<Attachment>>,
    pub(crate) findings: Vec<Finding>,
}

/// Attaches a route to its parents.
pub(crate) fn attach(
    candidate: &Candidate<'_>,
    snapshot: &Snapshot,
    parent: impl Fn(&ObjectName) -> Parent,
) -> Attachments {
    let namespace = candidate.key.namespace();
    let (labels, is_declared) = snapshot.namespace_labels(namespace);
    let mut attachments = Attachments::default();
    let mut seen = BTreeSet::new();
    let mut served = BTreeSet::new();
    for (index, parent_ref) in candidate.parent_refs.iter().enumerate() {
        let field = format!("spec.parentRefs[{index}]");
        let Some(gateway) = gateway_of(parent_ref, namespace) else {
            attachments.findings.extend(unsupported_parent(candidate, parent_ref, &field));
            continue;
        };
        let section = parent_ref.section_name.as_deref().filter(|section| !section.is_empty());
        let admissions = match parent(&gateway) {
            Parent::Ours(admissions, _) => admissions,
            Parent::Foreign => continue,
            Parent::Missing => {
                attachments.findings.push(missing_parent(candidate.key, &gateway, &field));
                continue;
            }
        };
        if !seen.insert((gateway.clone(), section, parent_ref.port)) {
            continue;
        }
        let question = Question { candidate, gateway: &gateway, labels: &labels, section, port: parent_ref.port };
        let outcome = match unknown_field(&parent_ref.extra) {
            Some(name) => Err(Refusal::new(
                NotAccepted::UnsupportedValue,
                format!("{field}: the field {} is unknown", Foreign(name)),
            )),
            None => question.ask(&admissions),
        };
        if let (Err(Refusal { reason: NotAccepted::NotAllowedByListeners, .. }), false, true) =
            (&outcome, is_declared, candidate.standalone)
        {
            attachments.findings.extend(question.undeclared_namespace(&admissions, &field));
        }
        let outcome = outcome.map(|admitted| {
            for (admission, hostnames) in admitted {
                served.extend(hostnames.iter().map(|hostname| hostname.route_hostname.clone()));
                let listeners = attachments.listeners.entry(&gateway);
                if !listeners.contains(&admission.key) {
                    listeners.reserve_exact(1);
                    listeners.push(admission.key.clone());
                }
                if admission.is_configured {
                    let attachment = Attachment { listener: admission.key.clone(), hostnames };
                    let configured = attachments.configured.entry(&gateway);
                    configured.reserve_exact(1);
                    configured.push(attachment);
                }
            }
        });
        attachments.parents.push((echo(parent_ref), outcome));
    }
    for attached in attachments.configured.values_mut() {
        attached.sort_by(|a, b| a.listener.cmp(&b.listener));
        attached.dedup_by(|a, b| a.listener == b.listener);
    }
    attachments.findings.extend(unserved_hostnames(candidate, &attachments, &served));
    if candidate.standalone && candidate.parent_refs.is_empty() {
        let (message, remedy) = ("the route names no parent and serves nothing", "name a Gateway in parentRefs");
        let finding =
            Finding::new(FindingCode::ParentNotFound, candidate.key.clone(), "spec.parentRefs", message, remedy);
        attachments.findings.push(finding);
    }
    attachments
}

/// The parentRef as in the spec, with group and kind filled in.
fn echo(parent_ref: &ParentReference) -> ParentReference {
    ParentReference {
        group: Some(parent_ref.group().to_owned()),
        kind: Some(parent_ref.kind().to_owned()),
        extra: Extra::default(),
        ..parent_ref.clone()
    }
}

struct Question<'a> {
    candidate: &'a Candidate<'a>,
    gateway: &'a ObjectName,
    labels: &'a BTreeMap<String, String>,
    section: Option<&'a str>,
    port: Option<i32>,
}

impl Question<'_> {
    fn ask<'b>(&self, admissions: &'b [Admission]) -> Result<Vec<Admitted<'b>>, Refusal> {
        let named: Vec<_> = admissions.iter().filter(|admission| self.names(admission)).collect();
        if named.is_empty() {
            return Err(Refusal::new(NotAccepted::NoMatchingParent, self.no_matching_parent(admissions)));
        }
        let (allowed, refusals): (Vec<_>, Vec<_>) = named
            .into_iter()
            .map(|admission| (admission, self.refusal(admission)))
            .partition(|(_, refusal)| refusal.is_none());
        if allowed.is_empty() {
            let refusals: Vec<_> = refusals.into_iter().filter_map(|(_, refusal)| refusal).collect();
            return Err(Refusal::new(NotAccepted::NotAllowedByListeners, joined(&refusals, "; ")));
        }
        let allowed: Vec<_> = allowed.into_iter().map(|(admission, _)| admission).collect();
        let admitted: Vec<_> = allowed
            .iter()
            .map(|admission| (*admission, intersections(admission.hostname.as_ref(), self.candidate.hostnames)))
            .filter(|(_, hostnames)| !hostnames.is_empty())
            .collect();
        if self.candidate.hostnames.is_empty() {
            return Err(Refusal::new(NotAccepted::UnsupportedValue, "spec.hostnames: none of them is a hostname"));
        }
        if admitted.is_empty() {
            let hostnames: Vec<_> = allowed
                .iter()
                .map(|admission| {
                    let hostname = admission.hostname.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
                    format!("{} ({hostname})", Foreign(&admission.key.name))
                })
                .collect();
            let message = format!(
                "spec.hostnames: none of {} is covered by a listener; listeners: {}",
                joined(self.candidate.hostnames, ", "),
                joined(&hostnames, ", ")
            );
            return Err(Refusal::new(NotAccepted::NoMatchingListenerHostname, message));
        }
        Ok(admitted)
    }

    /// Whether the parentRef means a listener.
    fn names(&self, admission: &Admission) -> bool {
        self.section.is_none_or(|section| *section == *admission.key.name)
            && self.port.is_none_or(|port| port == admission.port)
    }

    fn no_matching_parent(&self, admissions: &[Admission]) -> String {
        let listeners: Vec<_> = admissions
            .iter()
            .map(|admission| format!("{} (port {})", Foreign(&admission.key.name), admission.port))
            .collect();
        let asked = match (self.section, self.port) {
            (Some(section), Some(port)) => format!("named {} with port {port}", Foreign(section)),
            (Some(section), None) => format!("named {}", Foreign(section)),
            (None, Some(port)) => format!("with port {port}"),
            (None, None) => "at all".to_owned(),
        };
        format!(
            "Gateway {} has no listener {asked}; its listeners are {}",
            shown(self.gateway),
            joined(&listeners, ", ")
        )
    }

    /// Why a listener does not allow the route.
    fn refusal(&self, admission: &Admission) -> Option<String> {
        let name = Foreign(&admission.key.name);
        let key = self.candidate.key;
        if !admission.kinds.contains(&(key.group().to_owned(), key.kind().to_owned())) {
            return Some(format!("listener {name} does not take routes of kind {}", Foreign(key.kind())));
        }
        let namespace = Foreign(key.namespace());
        match &admission.namespaces {
            AllowedNamespaces::All => None,
            AllowedNamespaces::Same if *key.namespace() == *self.gateway.namespace => None,
            AllowedNamespaces::Same => Some(format!(
                "listener {name} takes routes of its own namespace {} only; set allowedRoutes.namespaces",
                Foreign(&self.gateway.namespace)
            )),
            AllowedNamespaces::None => Some(format!("listener {name} takes no routes")),
            AllowedNamespaces::Selector(selector) => (!selects(selector, self.labels)).then(|| {
                format!(
                    "listener {name} takes routes of namespaces with {}; namespace {namespace} does not match",
                    selected(selector)
                )
            }),
        }
    }

    /// The labels that a namespace would need which nobody declared.
    fn undeclared_namespace(&self, admissions: &[Admission], field: &str) -> Option<Finding> {
        let kind = (self.candidate.key.group().to_owned(), self.candidate.key.kind().to_owned());
        let admission = admissions.iter().find(|admission| {
            let selects_by_label = matches!(admission.namespaces, AllowedNamespaces::Selector(_));
            self.names(admission) && admission.kinds.contains(&kind) && selects_by_label
        })?;
        let AllowedNamespaces::Selector(selector) = &admission.namespaces else { return None };
        let namespace = Foreign(self.candidate.key.namespace());
        Some(Finding::new(
            FindingCode::NamespaceUndeclared,
            self.candidate.key.clone(),
            field,
            format!(
                "Namespace {namespace} is not declared, so it has its name as its only label; listener {} of Gateway {} takes routes of \
                 namespaces with {}",
                Foreign(&admission.key.name),
                shown(self.gateway),
                selected(selector)
            ),
            format!("add a Namespace {namespace} with {}", selected(selector)),
        ))
    }
}

fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    selector.matches(labels).unwrap_or(false)
}

/// A selector in words.
fn selected(selector: &LabelSelector) -> String {
    let labels =
        selector.match_labels.iter().map(|(key, value)| format!("label {}: \"{}\"", Foreign(key), Foreign(value)));
    let expressions = selector.match_expressions.iter().map(|expression| {
        let values: Vec<_> = expression.values.iter().map(|value| format!("\"{}\"", Foreign(value))).collect();
        let values = if values.is_empty() { String::new() } else { format!(" ({})", joined(&values, ", ")) };
        format!("label {} {}{values}", Foreign(&expression.key), expression.operator)
    });
    let parts: Vec<_> = labels.chain(expressions).collect();
    if parts.is_empty() { "any labels".to_owned() } else { joined(&parts, " and ") }
}

/// What a listener's hostname and each of a route's have in common, sorted.
fn intersections(listener: Option<&Hostname>, route: &[Hostname]) -> Vec<RouteHostname> {
    let Some(listener) = listener else { return Vec::new() };
    let both = route.iter().filter_map(|route_hostname| {
        let hostname = listener.intersection(route_hostname)?.clone();
        Some(RouteHostname { hostname, route_hostname: route_hostname.clone() })
    });
    both.collect::<BTreeSet<_>>().into_iter().collect()
}

fn unserved_hostnames(
    candidate: &Candidate<'_>,
    attachments: &Attachments,
    served: &BTreeSet<Hostname>,
) -> Option<Finding> {
    if attachments.listeners.is_empty() {
        return None;
    }
    let unserved: Vec<_> = candidate.hostnames.iter().filter(|hostname| !served.contains(hostname)).collect();
    if unserved.is_empty() {
        return None;
    }
    let message = format!("no listener that the route is attached to covers {}", joined(&unserved, ", "));
    let remedy = "remove the hostname, or add a listener for it";
    Some(Finding::new(FindingCode::HostnameNotServed, candidate.key.clone(), "spec.hostnames", message, remedy))
}

fn missing_parent(key: &ObjectKey, gateway: &ObjectName, field: &str) -> Finding {
    let message = format!("Gateway {} does not exist", shown(gateway));
    Finding::new(FindingCode::ParentNotFound, key.clone(), field, message, "create it, or correct name and namespace")
}

fn unsupported_parent(candidate: &Candidate<'_>, parent_ref: &ParentReference, field: &str) -> Option<Finding> {
    // A Service as a parent is a service mesh's business, which in a cluster may well be there.
    let is_ours = parent_ref.group() == GATEWAY_GROUP;
    (is_ours || candidate.standalone).then(|| {
        let message =
            format!("a parent of kind {} is not supported", group_kind(parent_ref.group(), parent_ref.kind()));
        Finding::new(FindingCode::NotSupported, candidate.key.clone(), field, message, "name a Gateway")
    })
}
