//! Gateways: addresses, parameters, and what their listeners add up to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_api::gateway::{
    self as api, AddressRoutability, AddressType, FromNamespaces, GatewayStatus, GatewayStatusAddress, ProtocolType,
};
use portcullis_api::gateway_parameters::DataPlane;
use portcullis_api::meta::Condition;
use portcullis_api::shared::GatewayDefaultScope;
use portcullis_api::{Extra, Foreign};
use portcullis_model::{ListenerKey, ListenerProtocol, ObjectName, Upstreams};

use crate::conditions::gateway::{self as conditions, NotAccepted, NotProgrammed};
use crate::conditions::{self as all_conditions, Observed};
use crate::findings::{Finding, FindingCode};
use crate::gateway_class::ClassState;
use crate::grants::Reference;
use crate::infrastructure::{AddressKind, AddressRequest, AddressScope, Infrastructure, TransportProtocol};
use crate::listener::{self, Aside, CompiledListener, Surroundings, gateway_key};
use crate::own_addresses::OwnAddresses;
use crate::parameters::{self, ExternalNames, Metadata, Parameters};
use crate::small::Map;
use crate::snapshot::age;
use crate::text::{joined, shown, unknown_field};

/// A Gateway as it was judged.
pub(crate) struct CompiledGateway {
    pub(crate) observed: Observed,
    /// Its conditions.
    pub(crate) conditions: Vec<Condition>,
    /// In a folder; in a cluster they become known when they are assigned.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) listeners: Vec<CompiledListener>,
    /// What is configured as a whole; nothing for a Gateway that is not served.
    pub(crate) config: Option<Arc<portcullis_model::Gateway>>,
    /// What must exist in a cluster so that it is served.
    pub(crate) infrastructure: Option<Arc<Infrastructure>>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) next_change_at: Option<i64>,
    /// References to Secrets, followed or not. Sorted.
    pub(crate) references: Box<[Reference]>,
    /// The Secrets among them that may be read.
    pub(crate) wanted: BTreeSet<ObjectName>,
    /// The names that Services of type ExternalName behind it may have.
    pub(crate) external_names: ExternalNames,
    is_accepted: bool,
}

impl CompiledGateway {
    /// Its status, with the number of routes that are attached to each listener.
    pub(crate) fn status(&self, attached_routes: &Map<ListenerKey, usize>) -> GatewayStatus {
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
        let is_served = self.is_accepted && self.config.is_some();
        let condition = match &listener.not_programmed {
            Some(message) => not_programmed(self.observed, message),
            None if is_served => programmed(self.observed),
            None => not_programmed(self.observed, "The Gateway is not served; see its conditions"),
        };
        let mut conditions = listener.conditions.clone();
        conditions.insert(1, condition);
        conditions
    }
}

/// Where a Gateway is served.
pub(crate) struct Place<'a> {
    /// In a folder, by the machine that reads it; otherwise in a cluster, by a data plane of its own.
    pub(crate) standalone: bool,
    /// The cluster's own addresses.
    pub(crate) own_addresses: &'a OwnAddresses,
}

