//! Listeners of a Gateway: protocol, port, hostname, conflicts, certificates, and which routes each admits.
//!
//! Every fact is established on its own: a listener that is refused still has its kinds, its references and its admission judged, because
//! each has a condition of its own and routes are counted on broken listeners, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_api::gateway::{self as api, FromNamespaces, ListenerStatus, ProtocolType, TlsConfig, TlsModeType};
use portcullis_api::meta::{Condition, LabelSelector};
use portcullis_api::shared::{RouteGroupKind, SecretObjectReference};
use portcullis_api::{Extra, Foreign, GATEWAY_GROUP, ObjectKey};
use portcullis_model::{
    Certificate, Hostname, Listener, ListenerKey, ListenerProtocol, ListenerState, ListenerTls, ObjectName,
    TELEMETRY_PORT, pod_port,
};

use crate::certificate::{self, Certificates};
use crate::conditions::Observed;
use crate::conditions::listener::{self as conditions, Conflict, NotAccepted, Unresolved};
use crate::findings::{Finding, FindingCode};
use crate::grants::{self, Reference, Referrer};
use crate::secrets::SecretNamespaces;
use crate::snapshot::{Snapshot, gateway_api_key};
use crate::text::{group_kind, joined, shown, unknown_field};

/// Certificates are called soon to expire this many seconds before they do.
pub(crate) const EXPIRES_SOON: i64 = 14 * 86_400;

/// A listener as it was judged.
pub(crate) struct CompiledListener {
    /// What routes need to know of it.
    pub(crate) admission: Admission,
    pub(crate) supported_kinds: Vec<RouteGroupKind>,
    /// Its conditions, `Programmed` apart.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) is_accepted: bool,
    pub(crate) are_refs_resolved: bool,
    /// Why it does not serve.
    pub(crate) not_programmed: Option<String>,
    /// Its place in the configuration.
    pub(crate) config: Option<Arc<Listener>>,
    pub(crate) certificates: Vec<Arc<Certificate>>,
}

/// Which routes a listener admits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Admission {
    pub(crate) key: ListenerKey,
    pub(crate) port: i32,
    /// Nothing for a hostname that cannot be read: no route meets it.
    pub(crate) hostname: Option<Hostname>,
    pub(crate) namespaces: AllowedNamespaces,
    pub(crate) kinds: BTreeSet<(String, String)>,
    /// Whether it is in the configuration, so that routes can be.
    pub(crate) is_configured: bool,
}

/// From which namespaces routes may come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AllowedNamespaces {
    All,
    Same,
    None,
    Selector(LabelSelector),
}

/// What is known outside of the Gateway.
pub(crate) struct Surroundings<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) certificates: &'a mut Certificates,
    pub(crate) secrets: &'a SecretNamespaces,
    /// Ports of the machine that Gateways before this one took, and which.
    pub(crate) taken_ports: &'a BTreeMap<u16, ObjectName>,
    /// Whether listeners are bound in pods, where telemetry has a port of its own.
    pub(crate) in_pods: bool,
    pub(crate) now: i64,
}

/// What comes out beside the listeners.
#[derive(Default)]
pub(crate) struct Aside {
    pub(crate) findings: Vec<Finding>,
    pub(crate) next_change_at: Option<i64>,
    /// References to Secrets, followed or not.
    pub(crate) references: BTreeSet<Reference>,
    /// The Secrets among them that may be read.
    pub(crate) wanted: BTreeSet<ObjectName>,
}

/// Judges the listeners of a Gateway, in their order. Of equal names only the first has an entry, for a status has one per name.
pub(crate) fn compile(
    name: &ObjectName,
    gateway: &api::Gateway,
    surroundings: &mut Surroundings<'_>,
    aside: &mut Aside,
) -> Vec<CompiledListener> {
    let drafts: Vec<_> = (0..gateway.spec.listeners.len()).map(|index| Draft::new(gateway, index)).collect();
    let mut seen = BTreeSet::new();
    let mut listeners = Vec::new();
    for draft in &drafts {
        if seen.insert(&draft.spec.name) {
            listeners.push(compile_one(name, gateway, &drafts, draft, surroundings, aside));
        }
    }
    listeners
}

/// A listener on its own.
struct Draft<'a> {
    index: usize,
    spec: &'a api::Listener,
    protocol: Option<ListenerProtocol>,
    port: Option<u16>,
    hostname: Option<Hostname>,
}

