//! Gateways: addresses, parameters, and what their listeners add up to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_api::gateway::{
    self as api, AddressRoutability, AddressType, FromNamespaces, GatewayStatus, GatewayStatusAddress, ProtocolType,
};
use portcullis_api::meta::Condition;
use portcullis_api::shared::GatewayDefaultScope;
use portcullis_api::{Extra, Foreign};
use portcullis_model::{ListenerKey, ObjectName};

use crate::conditions::gateway::{self as conditions, NotAccepted, NotProgrammed};
use crate::conditions::{self as all_conditions, Observed};
use crate::findings::{Finding, FindingCode};
use crate::gateway_class::ClassState;
use crate::grants::Reference;
use crate::listener::{self, Aside, CompiledListener, Surroundings, gateway_key};
use crate::snapshot::age;
use crate::text::{group_kind, joined, shown, unknown_field};

/// A Gateway as it was judged.
pub(crate) struct CompiledGateway {
    pub(crate) observed: Observed,
    /// Its conditions.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) listeners: Vec<CompiledListener>,
    /// What is configured as a whole; nothing for a Gateway that is not served.
    pub(crate) config: Option<Arc<portcullis_model::Gateway>>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) next_change_at: Option<i64>,
    /// References to Secrets, followed or not.
    pub(crate) references: BTreeSet<Reference>,
}

impl CompiledGateway {
    /// Its status, with the number of routes that are attached to each listener.
    pub(crate) fn status(&self, attached_routes: &BTreeMap<ListenerKey, usize>) -> GatewayStatus {
        let listeners = self.listeners.iter().map(|listener| {
            let attached_routes = attached_routes.get(&listener.admission.key).copied().unwrap_or_default();
            listener::status(listener, attached_routes, self.listener_conditions(listener))
        });
        let address = |address: &IpAddr| GatewayStatusAddress {
            r#type: Some(AddressType::IpAddress),
            value: address.to_string(),
            routability: None,
            extra: Extra::default(),
        };
        GatewayStatus {
            addresses: self.addresses.iter().map(address).collect(),
            conditions: self.conditions.clone(),
            listeners: listeners.collect(),
            attached_listener_sets: None,
            extra: Extra::default(),
        }
    }

    fn listener_conditions(&self, listener: &CompiledListener) -> Vec<Condition> {
        use all_conditions::listener::{not_programmed, programmed};
        let condition = match (&listener.not_programmed, &self.config) {
            (Some(message), _) => not_programmed(self.observed, message),
            (None, None) => not_programmed(self.observed, "The Gateway is not served; see its conditions"),
            (None, Some(_)) => programmed(self.observed),
        };
        let mut conditions = listener.conditions.clone();
        conditions.insert(1, condition);
        conditions
    }
}

/// Judges a Gateway of a class that is ours.
pub(crate) fn compile(
    name: &ObjectName,
    gateway: &api::Gateway,
    class: &ClassState,
    standalone: bool,
    mut surroundings: Surroundings<'_>,
) -> CompiledGateway {
    let observed = Observed(gateway.metadata.generation);
    let mut aside = Aside::default();
    let listeners = listener::compile(name, gateway, &mut surroundings, &mut aside);
    let addresses = Addresses::of(gateway);
    let accepted = acceptance(gateway, class, &addresses, &listeners);
    let programmed = match &accepted {
        Acceptance::Not(_, message) => Err((NotProgrammed::Invalid, message.clone())),
        _ => programmed(&addresses, &listeners),
    };
    let is_served = !matches!(accepted, Acceptance::Not(..)) && !addresses.is_none_usable();
    let unresolved: Vec<_> = listeners
        .iter()
        .filter(|listener| !listener.are_refs_resolved)
        .map(|listener| Foreign(&listener.admission.key.name).to_string())
        .collect();
    let conditions = vec![
        match accepted {
            Acceptance::Whole => conditions::accepted(observed),
            Acceptance::Part(message) => conditions::accepted_in_part(observed, message),
            Acceptance::Not(reason, message) => conditions::not_accepted(observed, reason, message),
        },
        match programmed {
            Ok(()) => conditions::programmed(observed),
            Err((reason, message)) => conditions::not_programmed(observed, reason, message),
        },
        if unresolved.is_empty() {
            conditions::resolved_refs(observed)
        } else {
            let message = format!("Listeners with references that are not resolved: {}", joined(&unresolved, ", "));
            conditions::listeners_not_resolved(observed, message)
        },
    ];
    findings(name, gateway, class, standalone, &mut aside.findings);
    let config = is_served.then(|| {
        Arc::new(portcullis_model::Gateway {
            name: name.clone(),
            gateway_class: gateway.spec.gateway_class_name.as_str().into(),
            addresses: addresses.bound(),
            generation: 0,
            upstreams: portcullis_model::Upstreams::default(),
        })
    });
    CompiledGateway {
        observed,
        conditions,
        addresses: if is_served { addresses.usable } else { Vec::new() },
        listeners,
        config,
        findings: aside.findings,
        next_change_at: aside.next_change_at,
        references: aside.references,
    }
}

