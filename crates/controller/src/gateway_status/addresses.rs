//! Which addresses a Gateway has, and which of its requests they satisfy (GEP-5093).
//!
//! A Service is known by what it has, not by its name: a requested address is satisfied by whatever Service of the Gateway was given it.

use std::net::IpAddr;

use portcullis_api::Extra;
use portcullis_api::gateway::{AddressRoutability, AddressType, GatewayStatusAddress};
use portcullis_api::service::{Service, ServiceType};
use portcullis_compile::{AddressKind, AddressRequest, AddressScope, Infrastructure};
use portcullis_runtime::escape;

use super::Facts;

/// The most entries of `status.addresses`.
const ADDRESSES_LIMIT: usize = 16;

/// What became of the requests for addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Assignment {
    /// For `status.addresses`.
    pub(super) addresses: Vec<GatewayStatusAddress>,
    /// The requests that have no address, each with what is the matter.
    pub(super) unsatisfied: Vec<String>,
    /// Those of them that ask for an address which was not given.
    pub(super) unusable: Vec<String>,
}

impl Assignment {
    /// Why there is no address at all.
    pub(super) fn nothing(&self) -> String {
        match self.unsatisfied.as_slice() {
            [] => "No address has been assigned to the Service of the data plane yet".to_owned(),
            entries => entries.join("; "),
        }
    }
}

/// An address that a Service has.
#[derive(Clone, Debug)]
struct Had {
    address: Address,
    /// Of a Service of type ClusterIP.
    cluster: bool,
    taken: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Address {
    Ip(IpAddr),
    Hostname(String),
}

/// Gives each request an address of its own, those that name one first.
pub(super) fn assign(infrastructure: &Infrastructure, facts: &Facts<'_>) -> Assignment {
    let mut had: Vec<Had> = facts.services.iter().flat_map(|service| addresses_of(service, facts.nodes)).collect();
    // Where nothing is asked for, an address that the world can reach comes first.
    had.sort_by_key(|had| had.cluster);
    let requests = &infrastructure.addresses;
    if requests.is_empty() {
        let addresses = had.iter().map(|had| shown(had, &AddressScope::Default, facts)).take(ADDRESSES_LIMIT).collect();
        return Assignment { addresses, ..Assignment::default() };
    }
    let mut given: Vec<Option<Had>> = vec![None; requests.len()];
    for turn in 0..3 {
        for (request, given) in requests.iter().zip(&mut given).filter(|(request, _)| turn_of(request) == turn) {
            if let Some(found) = had.iter_mut().find(|had| !had.taken && satisfies(had, request)) {
                found.taken = true;
                *given = Some(found.clone());
            }
        }
    }
    let mut assignment = Assignment::default();
    for (request, given) in requests.iter().zip(given) {
        match given {
            Some(had) => assignment.addresses.push(shown(&had, &request.scope, facts)),
            None => assignment.miss(request),
        }
    }
    assignment.addresses.truncate(ADDRESSES_LIMIT);
    assignment
}

/// The more a request asks for, the earlier it chooses.
fn turn_of(request: &AddressRequest) -> usize {
    match (&request.kind, &request.scope) {
        (AddressKind::Ip(_), _) => 0,
        (_, AddressScope::Cluster) => 1,
        _ => 2,
    }
}

impl Assignment {
    fn miss(&mut self, request: &AddressRequest) {
        let scope = match &request.scope {
            AddressScope::Default => String::new(),
            scope => format!(" of routability '{}'", escape::line(scope.as_str())),
        };
        let (what, why) = match (&request.kind, &request.scope) {
            (_, AddressScope::Unknown(_)) => ("an address".to_owned(), "this routability is not supported"),
            (AddressKind::Any, _) => ("an address".to_owned(), "none has been assigned yet"),
            (AddressKind::Ip(ip), AddressScope::Cluster) => {
                (ip.to_string(), "no Service was given it; it has to be a free address of the cluster's Services")
            }
            (AddressKind::Ip(ip), _) => (ip.to_string(), "its Service was not given it"),
            (AddressKind::Hostname(name), _) => (escape::line(name).into_owned(), "only IP addresses can be requested"),
        };
        let entry = format!("spec.addresses[{}]: {what}{scope}: {why}", request.index);
        if matches!(
            (&request.kind, &request.scope),
            (AddressKind::Ip(_), AddressScope::Default | AddressScope::Sentinel)
        ) {
            self.unusable.push(entry.clone());
        }
        self.unsatisfied.push(entry);
    }
}

fn satisfies(had: &Had, request: &AddressRequest) -> bool {
    let scope = match &request.scope {
        AddressScope::Default | AddressScope::Sentinel => true,
        AddressScope::Cluster => had.cluster,
        AddressScope::Unknown(_) => false,
    };
    let address = match &request.kind {
        AddressKind::Any => true,
        AddressKind::Ip(ip) => had.address == Address::Ip(*ip),
        AddressKind::Hostname(_) => false,
    };
    scope && address
}

fn addresses_of(service: &Service, nodes: &[String]) -> Vec<Had> {
    let had = |address, cluster| Had { address, cluster, taken: false };
    match &service.spec.r#type {
        Some(ServiceType::LoadBalancer) => {
            let ingress = service.status.iter().flat_map(|status| &status.load_balancer);
            let ingress = ingress.flat_map(|load_balancer| &load_balancer.ingress);
            let address = ingress.filter_map(|ingress| match (&ingress.ip, &ingress.hostname) {
                (Some(ip), _) if !ip.is_empty() => ip.parse().ok().map(Address::Ip),
                (_, Some(hostname)) if !hostname.is_empty() => Some(Address::Hostname(hostname.clone())),
                _ => None,
            });
            address.map(|address| had(address, false)).collect()
        }
        Some(ServiceType::NodePort) => {
            nodes.iter().filter_map(|node| node.parse().ok()).map(|ip| had(Address::Ip(ip), false)).collect()
        }
        None | Some(ServiceType::ClusterIp) => {
            let all = service.spec.cluster_ips.iter().chain(service.spec.cluster_ip.iter());
            let mut ips: Vec<IpAddr> = Vec::new();
            for ip in all.filter_map(|ip| ip.parse().ok()) {
                if !ips.contains(&ip) {
                    ips.push(ip);
                }
            }
            ips.into_iter().map(|ip| had(Address::Ip(ip), true)).collect()
        }
        Some(_) => Vec::new(),
    }
}

fn shown(had: &Had, scope: &AddressScope, facts: &Facts<'_>) -> GatewayStatusAddress {
    let (r#type, value) = match &had.address {
        Address::Ip(ip) => (AddressType::IpAddress, ip.to_string()),
        Address::Hostname(hostname) => (AddressType::Hostname, hostname.clone()),
    };
    let routability = match scope {
        AddressScope::Sentinel => scope.as_str(),
        _ if had.cluster => AddressScope::Cluster.as_str(),
        _ => AddressScope::Default.as_str(),
    };
    let routability = facts.routability.then(|| AddressRoutability::from(routability));
    GatewayStatusAddress { r#type: Some(r#type), value, routability, extra: Extra::default() }
}
