//! Backends: from a backendRef to a port of a Service, and from EndpointSlices to its endpoints.
//!
//! Order of the checks: the grant first (whoever may not refer learns nothing about what exists), then kind, existence, port, protocol, and
//! last whether a BackendTLSPolicy asks for TLS, which is not supported yet: such a Service is never spoken to in cleartext.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use portcullis_api::endpoint_slice::{EndpointAddressType, EndpointSlice};
use portcullis_api::meta::IntOrString;
use portcullis_api::service::{Service, ServicePort, ServiceType, TransportProtocol};
use portcullis_api::shared::{BackendObjectReference, Hostname};
use portcullis_api::{Foreign, ObjectKey};
use portcullis_model::{
    Backend, BackendKey, BackendProtocol, Discovery, Endpoint, Endpoints, FailureReason, ObjectName,
};

use crate::conditions::route::Unresolved;
use crate::findings::{Finding, FindingCode};
use crate::grants::{self, Reference, Referrer};
use crate::index::References;
use crate::parameters::ExternalNames;
use crate::snapshot::Snapshot;
use crate::text::{group_kind, shown, unknown_field};

/// What is known outside of the route.
pub(crate) struct Surroundings<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// BackendTLSPolicies and the Services that they target.
    pub(crate) backend_tls: &'a References<ObjectKey, ObjectName>,
    /// The Gateways that the route names, each with the names that Services of type ExternalName may have. All must agree.
    pub(crate) external_names: &'a [(ObjectName, ExternalNames)],
    /// The cluster's own domain, in which no such name may lie.
    pub(crate) cluster_domain: &'a str,
}

/// Why a reference is not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) reason: Unresolved,
    pub(crate) message: String,
}

impl Invalid {
    fn new(reason: Unresolved, message: String) -> Self {
        Self { reason, message }
    }

    pub(crate) fn failure_reason(&self) -> FailureReason {
        match self.reason {
            Unresolved::RefNotPermitted => FailureReason::RefNotPermitted,
            Unresolved::InvalidKind => FailureReason::InvalidKind,
            Unresolved::BackendNotFound => FailureReason::BackendNotFound,
            Unresolved::UnsupportedProtocol => FailureReason::UnsupportedProtocol,
        }
    }
}

/// Resolves a reference of an HTTPRoute in a namespace. The reference is noted, followed or not.
pub(crate) fn resolve(
    surroundings: &Surroundings<'_>,
    namespace: &std::sync::Arc<str>,
    reference: &BackendObjectReference,
    references: &mut BTreeSet<Reference>,
) -> Result<BackendKey, Invalid> {
    let to_namespace = reference.namespace.as_deref().unwrap_or(namespace);
    let service = ObjectName::new(to_namespace, reference.name.as_str());
    let crossing = Reference {
        from: Referrer::HttpRoute,
        from_namespace: namespace.clone(),
        group: reference.group().into(),
        kind: reference.kind().into(),
        to: service.clone(),
    };
    let permitted = grants::permitted(surroundings.snapshot, &crossing);
    let refusal = (!permitted).then(|| grants::refusal(&crossing));
    references.insert(crossing);
    if let Some(message) = refusal {
        return Err(Invalid::new(Unresolved::RefNotPermitted, message));
    }
    if (reference.group(), reference.kind()) != ("", "Service") {
        let kind = group_kind(reference.group(), reference.kind());
        return Err(Invalid::new(
            Unresolved::InvalidKind,
            format!("a backend of kind {kind} is not supported; use a Service"),
        ));
    }
    if let Some(field) = unknown_field(&reference.extra) {
        let message = format!("the field {} of the reference is unknown", Foreign(field));
        return Err(Invalid::new(Unresolved::InvalidKind, message));
    }
    let Some(object) = surroundings.snapshot.services.get(&service) else {
        return Err(Invalid::new(Unresolved::BackendNotFound, format!("Service {} does not exist", shown(&service))));
    };
    let Some(port) = reference.port else {
        let message =
            format!("a reference to a Service needs a port; those of {} are {}", shown(&service), ports(object));
        return Err(Invalid::new(Unresolved::BackendNotFound, message));
    };
    let invalid = |(reason, message)| Invalid::new(reason, format!("Service {} {message}", shown(&service)));
    let found = describe(object, port).map_err(invalid)?;
    if let Discovery::Dns { hostname, .. } = &found.discovery {
        external_name(surroundings, hostname).map_err(|message| invalid((Unresolved::InvalidKind, message)))?;
    }
    if let Some(policy) = backend_tls_policy(surroundings, &service, found.name) {
        let message = format!(
            "Service {} is to be spoken to over TLS ({policy}), which is not supported yet; it is not spoken to in cleartext",
            shown(&service)
        );
        return Err(Invalid::new(Unresolved::UnsupportedProtocol, message));
    }
    Ok(BackendKey { service, port: found.port })
}

