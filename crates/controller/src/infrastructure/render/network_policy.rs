//! The NetworkPolicy: the second wall around a data plane, beside what it refuses itself.
//!
//! In: the ports of listeners from anywhere, and the telemetry port (health checks of the kubelet, scrapes); nothing else. Out: DNS to
//! anyone, as resolvers may have link-local addresses (NodeLocal DNSCache); everything else to pods and to any address but the link-local
//! ones, where the metadata services of clouds are. Backends may be anywhere, so that a list of them would have to change with every
//! endpoint: which of them may be reached is decided by the data plane when it connects.
//!
//! Who must reach a link-local address (`upstreams.allowedAddresses`) sets `dataPlane.networkPolicy: Disabled` and writes a policy of
//! their own.

use std::collections::BTreeSet;

use portcullis_api::gateway_parameters::NetworkPolicyMode;
use portcullis_compile::TransportProtocol;
use portcullis_model::{TELEMETRY_PORT, pod_port};
use serde_json::{Value, json};

use super::{Context, Kind, Rendered};

const DNS_PORT: u16 = 53;

impl Context<'_> {
    pub(super) fn network_policy(&self, ports: BTreeSet<(u16, TransportProtocol)>) -> Option<Rendered> {
        if self.parameters.network_policy == Some(NetworkPolicyMode::Disabled) {
            return None;
        }
        // A port that is about to be added may be open already: nothing listens there yet.
        let pod_ports = ports.iter().map(|(port, protocol)| (pod_port(*port), *protocol));
        let open: BTreeSet<_> = pod_ports.chain([(TELEMETRY_PORT, TransportProtocol::Tcp)]).collect();
        let spec = json!({
            "podSelector": {"matchLabels": self.names.selector()},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": open.iter().map(port).collect::<Vec<_>>()}],
            "egress": [
                {"ports": [port(&(DNS_PORT, TransportProtocol::Tcp)), port(&(DNS_PORT, TransportProtocol::Udp))]},
                {"to": [
                    // Some networks do not count pods among addresses.
                    {"namespaceSelector": {}},
                    {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
                    {"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::/64", "fe80::/10"]}},
                ]},
            ],
        });
        Some(self.object(Kind::NetworkPolicy, json!({"spec": spec})))
    }
}

fn port((number, protocol): &(u16, TransportProtocol)) -> Value {
    json!({"protocol": protocol, "port": number})
}