/// Judges a Gateway of a class that is ours.
pub(crate) fn compile(
    name: &ObjectName,
    gateway: &api::Gateway,
    class: &ClassState,
    place: &Place<'_>,
    mut surroundings: Surroundings<'_>,
) -> CompiledGateway {
    let observed = Observed(gateway.metadata.generation);
    let mut aside = Aside::default();
    let parameters = parameters::of_gateway(name, gateway, class, surroundings.snapshot);
    let listeners = listener::compile(name, gateway, &mut surroundings, &mut aside);
    let addresses = Addresses::of(gateway, place.standalone);
    let accepted = acceptance(parameters.as_ref().err(), &addresses, &listeners);
    let programmed = match &accepted {
        Acceptance::Not(_, message) => Err((NotProgrammed::Invalid, message.clone())),
        _ => programmed(&addresses, &listeners),
    };
    let is_served = match &accepted {
        // What serves goes on, as it is: see the crate's documentation.
        Acceptance::Not(NotAccepted::InvalidParameters, _) => {
            !place.standalone
                && addresses.unsupported.is_empty()
                && listeners.iter().any(|listener| listener.is_accepted)
        }
        Acceptance::Not(..) => false,
        _ => !addresses.is_none_usable(),
    };
    let is_accepted = !matches!(accepted, Acceptance::Not(..));
    let unresolved: Vec<_> = listeners
        .iter()
        .filter(|listener| !listener.are_refs_resolved)
        .map(|listener| Foreign(&listener.admission.key.name).to_string())
        .collect();
    let class_parameters = parameters.as_ref().map(|parameters| parameters.class.clone()).unwrap_or_default();
    let metadata = class_parameters.metadata(gateway.spec.infrastructure.as_deref());
    let mut conditions = vec![
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
    findings(name, gateway, class, place.standalone, &mut aside.findings);
    aside.findings.extend(parameters.as_ref().ok().and_then(|parameters| ignored_parameters(name, parameters)));
    let parameters = parameters.ok();
    if let Some(parameters) = parameters.as_ref().filter(|_| !place.standalone) {
        conditions.extend(fields_ignored(observed, parameters, &metadata));
    }
    let config = is_served.then(|| {
        let upstreams = if place.standalone {
            Upstreams::default()
        } else {
            Upstreams {
                allowed: class_parameters.allowed_addresses.clone(),
                nodes: place.own_addresses.nodes.clone(),
                control_plane: place.own_addresses.control_plane.clone(),
            }
        };
        Arc::new(portcullis_model::Gateway {
            name: name.clone(),
            gateway_class: gateway.spec.gateway_class_name.as_str().into(),
            addresses: addresses.bound(),
            generation: gateway.metadata.generation.unwrap_or_default(),
            upstreams,
        })
    });
    let infrastructure = (is_served && !place.standalone).then(|| {
        // Of one that is about to go nothing is made or put right: who deletes it decides what becomes of its objects.
        let stays = gateway.metadata.deletion_timestamp.is_none();
        let parameters = parameters.filter(|_| stays).map(|parameters| parameters.data_plane);
        Arc::new(infrastructure(name, gateway, &listeners, addresses.requests, parameters, metadata))
    });
    CompiledGateway {
        observed,
        conditions,
        addresses: if is_served { addresses.usable } else { Vec::new() },
        listeners,
        config,
        infrastructure,
        findings: aside.findings,
        next_change_at: aside.next_change_at,
        references: aside.references.into_iter().collect(),
        wanted: aside.wanted,
        external_names: match place.standalone {
            true => ExternalNames::Any,
            false => class_parameters.external_names.clone(),
        },
        is_accepted,
    }
}

fn infrastructure(
    name: &ObjectName,
    gateway: &api::Gateway,
    listeners: &[CompiledListener],
    addresses: Vec<AddressRequest>,
    parameters: Option<Arc<DataPlane>>,
    metadata: Metadata,
) -> Infrastructure {
    let ports = listeners.iter().filter_map(|listener| {
        let listener = listener.config.as_ref()?;
        let protocol = match listener.protocol {
            ListenerProtocol::Http | ListenerProtocol::Https => TransportProtocol::Tcp,
        };
        Some((listener.port, protocol))
    });
    Infrastructure {
        gateway: name.clone(),
        uid: gateway.metadata.uid.as_deref().unwrap_or_default().into(),
        generation: gateway.metadata.generation.unwrap_or_default(),
        gateway_class: gateway.spec.gateway_class_name.as_str().into(),
        labels: metadata.labels,
        annotations: metadata.annotations,
        ports: ports.collect(),
        addresses,
        parameters,
    }
}

/// What the Gateway asks for and its class does not let it have.
fn fields_ignored(observed: Observed, parameters: &Parameters, metadata: &Metadata) -> Option<Condition> {
    let of_parameters = (!parameters.ignored.is_empty()).then(|| {
        let fields = joined(&parameters.ignored, ", ");
        format!("of its GatewayParameters {fields} (spec.allowGatewayFields of the class's GatewayParameters lists what may be set)")
    });
    let of_metadata = (!metadata.ignored.is_empty()).then(|| {
        let keys = joined(&metadata.ignored, "; ");
        format!("{keys} (spec.allowGatewayMetadata of the class's GatewayParameters lists the keys that may be set)")
    });
    let parts: Vec<_> = of_metadata.into_iter().chain(of_parameters).collect();
    let message = || format!("These have no effect, as the class does not allow them: {}", parts.join("; "));
    (!parts.is_empty()).then(|| conditions::fields_ignored(observed, message()))
}

fn ignored_parameters(name: &ObjectName, parameters: &Parameters) -> Option<Finding> {
    if parameters.ignored.is_empty() {
        return None;
    }
    let message = format!(
        "fields of its GatewayParameters that its class does not let a Gateway set have no effect: {}",
        joined(&parameters.ignored, ", ")
    );
    let remedy =
        "list them in spec.allowGatewayFields of the class's GatewayParameters, where that is possible, or remove them";
    let field = "spec.infrastructure.parametersRef";
    Some(Finding::new(FindingCode::FieldIgnored, gateway_key(name), field, message, remedy))
}

enum Acceptance {
    Whole,
    /// Some listeners are not accepted.
    Part(String),
    Not(NotAccepted, String),
}

fn acceptance(
    invalid_parameters: Option<&String>,
    addresses: &Addresses,
    listeners: &[CompiledListener],
) -> Acceptance {
    if let Some(message) = invalid_parameters {
        return Acceptance::Not(NotAccepted::InvalidParameters, message.clone());
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
    /// How many entries there are, where it is this machine that has the addresses.
    asked: usize,
    /// Whether an entry leaves the choice to us.
    any: bool,
    usable: Vec<IpAddr>,
    unsupported: Vec<String>,
    unusable: Vec<String>,
    unassigned: Vec<String>,
    /// In a cluster, where a Service has the addresses, or has not.
    requests: Vec<AddressRequest>,
}

impl Addresses {
    fn of(gateway: &api::Gateway, standalone: bool) -> Self {
        if standalone { Self::of_this_machine(gateway) } else { Self::of_a_cluster(gateway) }
    }

    fn of_this_machine(gateway: &api::Gateway) -> Self {
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

    /// Each entry is a request of its own. Whether it is satisfied is known once Services have addresses; here only what never can be.
    fn of_a_cluster(gateway: &api::Gateway) -> Self {
        let mut addresses = Self::default();
        for (index, address) in gateway.spec.addresses.iter().enumerate() {
            let field = format!("spec.addresses[{index}]");
            let value = address.value.as_deref().unwrap_or_default();
            let kind = match (&address.r#type, value.parse::<IpAddr>()) {
                _ if unknown_field(&address.extra).is_some() => None,
                (None | Some(AddressType::IpAddress), Ok(ip)) => Some(AddressKind::Ip(ip)),
                (None | Some(AddressType::IpAddress), Err(_)) if value.is_empty() => Some(AddressKind::Any),
                (None | Some(AddressType::IpAddress | AddressType::Hostname), _) => {
                    Some(AddressKind::Hostname(value.into()))
                }
                _ => None,
            };
            let Some(kind) = kind else {
                addresses.unsupported.push(match (unknown_field(&address.extra), &address.r#type) {
                    (None, Some(kind)) => format!("{field}: addresses of type {kind} are not supported; use IPAddress"),
                    (name, _) => format!("{field}: the field {} is unknown", Foreign(name.unwrap_or_default())),
                });
                continue;
            };
            if let AddressKind::Hostname(_) = &kind {
                let value = Foreign(value);
                addresses.unusable.push(format!(
                    "{field}: the name '{value}' cannot be given to a Service; use an IP address, or remove the value"
                ));
            }
            let scope = AddressScope::of(address.routability.as_ref());
            addresses.requests.push(AddressRequest { index, kind, scope });
        }
        if !addresses.requests.is_empty() && !addresses.requests.iter().any(AddressRequest::is_satisfiable) {
            let scopes = addresses.requests.iter().filter_map(|request| match &request.scope {
                AddressScope::Unknown(scope) => Some((request.index, scope)),
                _ => None,
            });
            addresses.unassigned = scopes
                .map(|(index, scope)| {
                    let scope = Foreign(scope);
                    format!("spec.addresses[{index}].routability: there are no addresses of {scope} here; use Cluster or none")
                })
                .collect();
        }
        addresses
    }

    /// Whether addresses of this machine were asked for and none of them can be had; all addresses would be more than was asked for.
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
            addresses: Addresses::of_this_machine(gateway).bound(),
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