impl<'a> Draft<'a> {
    fn new(gateway: &'a api::Gateway, index: usize) -> Self {
        let spec = &gateway.spec.listeners[index];
        let protocol = match spec.protocol {
            ProtocolType::Http => Some(ListenerProtocol::Http),
            ProtocolType::Https => Some(ListenerProtocol::Https),
            _ => None,
        };
        let port = u16::try_from(spec.port).ok().filter(|port| *port != 0);
        let hostname = match &spec.hostname {
            Some(hostname) if !hostname.as_str().is_empty() => {
                hostname.parse().ok().map(|_| Hostname::new(Some(hostname.as_str())))
            }
            _ => Some(Hostname::Any),
        };
        Self { index, spec, protocol, port, hostname }
    }

    fn field(&self, rest: &str) -> String {
        format!("spec.listeners[{}]{rest}", self.index)
    }

    /// What the listener has in common with another of the same port that it must not, and with which. Listeners of protocols that are
    /// not supported do not count.
    fn conflict(&self, drafts: &[Self]) -> Option<(Conflict, String)> {
        let (protocol, port) = (self.protocol?, self.port?);
        let others = || drafts.iter().filter(move |other| other.index != self.index && other.port == Some(port));
        let named = |others: Vec<&Self>| {
            let names: Vec<_> = others.iter().map(|other| Foreign(&other.spec.name).to_string()).collect();
            joined(&names, ", ")
        };
        let of_other_protocol: Vec<_> =
            others().filter(|other| other.protocol.is_some_and(|other| other != protocol)).collect();
        if !of_other_protocol.is_empty() {
            let message = format!(
                "port {port} is used with another protocol by {}; a port has one protocol: change port or protocol",
                named(of_other_protocol)
            );
            return Some((Conflict::Protocol, message));
        }
        let of_same_hostname: Vec<_> = others()
            .filter(|other| other.protocol.is_some() && self.hostname.is_some() && other.hostname == self.hostname)
            .collect();
        if of_same_hostname.is_empty() {
            return None;
        }
        let message = format!(
            "port {port} is used with the same hostname by {}; none of them is served: change hostname or port, or remove all but one",
            named(of_same_hostname)
        );
        Some((Conflict::Hostname, message))
    }

    /// The other HTTPS listeners of the port whose hostnames overlap.
    fn overlapping(&self, drafts: &[Self]) -> Vec<String> {
        if self.protocol != Some(ListenerProtocol::Https) || self.port.is_none() {
            return Vec::new();
        }
        let overlaps = |other: &&Self| {
            other.index != self.index
                && other.protocol == self.protocol
                && other.port == self.port
                && other.hostname != self.hostname
                && matches!((&self.hostname, &other.hostname), (Some(a), Some(b)) if a.intersection(b).is_some())
        };
        drafts.iter().filter(overlaps).map(|other| Foreign(&other.spec.name).to_string()).collect()
    }

    /// Why the listener is refused for what it says itself, and whether it can keep its place in the configuration.
    fn refusal(&self, drafts: &[Self], gateway: &api::Gateway) -> Option<Refusal> {
        if self.protocol.is_none() {
            let message = format!(
                "{}: protocol {} is not supported; use HTTP or HTTPS",
                self.field(".protocol"),
                self.spec.protocol
            );
            return Some(Refusal { reason: NotAccepted::UnsupportedProtocol, message, keeps_place: false });
        }
        let homonym = drafts.iter().find(|other| other.index != self.index && other.spec.name == self.spec.name);
        if homonym.is_some() || self.spec.name.is_empty() {
            let message = format!("{}: a listener needs a name of its own", self.field(".name"));
            return Some(Refusal { reason: NotAccepted::UnsupportedValue, message, keeps_place: false });
        }
        if self.port.is_none() {
            let message = format!("{}: {} is not a port; use 1 to 65535", self.field(".port"), self.spec.port);
            return Some(Refusal { reason: NotAccepted::PortUnavailable, message, keeps_place: false });
        }
        if self.hostname.is_none() {
            let text = self.spec.hostname.as_ref().map(ToString::to_string).unwrap_or_default();
            let message = format!("{}: '{text}' is not a hostname", self.field(".hostname"));
            return Some(Refusal { reason: NotAccepted::UnsupportedValue, message, keeps_place: false });
        }
        let message = self.unsupported_value(gateway)?;
        Some(Refusal { reason: NotAccepted::UnsupportedValue, message, keeps_place: true })
    }