fn ports(service: &Service) -> String {
    let ports: Vec<_> = service.spec.ports.iter().map(|port| port.port).collect();
    if ports.is_empty() { "none".to_owned() } else { crate::text::joined(&ports, ", ") }
}

/// The policy that asks for TLS towards a port of a Service.
fn backend_tls_policy(
    surroundings: &Surroundings<'_>,
    service: &ObjectName,
    port_name: Option<&str>,
) -> Option<ObjectKey> {
    let policies = surroundings.backend_tls.to(service);
    policies.filter_map(|key| surroundings.snapshot.others.get(key)).find_map(|policy| {
        let targets = policy.backend_tls_targets();
        let applies = targets.filter(|target| target.name == *service).any(|target| match &target.section_name {
            Some(section) => port_name == Some(section.as_str()),
            None => true,
        });
        applies.then(|| policy.key.clone())
    })
}

/// What of a Service the resolution of references depends on.
pub(crate) fn resolves_alike(before: &Service, after: &Service) -> bool {
    let facts = |service: &'_ Service| {
        let ports: Vec<_> = service
            .spec
            .ports
            .iter()
            .map(|port| (port.name.clone(), port.protocol.clone(), port.app_protocol.clone(), port.port))
            .collect();
        (service.spec.r#type.clone(), service.spec.external_name.clone(), ports)
    };
    facts(before) == facts(after)
}

/// A port of a Service as a backend.
struct Described<'a> {
    port: u16,
    name: Option<&'a str>,
    protocol: BackendProtocol,
    discovery: Discovery,
}

/// Whether the name of a Service of type ExternalName may be reached. It leads past all grants (CVE-2021-25740), so that the class's
/// parameters have to allow it, and never to what the cluster itself names: that has Services, and grants.
fn external_name(surroundings: &Surroundings<'_>, hostname: &str) -> Result<(), String> {
    let refusing = surroundings.external_names.iter().find(|(_, names)| *names != ExternalNames::Any);
    if refusing.is_some() && is_of_cluster(hostname, surroundings.cluster_domain) {
        let hostname = Foreign(hostname);
        return Err(format!(
            "is of type ExternalName, and {hostname} is a name of the cluster itself; refer to that Service, with a ReferenceGrant"
        ));
    }
    match surroundings.external_names.iter().find(|(_, names)| !names.allow(hostname)) {
        None => Ok(()),
        Some((gateway, _)) => Err(format!(
            "is of type ExternalName, which may lead anywhere past all grants (CVE-2021-25740), and {} is not allowed by the class of Gateway \
             {}; list its domain in spec.upstreams.allowedExternalNames of the GatewayParameters of the class, or use a Service with \
             EndpointSlices",
            Foreign(hostname),
            shown(gateway)
        )),
    }
}

/// Whether a name, in lower case, is one that the cluster's DNS answers for, or this machine: short names included, which search domains
/// may complete.
fn is_of_cluster(hostname: &str, cluster_domain: &str) -> bool {
    let cluster_domain = cluster_domain.trim_matches('.').to_ascii_lowercase();
    let is_under = |domain: &str| {
        !domain.is_empty() && hostname.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !hostname.contains('.')
        || ["svc", "localhost", "cluster.local", "kubernetes.default", cluster_domain.as_str()]
            .into_iter()
            .any(is_under)
}

fn describe(service: &Service, port: i32) -> Result<Described<'_>, (Unresolved, String)> {
    let not_found = |message: String| (Unresolved::BackendNotFound, message);
    let number = u16::try_from(port).ok().filter(|port| *port != 0);
    let number = number.ok_or_else(|| not_found(format!("has no port {port}; its ports are {}", ports(service))))?;
    let entry = service_port(service, port);
    let is_external = service.spec.r#type == Some(ServiceType::ExternalName);
    let name = entry.and_then(|entry| entry.name.as_deref());
    if entry.is_none() && !(is_external && service.spec.ports.is_empty()) {
        return Err(not_found(format!("has no port {port}; its ports are {}", ports(service))));
    }
    if entry.is_some_and(|entry| !is_tcp(entry.protocol.as_ref())) {
        return Err((Unresolved::UnsupportedProtocol, format!("has port {port} for another protocol than TCP")));
    }
    let protocol = protocol(entry)?;
    if !is_external {
        return Ok(Described { port: number, name, protocol, discovery: Discovery::EndpointSlices });
    }
    let hostname = service.spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.');
    let is_name = !hostname.starts_with("*.") && Hostname::from(hostname).parse().is_ok();
    if !is_name {
        return Err(not_found(format!("has '{}' as externalName, which is not a DNS name", Foreign(hostname))));
    }
    let discovery = Discovery::Dns { hostname: hostname.to_ascii_lowercase().into(), port: number };
    Ok(Described { port: number, name, protocol, discovery })
}

