//! Addresses that are the cluster's own: its nodes, and what controls it. Data planes connect to them for nobody; see the guard of
//! `portcullis-proxy`. In flow Nodes, Services and EndpointSlices; out flow sorted lists.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use portcullis_api::node::{Node, NodeAddressType};
use portcullis_model::ObjectName;

use crate::index::References;
use crate::snapshot::Snapshot;

/// Sorted, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnAddresses {
    pub(crate) nodes: Vec<IpAddr>,
    /// Port 0 stands for every port.
    pub(crate) control_plane: Vec<SocketAddr>,
}

/// The addresses of a node. Nothing else of it matters, so that its heartbeats change nothing.
pub(crate) fn of_node(node: &Node) -> Arc<[IpAddr]> {
    let addresses = node.status.iter().flat_map(|status| &status.addresses);
    let addresses = addresses
        .filter(|address| matches!(address.r#type, NodeAddressType::InternalIp | NodeAddressType::ExternalIp))
        .filter_map(|address| address.address.parse::<IpAddr>().ok())
        .map(|address| address.to_canonical());
    let addresses: BTreeSet<IpAddr> = addresses.chain(towards_pods(node)).collect();
    addresses.into_iter().collect()
}

/// Where a node meets its pods: its kubelet answers there, too. Networks for pods that take their addresses from `spec.podCIDRs` give the node
/// the first ones: the bridge the first after the network's own, and tunnels the network's own.
fn towards_pods(node: &Node) -> impl Iterator<Item = IpAddr> {
    let networks = node.spec.extra.field("podCIDRs").and_then(|networks| networks.as_array()).into_iter().flatten();
    let addresses = networks.filter_map(|network| network.as_str()?.split_once('/')?.0.parse::<IpAddr>().ok());
    addresses.flat_map(|network| {
        let first = match network {
            IpAddr::V4(network) => network.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
            IpAddr::V6(network) => network.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
        };
        [Some(network), first].into_iter().flatten()
    })
}

impl OwnAddresses {
    pub(crate) fn of(
        snapshot: &Snapshot,
        slices: &References<ObjectName, ObjectName>,
        control_plane: &BTreeSet<ObjectName>,
        more: &BTreeSet<SocketAddr>,
    ) -> Self {
        let nodes: BTreeSet<IpAddr> = snapshot.nodes.values().flat_map(|addresses| addresses.iter().copied()).collect();
        let mut controlled: BTreeSet<SocketAddr> = more.clone();
        for name in control_plane {
            let service = snapshot.services.get(name);
            let addresses = service.iter().flat_map(|service| {
                service.spec.cluster_ips.iter().chain(&service.spec.cluster_ip).filter_map(|text| text.parse().ok())
            });
            controlled.extend(addresses.map(|address: IpAddr| SocketAddr::new(address.to_canonical(), 0)));
            for slice in slices.to(name).filter_map(|slice| snapshot.endpoint_slices.get(slice)) {
                let texts = slice.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
                for address in texts.filter_map(|text| text.parse::<IpAddr>().ok()) {
                    let address = address.to_canonical();
                    // On a node there may be pods beside it; an address of its own is its own on every port.
                    if !nodes.contains(&address) {
                        controlled.insert(SocketAddr::new(address, 0));
                        continue;
                    }
                    let ports = slice.ports.iter().filter_map(|port| u16::try_from(port.port.unwrap_or(0)).ok());
                    controlled.extend(ports.map(|port| SocketAddr::new(address, port)));
                }
            }
        }
        Self { nodes: nodes.into_iter().collect(), control_plane: controlled.into_iter().collect() }
    }
}