    /// A field that says something that cannot be honoured.
    fn unsupported_value(&self, gateway: &api::Gateway) -> Option<String> {
        if let Some(field) = unknown_field(&self.spec.extra) {
            return Some(format!("{}: the field {} is unknown", self.field(""), Foreign(field)));
        }
        if self.spec.filters.as_ref().is_some_and(|filters| !filters.requests.is_empty() || !filters.extra.is_empty()) {
            return Some(format!("{}: filters of listeners are not supported yet", self.field(".filters")));
        }
        if let Err(message) = allowed_namespaces(self.spec) {
            return Some(format!("{}: {message}", self.field(".allowedRoutes.namespaces")));
        }
        let tls = self.spec.tls.as_ref();
        match (self.protocol?, tls) {
            (ListenerProtocol::Http, Some(_)) => {
                return Some(format!(
                    "{}: a listener with protocol HTTP has no TLS; use protocol HTTPS",
                    self.field(".tls")
                ));
            }
            (ListenerProtocol::Http, None) => return None,
            (ListenerProtocol::Https, _) => {}
        }
        if let Some(mode) = tls.and_then(|tls| tls.mode.as_ref()).filter(|mode| **mode != TlsModeType::Terminate) {
            return Some(format!(
                "{}: mode {mode} does not go with protocol HTTPS; use Terminate",
                self.field(".tls.mode")
            ));
        }
        if let Some(field) = tls.and_then(|tls| unknown_field(&tls.extra)) {
            return Some(format!("{}: the field {} is unknown", self.field(".tls"), Foreign(field)));
        }
        let port = self.port?;
        client_validation(gateway, port).map(|field| {
            format!("{field}: validation of client certificates is not supported yet, and without it port {port} must not serve")
        })
    }
}

/// Why a listener is refused.
struct Refusal {
    reason: NotAccepted,
    message: String,
    /// Whether it stays in the configuration and keeps its hostname to itself.
    keeps_place: bool,
}

/// The field that asks for client certificates on a port.
fn client_validation(gateway: &api::Gateway, port: u16) -> Option<String> {
    let asks = |config: &TlsConfig| config.validation.is_some() || !config.extra.is_empty();
    let tls = gateway.spec.tls.as_ref()?;
    if !tls.extra.is_empty() {
        return Some("spec.tls".to_owned());
    }
    let frontend = tls.frontend.as_ref()?;
    if !frontend.extra.is_empty() {
        return Some("spec.tls.frontend".to_owned());
    }
    let of_port: Vec<_> =
        frontend.per_port.iter().enumerate().filter(|(_, entry)| entry.port == i32::from(port)).collect();
    if of_port.is_empty() {
        return asks(&frontend.default).then(|| "spec.tls.frontend.default".to_owned());
    }
    of_port.iter().find_map(|(index, entry)| {
        (asks(&entry.tls) || !entry.extra.is_empty()).then(|| format!("spec.tls.frontend.perPort[{index}]"))
    })
}

fn allowed_namespaces(spec: &api::Listener) -> Result<AllowedNamespaces, String> {
    let allowed = spec.allowed_routes.as_ref();
    if let Some(field) = allowed.and_then(|allowed| unknown_field(&allowed.extra)) {
        return Err(format!("the field {} is unknown", Foreign(field)));
    }
    let Some(namespaces) = allowed.and_then(|allowed| allowed.namespaces.as_ref()) else {
        return Ok(AllowedNamespaces::Same);
    };
    match &namespaces.from {
        None | Some(FromNamespaces::Same) => Ok(AllowedNamespaces::Same),
        Some(FromNamespaces::All) => Ok(AllowedNamespaces::All),
        Some(FromNamespaces::None) => Ok(AllowedNamespaces::None),
        Some(FromNamespaces::Selector) => match &namespaces.selector {
            None => Err("from is Selector, so selector must be set".to_owned()),
            Some(selector) => match selector.validate() {
                Ok(()) => Ok(AllowedNamespaces::Selector(selector.clone())),
                Err(error) => Err(format!("selector: {error}")),
            },
        },
        Some(FromNamespaces::Unknown(from)) => {
            Err(format!("from: {} is unknown; use All, Selector or Same", Foreign(from)))
        }
    }
}