/// The entry of a port number; for TCP, if there are several.
fn service_port(service: &Service, port: i32) -> Option<&ServicePort> {
    let entries = || service.spec.ports.iter().filter(|entry| entry.port == port);
    entries().find(|entry| is_tcp(entry.protocol.as_ref())).or_else(|| entries().next())
}

fn is_tcp(protocol: Option<&TransportProtocol>) -> bool {
    protocol.is_none_or(|protocol| *protocol == TransportProtocol::Tcp)
}

/// From `appProtocol` (KEP-3726): the names of Kubernetes, IANA's `http`, and what service meshes have made common for HTTP/2.
fn protocol(port: Option<&ServicePort>) -> Result<BackendProtocol, (Unresolved, String)> {
    let Some(text) = port.and_then(|port| port.app_protocol.as_deref()).filter(|text| !text.is_empty()) else {
        return Ok(BackendProtocol::Http1);
    };
    match text.to_ascii_lowercase().as_str() {
        "http" | "kubernetes.io/ws" => Ok(BackendProtocol::Http1),
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => Ok(BackendProtocol::H2c),
        _ => {
            let message = format!(
                "has appProtocol '{}', which an HTTPRoute cannot speak; use kubernetes.io/h2c, kubernetes.io/ws, http or none",
                Foreign(text)
            );
            Err((Unresolved::UnsupportedProtocol, message))
        }
    }
}

/// A backend as the configuration has it; nothing if the Service has no such port. Whether it may be reached at all was decided when a
/// route's reference to it was resolved.
pub(crate) fn backend(snapshot: &Snapshot, key: &BackendKey) -> Option<Backend> {
    let service = snapshot.services.get(&key.service)?;
    let described = describe(service, i32::from(key.port)).ok()?;
    Some(Backend { key: key.clone(), protocol: described.protocol, discovery: described.discovery })
}

/// The endpoints of a backend, from the slices of its Service; nothing if they come from elsewhere.
pub(crate) fn endpoints<'a>(
    snapshot: &Snapshot,
    key: &BackendKey,
    slices: impl Iterator<Item = &'a EndpointSlice>,
) -> Option<Endpoints> {
    let service = snapshot.services.get(&key.service)?;
    if service.spec.r#type == Some(ServiceType::ExternalName) {
        return None;
    }
    let entry = service_port(service, i32::from(key.port))?;
    let publish_not_ready = service.spec.publish_not_ready_addresses == Some(true);
    let mut ready = BTreeMap::new();
    let mut last_resort = BTreeMap::new();
    for slice in slices {
        let is_of_cluster_itself = slice.metadata.labels.get(MANAGED_BY).is_some_and(|by| by == CLUSTER_ITSELF);
        for port in slice_ports(slice, entry) {
            for endpoint in &slice.endpoints {
                let Some(address) = address(slice, endpoint) else { continue };
                let address = SocketAddr::new(address, port);
                let found = (endpoint.zone.as_deref().map(Into::into), is_of_cluster_itself && is_pod(endpoint));
                let conditions = endpoint.conditions.as_ref();
                let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
                let is_serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(is_ready);
                if is_ready || publish_not_ready {
                    ready.insert(address, found);
                } else if is_serving && conditions.and_then(|conditions| conditions.terminating) == Some(true) {
                    last_resort.insert(address, found);
                }
            }
        }
    }
    // When all that is left is going away, those that still answer are better than none, as kube-proxy has it.
    let chosen = if ready.is_empty() { last_resort } else { ready };
    let endpoints = chosen.into_iter().map(|(address, (zone, is_pod))| Endpoint { address, zone, is_pod }).collect();
    Some(Endpoints { key: key.clone(), endpoints })
}

/// The label that says who writes an EndpointSlice, and what the cluster's own controller says there. Whoever may write EndpointSlices can
/// say so, too: it only lifts the check against node addresses, and no other one.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CLUSTER_ITSELF: &str = "endpointslice-controller.k8s.io";