enum Acceptance {
    Whole,
    /// Some listeners are not accepted.
    Part(String),
    Not(NotAccepted, String),
}

fn acceptance(
    gateway: &api::Gateway,
    class: &ClassState,
    addresses: &Addresses,
    listeners: &[CompiledListener],
) -> Acceptance {
    if let ClassState::Refused { message } = class {
        let class = Foreign(&gateway.spec.gateway_class_name);
        return Acceptance::Not(
            NotAccepted::InvalidParameters,
            format!("GatewayClass {class} is not accepted: {message}"),
        );
    }
    let infrastructure = gateway.spec.infrastructure.as_ref();
    if let Some(reference) = infrastructure.and_then(|infrastructure| infrastructure.parameters_ref.as_ref()) {
        let message = format!(
            "spec.infrastructure.parametersRef: parameters of kind {} are not supported; remove parametersRef",
            group_kind(&reference.group, &reference.kind)
        );
        return Acceptance::Not(NotAccepted::InvalidParameters, message);
    }
    if let Some(message) = addresses.unsupported.first() {
        return Acceptance::Not(NotAccepted::UnsupportedAddress, message.clone());
    }
    let (accepted, refused): (Vec<_>, Vec<_>) = listeners.iter().partition(|listener| listener.is_accepted);
    let names = |listeners: &[&CompiledListener]| {
        let names: Vec<_> =
            listeners.iter().map(|listener| Foreign(&listener.admission.key.name).to_string()).collect();
        joined(&names, ", ")
    };
    match (accepted.is_empty(), refused.is_empty()) {
        (false, true) => Acceptance::Whole,
        (false, false) => Acceptance::Part(format!(
            "Listeners that are not accepted: {}; accepted: {}; see the conditions of each",
            names(&refused),
            names(&accepted)
        )),
        (true, false) => Acceptance::Not(
            NotAccepted::ListenersNotValid,
            format!("No listener is accepted: {}; see the conditions of each", names(&refused)),
        ),
        (true, true) => Acceptance::Not(
            NotAccepted::ListenersNotValid,
            "spec.listeners: a Gateway needs at least one listener".to_owned(),
        ),
    }
}

fn programmed(addresses: &Addresses, listeners: &[CompiledListener]) -> Result<(), (NotProgrammed, String)> {
    if let Some(message) = addresses.unusable.first() {
        return Err((NotProgrammed::AddressNotUsable, message.clone()));
    }
    if let Some(message) = addresses.unassigned.first() {
        return Err((NotProgrammed::AddressNotAssigned, message.clone()));
    }
    if listeners.iter().all(|listener| listener.not_programmed.is_some()) {
        let message = "No listener can serve; see the conditions of each".to_owned();
        return Err((NotProgrammed::Invalid, message));
    }
    Ok(())
}

/// What `spec.addresses` came to.
#[derive(Default)]
struct Addresses {
    /// How many entries there are.
    asked: usize,
    /// Whether an entry leaves the choice to us.
    any: bool,
    usable: Vec<IpAddr>,
    unsupported: Vec<String>,
    unusable: Vec<String>,
    unassigned: Vec<String>,
}

impl Addresses {
    fn of(gateway: &api::Gateway) -> Self {
        let mut addresses = Self { asked: gateway.spec.addresses.len(), ..Self::default() };
        for (index, address) in gateway.spec.addresses.iter().enumerate() {
            let field = format!("spec.addresses[{index}]");
            let value = address.value.as_deref().filter(|value| !value.is_empty());
            let routability = address.routability.as_ref().filter(|scope| **scope != AddressRoutability::Default);
            if let Some(kind) = address.r#type.as_ref().filter(|kind| **kind != AddressType::IpAddress) {
                addresses
                    .unsupported
                    .push(format!("{field}: addresses of type {kind} are not supported; use IPAddress"));
            } else if let Some(field_name) = unknown_field(&address.extra) {
                addresses.unsupported.push(format!("{field}: the field {} is unknown", Foreign(field_name)));
            } else if let Some(routability) = routability {
                addresses.unassigned.push(format!("{field}.routability: {routability} is not supported"));
            } else if let Some(value) = value {
                match value.parse::<IpAddr>() {
                    Ok(ip) if addresses.usable.contains(&ip) => {}
                    Ok(ip) => addresses.usable.push(ip),
                    Err(_) => {
                        addresses.unusable.push(format!("{field}.value: '{}' is not an IP address", Foreign(value)))
                    }
                }
            } else {
                addresses.any = true;
            }
        }
        addresses
    }

    /// Whether addresses were asked for and none of them can be had; all addresses would be more than was asked for.
    fn is_none_usable(&self) -> bool {
        self.asked > 0 && !self.any && self.usable.is_empty()
    }

    /// What is to be bound; empty for all addresses.
    fn bound(&self) -> Vec<IpAddr> {
        if self.any { Vec::new() } else { self.usable.clone() }
    }
}