/// The kinds of routes that a listener takes: those of its protocol, less those that its `kinds` leaves out; and the ones asked for that
/// it cannot take.
fn supported_kinds(draft: &Draft<'_>) -> (Vec<RouteGroupKind>, Vec<String>) {
    let fits = |group: &str, kind: &str| draft.protocol.is_some() && group == GATEWAY_GROUP && kind == "HTTPRoute";
    let entry = |kind: &str| RouteGroupKind {
        group: Some(GATEWAY_GROUP.to_owned()),
        kind: kind.to_owned(),
        extra: Extra::default(),
    };
    let asked = draft.spec.allowed_routes.as_ref().map(|allowed| allowed.kinds.as_slice()).unwrap_or_default();
    if asked.is_empty() {
        let kinds = if draft.protocol.is_some() { vec![entry("HTTPRoute")] } else { Vec::new() };
        return (kinds, Vec::new());
    }
    let mut kinds: Vec<RouteGroupKind> = Vec::new();
    let mut invalid = Vec::new();
    for (index, asked) in asked.iter().enumerate() {
        if !fits(asked.group(), &asked.kind) {
            let field = draft.field(&format!(".allowedRoutes.kinds[{index}]"));
            invalid
                .push(format!("{field}: {} is not supported on this listener", group_kind(asked.group(), &asked.kind)));
        } else if !kinds.iter().any(|kind| kind.kind == asked.kind) {
            kinds.push(entry(&asked.kind));
        }
    }
    (kinds, invalid)
}