/// Whether an endpoint is a pod on a node.
fn is_pod(endpoint: &portcullis_api::endpoint_slice::Endpoint) -> bool {
    let target = endpoint.extra.field("targetRef").and_then(|target| target.get("kind")?.as_str());
    target == Some("Pod") && endpoint.node_name.as_deref().is_some_and(|node| !node.is_empty())
}

/// The port numbers in a slice of a port of its Service, which have its name.
fn slice_ports<'a>(slice: &'a EndpointSlice, entry: &'a ServicePort) -> impl Iterator<Item = u16> + 'a {
    let name = entry.name.as_deref().unwrap_or_default();
    slice
        .ports
        .iter()
        .filter(move |port| port.name.as_deref().unwrap_or_default() == name && is_tcp(port.protocol.as_ref()))
        .filter_map(move |port| {
            let number = match (port.port, &entry.target_port) {
                (Some(number), _) => i64::from(number),
                (None, Some(IntOrString::Int(number))) => *number,
                (None, _) => i64::from(entry.port),
            };
            u16::try_from(number).ok().filter(|number| *number != 0)
        })
}

/// The first address of an endpoint, the others being interchangeable with it.
fn address(slice: &EndpointSlice, endpoint: &portcullis_api::endpoint_slice::Endpoint) -> Option<IpAddr> {
    let address = endpoint.addresses.first()?.parse::<IpAddr>().ok()?;
    let of_family = match slice.address_type {
        EndpointAddressType::Ipv4 => address.is_ipv4(),
        EndpointAddressType::Ipv6 => address.is_ipv6(),
        _ => false,
    };
    of_family.then_some(address)
}

/// The findings about a slice: endpoints that cannot be used.
pub(crate) fn slice_findings(key: &ObjectKey, slice: &EndpointSlice) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !matches!(slice.address_type, EndpointAddressType::Ipv4 | EndpointAddressType::Ipv6) {
        let message = format!("endpoints of addressType {} are not used", slice.address_type);
        let remedy = "use IPv4 or IPv6, or a Service of type ExternalName";
        findings.push(Finding::new(FindingCode::EndpointIgnored, key.clone(), "addressType", message, remedy));
        return findings;
    }
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        if address(slice, endpoint).is_none() {
            let text = endpoint.addresses.first().map(String::as_str).unwrap_or_default();
            let message = format!(
                "'{}' is not an address of type {}: the endpoint is not used",
                Foreign(text),
                slice.address_type
            );
            let field = format!("endpoints[{index}].addresses");
            findings.push(Finding::new(FindingCode::EndpointIgnored, key.clone(), field, message, "correct it"));
        }
    }
    findings
}

/// The finding about a backend without endpoints.
pub(crate) fn no_endpoints(key: &BackendKey, service: &Service, has_slices: bool, standalone: bool) -> Finding {
    let object = ObjectKey::new("", "Service", &key.service.namespace, &key.service.name);
    let index = service.spec.ports.iter().position(|port| port.port == i32::from(key.port)).unwrap_or_default();
    let port = &service.spec.ports[index.min(service.spec.ports.len().saturating_sub(1))..];
    let name = port.first().and_then(|port| port.name.as_deref()).unwrap_or_default();
    let message = format!("port {} has no endpoint that takes requests: they are answered with 503", key.port);
    let remedy = if has_slices {
        format!("the EndpointSlices of this Service need a port with the name '{}' and ready endpoints", Foreign(name))
    } else if standalone {
        format!(
            "a selector finds no pods in a folder: add an EndpointSlice with the label kubernetes.io/service-name: {} and a port with the \
             name '{}'",
            Foreign(&key.service.name),
            Foreign(name)
        )
    } else {
        "check the Service's selector and the pods' readiness".to_owned()
    };
    Finding::new(FindingCode::NoEndpoints, object, format!("spec.ports[{index}]"), message, remedy)
}

#[cfg(test)]
mod tests {
    use super::is_of_cluster;

    #[test]
    fn names_of_the_cluster_are_known() {
        for (hostname, own) in [
            ("kubernetes", true),
            ("kubernetes.default", true),
            ("kubernetes.default.svc", true),
            ("kubernetes.default.svc.cluster.local", true),
            ("a.b.svc.corp.example", true),
            ("corp.example", true),
            ("localhost", true),
            ("x.localhost", true),
            ("cluster.local", true),
            ("example.com", false),
            ("svc.example.com", false),
            ("notcorp.example", false),
        ] {
            assert_eq!(is_of_cluster(hostname, "Corp.Example."), own, "{hostname}");
        }
        assert!(!is_of_cluster("example.com", ""));
    }
}