/// The ports that a Gateway takes on its machine, and on which addresses (none for all).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Who comes first: the older Gateway, then by name.
    pub(crate) rank: ((bool, i64), ObjectName),
    pub(crate) ports: BTreeSet<u16>,
    addresses: Vec<IpAddr>,
}

impl Claim {
    pub(crate) fn of(name: &ObjectName, gateway: &api::Gateway) -> Self {
        let takes = |listener: &&api::Listener| matches!(listener.protocol, ProtocolType::Http | ProtocolType::Https);
        let ports =
            gateway.spec.listeners.iter().filter(takes).filter_map(|listener| u16::try_from(listener.port).ok());
        Self {
            rank: (age(&gateway.metadata), name.clone()),
            ports: ports.filter(|port| *port != 0).collect(),
            addresses: Addresses::of(gateway).bound(),
        }
    }

    /// Whether both want an address that only one can have.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.addresses.is_empty()
            || other.addresses.is_empty()
            || self.addresses.iter().any(|address| address.is_unspecified() || other.addresses.contains(address))
            || other.addresses.iter().any(IpAddr::is_unspecified)
    }
}

fn findings(
    name: &ObjectName,
    gateway: &api::Gateway,
    class: &ClassState,
    standalone: bool,
    findings: &mut Vec<Finding>,
) {
    let spec = &gateway.spec;
    let mut add = |code, field: &str, message: String, remedy: &str| {
        findings.push(Finding::new(code, gateway_key(name), field, message, remedy));
    };
    if *class == ClassState::Assumed {
        let class = Foreign(&spec.gateway_class_name);
        let message = format!("GatewayClass {class} is absent; the Gateway is served as if the class were ours");
        let remedy = "in a cluster the Gateway is served only if the class exists: add a GatewayClass with controllerName \
                      portcullis.dev/gateway-controller";
        add(FindingCode::GatewayClassAssumed, "spec.gatewayClassName", message, remedy);
    }
    if let Some(field) = unknown_field(&spec.extra) {
        add(
            FindingCode::NotSupported,
            "spec",
            format!("the field {} is unknown and ignored", Foreign(field)),
            "remove it",
        );
    }
    let lists = spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref()?.from.as_ref());
    if lists.is_some_and(|from| *from != FromNamespaces::None) {
        let message = "ListenerSets are not supported yet: none is attached".to_owned();
        add(FindingCode::NotSupported, "spec.allowedListeners", message, "put the listeners into the Gateway");
    }
    if spec.default_scope.as_ref().is_some_and(|scope| *scope != GatewayDefaultScope::None) {
        let message = "default Gateways are not supported: routes attach only by parentRefs".to_owned();
        add(FindingCode::NotSupported, "spec.defaultScope", message, "name the Gateway in each route's parentRefs");
    }
    if spec.tls.as_ref().and_then(|tls| tls.backend.as_ref()).is_some() {
        let message =
            "TLS towards backends is not supported yet: the client certificate is presented to none".to_owned();
        add(
            FindingCode::NotSupported,
            "spec.tls.backend",
            message,
            "backends with a BackendTLSPolicy answer 500 until then",
        );
    }
    for (index, listener) in spec.listeners.iter().enumerate() {
        for option in listener.tls.iter().flat_map(|tls| tls.options.keys()) {
            let field = format!("spec.listeners[{index}].tls.options");
            let message = format!("the option {} is not known here and has no effect", Foreign(option));
            add(FindingCode::NotSupported, &field, message, "remove it");
        }
    }
    let infrastructure = spec.infrastructure.as_ref();
    if standalone && infrastructure.is_some_and(|it| !it.labels.is_empty() || !it.annotations.is_empty()) {
        let message = "labels and annotations are for what is created in a cluster; here nothing is created".to_owned();
        add(FindingCode::FieldIgnored, "spec.infrastructure", message, "");
    }
}

/// The finding about a Gateway that is not ours, where everything that is given should be ours.
pub(crate) fn foreign_class_finding(name: &ObjectName, gateway: &api::Gateway, controller_name: &str) -> Finding {
    Finding::new(
        FindingCode::GatewayClassForeign,
        gateway_key(name),
        "spec.gatewayClassName",
        format!(
            "GatewayClass {} belongs to controller {}: Gateway {} is not served",
            Foreign(&gateway.spec.gateway_class_name),
            Foreign(controller_name),
            shown(name)
        ),
        "set the class's controllerName to portcullis.dev/gateway-controller, or name another class",
    )
}