fn compile_one(
    name: &ObjectName,
    gateway: &api::Gateway,
    drafts: &[Draft<'_>],
    draft: &Draft<'_>,
    surroundings: &mut Surroundings<'_>,
    aside: &mut Aside,
) -> CompiledListener {
    let observed = Observed(gateway.metadata.generation);
    let conflict = draft.conflict(drafts);
    let refusal = draft.refusal(drafts, gateway).or_else(|| port_taken(draft, surroundings.taken_ports));
    let refusal = refusal.or_else(|| surroundings.in_pods.then(|| pod_port_taken(draft, drafts)).flatten());
    let (supported_kinds, invalid_kinds) = supported_kinds(draft);
    let tls = resolve_certificates(name, draft, surroundings, aside);

    let accepted = match (&refusal, &conflict) {
        (Some(refusal), _) => Err((refusal.reason, refusal.message.clone())),
        (None, Some((conflict, message))) => Err((NotAccepted::Conflicted(*conflict), message.clone())),
        (None, None) => Ok(()),
    };
    let resolved = unresolved(&tls.problems, invalid_kinds);
    let not_programmed = match &accepted {
        Err((_, message)) => Some(message.clone()),
        Ok(()) => tls.is_unusable().then(|| joined(&tls.messages(), "; ")),
    };
    let keeps_place = refusal.as_ref().is_none_or(|refusal| refusal.keeps_place)
        && !matches!(conflict, Some((Conflict::Protocol, _)));
    let state = match (&accepted, &not_programmed) {
        (_, None) => ListenerState::Serving,
        (Err((reason, _)), _) => ListenerState::Invalid { reason: reason.as_str().to_owned() },
        (Ok(()), Some(_)) => {
            let reason = tls.problems.first().map_or(Unresolved::InvalidCertificateRef, |(reason, _)| *reason);
            ListenerState::Invalid { reason: reason.as_str().to_owned() }
        }
    };
    let key = ListenerKey::of_gateway(draft.spec.name.as_str());
    let config = keeps_place.then(|| config(draft, key.clone(), &tls, state)).flatten();

    let mut conditions = vec![match &accepted {
        Ok(()) => conditions::accepted(observed),
        Err((reason, message)) => conditions::not_accepted(observed, *reason, message),
    }];
    conditions.push(match resolved {
        Ok(()) => conditions::resolved_refs(observed),
        Err((reason, message)) => conditions::unresolved_refs(observed, reason, message),
    });
    conditions.push(match &conflict {
        None => conditions::no_conflicts(observed),
        Some((conflict, message)) => conditions::conflicted(observed, *conflict, message),
    });
    let overlapping = draft.overlapping(drafts);
    if !overlapping.is_empty() {
        let message = format!(
            "The hostname overlaps with that of {}: a client may reuse a connection of one for the other; such requests are answered with 421",
            joined(&overlapping, ", ")
        );
        conditions.push(conditions::overlapping_hostnames(observed, message));
    }
    CompiledListener {
        admission: Admission {
            key,
            port: draft.spec.port,
            hostname: draft.hostname.clone(),
            namespaces: allowed_namespaces(draft.spec).unwrap_or(AllowedNamespaces::None),
            kinds: supported_kinds.iter().map(|kind| (kind.group().to_owned(), kind.kind.clone())).collect(),
            is_configured: config.is_some(),
        },
        supported_kinds,
        is_accepted: accepted.is_ok(),
        are_refs_resolved: conditions
            .iter()
            .all(|condition| condition.r#type != "ResolvedRefs" || condition.status.as_str() == "True"),
        conditions,
        not_programmed,
        certificates: if config.is_some() { tls.certificates } else { Vec::new() },
        config,
    }
}

fn port_taken(draft: &Draft<'_>, taken_ports: &BTreeMap<u16, ObjectName>) -> Option<Refusal> {
    let port = draft.port?;
    let holder = taken_ports.get(&port)?;
    let message = format!(
        "{}: port {port} is taken by Gateway {} on this machine; give the Gateways different spec.addresses or ports, or put the listeners \
         into one Gateway",
        draft.field(".port"),
        shown(holder)
    );
    Some(Refusal { reason: NotAccepted::PortUnavailable, message, keeps_place: false })
}

/// A listener on the port of telemetry is bound on another port of the pod, which another listener may have: who comes first has it.
fn pod_port_taken(draft: &Draft<'_>, drafts: &[Draft<'_>]) -> Option<Refusal> {
    let port = draft.port?;
    let is_same = |other: u16| pod_port(other) == pod_port(port);
    let first = drafts
        .iter()
        .filter(|other| other.protocol.is_some())
        .find_map(|other| other.port.filter(|port| is_same(*port)))?;
    if first == port {
        return None;
    }
    let message = format!(
        "{}: ports {port} and {first} cannot both be served: pods have {TELEMETRY_PORT} for telemetry, and serve a listener on it on {}. \
         The port that comes first in the list is served; give this listener another",
        draft.field(".port"),
        pod_port(port)
    );
    Some(Refusal { reason: NotAccepted::PortUnavailable, message, keeps_place: false })
}

fn config(draft: &Draft<'_>, key: ListenerKey, tls: &Tls, state: ListenerState) -> Option<Arc<Listener>> {
    let protocol = draft.protocol?;
    let certificates = tls.certificates.iter().map(|certificate| certificate.key.clone()).collect();
    Some(Arc::new(Listener {
        key,
        port: draft.port?,
        protocol,
        hostname: draft.hostname.clone()?,
        tls: (protocol == ListenerProtocol::Https).then_some(ListenerTls { certificates }),
        state,
    }))
}

/// What a listener's certificateRefs came to.
#[derive(Default)]
struct Tls {
    certificates: Vec<Arc<Certificate>>,
    problems: Vec<(Unresolved, String)>,
}

impl Tls {
    /// Whether there should be a certificate and none can be used.
    fn is_unusable(&self) -> bool {
        self.certificates.is_empty() && !self.problems.is_empty()
    }

    fn messages(&self) -> Vec<&str> {
        self.problems.iter().map(|(_, message)| message.as_str()).collect()
    }
}

/// One condition for all references of a listener: certificates weigh more than kinds, and the first problem gives the reason.
fn unresolved(certificates: &[(Unresolved, String)], kinds: Vec<String>) -> Result<(), (Unresolved, String)> {
    let reason = match (certificates.first(), kinds.is_empty()) {
        (Some((reason, _)), _) => *reason,
        (None, false) => Unresolved::InvalidRouteKinds,
        (None, true) => return Ok(()),
    };
    let messages: Vec<_> = certificates.iter().map(|(_, message)| message.clone()).chain(kinds).collect();
    Err((reason, joined(&messages, "; ")))
}

fn resolve_certificates(
    name: &ObjectName,
    draft: &Draft<'_>,
    surroundings: &mut Surroundings<'_>,
    aside: &mut Aside,
) -> Tls {
    let mut resolved = Tls::default();
    if draft.protocol != Some(ListenerProtocol::Https) {
        return resolved;
    }
    let references = draft.spec.tls.as_ref().map(|tls| tls.certificate_refs.as_slice()).unwrap_or_default();
    if references.is_empty() {
        let message = format!("{}: protocol HTTPS needs a certificate; add certificateRefs", draft.field(".tls"));
        resolved.problems.push((Unresolved::InvalidCertificateRef, message));
        return resolved;
    }
    for (index, reference) in references.iter().enumerate() {
        let field = draft.field(&format!(".tls.certificateRefs[{index}]"));
        match resolve_certificate(name, reference, surroundings, aside) {
            Ok(certificate) => {
                validity(name, &field, &certificate, surroundings.now, aside);
                if !resolved.certificates.contains(&certificate) {
                    resolved.certificates.push(certificate);
                }
            }
            Err((reason, message)) => resolved.problems.push((reason, format!("{field}: {message}"))),
        }
    }
    let names = || resolved.certificates.iter().flat_map(|certificate| &certificate.dns_names);
    if let Some(hostname @ (Hostname::Exact(_) | Hostname::Wildcard(_))) = &draft.hostname {
        let hostname = hostname.to_string();
        if !resolved.certificates.is_empty() && !names().any(|name| certificate::covers(name, &hostname)) {
            let names: Vec<_> = names().map(|name| Foreign(name).to_string()).collect();
            aside.findings.push(Finding::new(
                FindingCode::HostnameNotCovered,
                gateway_key(name),
                draft.field(".hostname"),
                format!("no certificate covers {hostname}; those of this listener are for {}", joined(&names, ", ")),
                "clients will refuse the connection: use a certificate for the hostname",
            ));
        }
    }
    resolved
}

/// The grant is looked at before anything else, so that nobody learns what exists in another namespace.
fn resolve_certificate(
    name: &ObjectName,
    reference: &SecretObjectReference,
    surroundings: &mut Surroundings<'_>,
    aside: &mut Aside,
) -> Result<Arc<Certificate>, (Unresolved, String)> {
    let namespace = reference.namespace.as_deref().unwrap_or(&name.namespace);
    let secret = ObjectName::new(namespace, reference.name.as_str());
    let crossing = Reference {
        from: Referrer::Gateway,
        from_namespace: name.namespace.clone(),
        group: reference.group().into(),
        kind: reference.kind().into(),
        to: secret.clone(),
    };
    let permitted = grants::permitted(surroundings.snapshot, &crossing);
    let refusal = (!permitted).then(|| grants::refusal(&crossing));
    aside.references.insert(crossing);
    if let Some(refusal) = refusal {
        return Err((Unresolved::RefNotPermitted, refusal));
    }
    let invalid = |message: String| (Unresolved::InvalidCertificateRef, message);
    if (reference.group(), reference.kind()) != ("", "Secret") {
        let kind = group_kind(reference.group(), reference.kind());
        return Err(invalid(format!("a certificate of kind {kind} is not supported; use a Secret")));
    }
    aside.wanted.insert(secret.clone());
    let is_there = surroundings.snapshot.secrets.contains_key(&secret);
    let outside = surroundings.secrets.refusal(surroundings.snapshot, namespace).filter(|_| !is_there);
    let certificate = match outside {
        Some(refusal) => Err(refusal),
        None => surroundings.certificates.of(surroundings.snapshot, &secret),
    };
    certificate.map_err(|message| invalid(format!("Secret {}: {message}", shown(&secret))))
}

/// What time says about a certificate, and when it will say something else.
fn validity(name: &ObjectName, field: &str, certificate: &Certificate, now: i64, aside: &mut Aside) {
    let (not_before, not_after) = (certificate.not_before, certificate.not_after);
    let soon = not_after.saturating_sub(EXPIRES_SOON);
    // A certificate is still valid in the second that notAfter names (RFC 5280).
    let changes = [not_before, soon, not_after.saturating_add(1)];
    aside.next_change_at = changes.into_iter().filter(|change| *change > now).chain(aside.next_change_at).min();
    let secret = shown(&certificate.key.0);
    let (code, message, remedy) = if now < not_before {
        let message = format!("the certificate in Secret {secret} is not valid yet");
        (FindingCode::CertificateNotYetValid, message, "clients refuse it until then; check the clock")
    } else if now > not_after {
        let message = format!("the certificate in Secret {secret} has expired; it is still served");
        (FindingCode::CertificateExpired, message, "clients refuse it: renew it")
    } else if now >= soon {
        let message = format!("the certificate in Secret {secret} expires within 14 days");
        (FindingCode::CertificateExpiresSoon, message, "renew it")
    } else {
        return;
    };
    aside.findings.push(Finding::new(code, gateway_key(name), field, message, remedy));
}

pub(crate) fn gateway_key(name: &ObjectName) -> ObjectKey {
    gateway_api_key("Gateway", name)
}

/// The status of a listener.
pub(crate) fn status(
    listener: &CompiledListener,
    attached_routes: usize,
    conditions: Vec<Condition>,
) -> ListenerStatus {
    ListenerStatus {
        name: listener.admission.key.name.to_string(),
        port: None,
        supported_kinds: Some(listener.supported_kinds.clone()),
        attached_routes: i32::try_from(attached_routes).unwrap_or(i32::MAX),
        conditions,
        extra: Extra::default(),
    }
}
