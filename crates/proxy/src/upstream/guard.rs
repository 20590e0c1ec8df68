//! Where no request is sent, whoever names it as an endpoint: a Service of type ExternalName, an EndpointSlice that somebody wrote, an answer
//! of DNS that changed since.
//!
//! In flows the very address that is about to be connected to, after all names are resolved; out flows why not. Asked for each new
//! connection and for nothing else: a request on an open connection costs nothing. Addresses that carry an IPv4 address inside (RFC 4291,
//! RFC 6052, RFC 8215, RFC 3056, RFC 4380, RFC 5214) are judged by what they carry, too, for a router on the way may unpack them.
//!
//! Whoever may write EndpointSlices can also say that their endpoints are pods. On a node's address that is not believed for the ports on
//! which nodes are controlled. What remains: an address of a node that is neither in the Node's status nor follows from it, and the other
//! ports of nodes.

use portcullis_model::{Cidr, Upstreams};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Refuses addresses that no backend has. What a Gateway's class allows, and which addresses are the cluster's own, comes with the
/// configuration.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Allowed on every Gateway.
    pub allowed: Vec<Cidr>,
}

/// What an address is that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AddressClass {
    /// A server of this process for its operators. Never allowed.
    OwnServer,
    /// An API server, or the gateways' own controller.
    ControlPlane,
    /// A metadata service: credentials of the machine.
    Metadata,
    /// A node: every port for who is no pod, and for pods the ports on which nodes are controlled.
    Node,
    Loopback,
    /// `0.0.0.0/8` and `::`, which Linux takes for this machine.
    Unspecified,
    LinkLocal,
    Multicast,
    /// `240.0.0.0/4`, broadcast included.
    Reserved,
}

impl AddressClass {
    /// The stable text, for metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::OwnServer => "OwnServer",
            Self::ControlPlane => "ControlPlane",
            Self::Metadata => "Metadata",
            Self::Node => "Node",
            Self::Loopback => "Loopback",
            Self::Unspecified => "Unspecified",
            Self::LinkLocal => "LinkLocal",
            Self::Multicast => "Multicast",
            Self::Reserved => "Reserved",
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Metadata services outside of the link-local networks: Alibaba Cloud, Azure, Oracle Cloud; and over IPv6 Google, Oracle, Scaleway,
/// Akamai, Alibaba. Amazon has a whole network, [`is_amazon`].
const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0100, 0, 0, 0, 0, 0x0100, 0x0200)),
];

/// `fd00:ec2::/32`: Amazon's services for machines, such as metadata and credentials of pods.
fn is_amazon(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0xfd00, 0x0ec2, ..])
}

/// Those that are link-local, by Amazon's, Google's, Azure's and most others' convention.
const LINK_LOCAL_METADATA: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 169, 253),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(169, 254, 42, 42),
];

/// Whether a node is controlled on this port, whatever Kubernetes it is. Sorted by who listens there.
/// <https://kubernetes.io/docs/reference/networking/ports-and-protocols/>
fn is_control_port(port: u16) -> bool {
    matches!(
        port,
        // Kubernetes' own: kubelet, kube-proxy, scheduler, controller manager, of this and earlier times.
        10248..=10259
            // The API server, as kubeadm and MicroK8s have it.
            | 6443 | 16443
            // etcd: clients, peers, metrics.
            | 2379..=2381
            // The container engine without and with TLS.
            | 2375 | 2376
            // What hands secrets of the cluster to new nodes: RKE2's supervisor, OpenShift's machine config server.
            | 9345 | 22623 | 22624
    )
}

impl Guard {
    /// Why an endpoint is not connected to. `is_pod` says that the cluster itself calls it a pod, which may share its node's address.
    pub(crate) fn refusal(&self, address: SocketAddr, is_pod: bool, known: &Upstreams) -> Option<AddressClass> {
        let ip = address.ip().to_canonical();
        if self.allowed.iter().chain(&known.allowed).any(|network| network.contains(ip)) {
            return None;
        }
        let mut forms = vec![ip];
        if let IpAddr::V6(ip) = ip {
            forms.extend(carried(ip).into_iter().flatten().map(IpAddr::V4));
        }
        forms.into_iter().find_map(|ip| {
            if is_control_plane(SocketAddr::new(ip, address.port()), is_pod, known) {
                return Some(AddressClass::ControlPlane);
            }
            special(ip)
                .or_else(|| is_node(SocketAddr::new(ip, address.port()), is_pod, known).then_some(AddressClass::Node))
        })
    }
}

/// A pod on the network of a control plane's node has the same address, with another port.
fn is_control_plane(address: SocketAddr, is_pod: bool, known: &Upstreams) -> bool {
    known
        .control_plane
        .iter()
        .any(|own| own.ip() == address.ip() && (!is_pod || own.port() == 0 || own.port() == address.port()))
}

/// A pod on the network of its node has the node's address, but none of the ports on which nodes are controlled: neither the usual ones, nor
/// one on which an API server is known to listen on any node, as it may listen on all addresses of its own.
fn is_node(address: SocketAddr, is_pod: bool, known: &Upstreams) -> bool {
    let is_node = |ip: IpAddr| known.nodes.contains(&ip);
    let is_api_server = |own: &SocketAddr| own.port() == address.port() && is_node(own.ip());
    is_node(address.ip())
        && (!is_pod || is_control_port(address.port()) || known.control_plane.iter().any(is_api_server))
}

/// What an address is by its number alone.
fn special(ip: IpAddr) -> Option<AddressClass> {
    if METADATA.contains(&ip) {
        return Some(AddressClass::Metadata);
    }
    match ip {
        IpAddr::V4(ip) => special4(ip),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(AddressClass::Unspecified),
        IpAddr::V6(ip) if is_amazon(ip) => Some(AddressClass::Metadata),
        IpAddr::V6(ip) if ip.is_loopback() => Some(AddressClass::Loopback),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(AddressClass::LinkLocal),
        IpAddr::V6(ip) if ip.is_multicast() => Some(AddressClass::Multicast),
        IpAddr::V6(_) => None,
    }
}

fn special4(ip: Ipv4Addr) -> Option<AddressClass> {
    match ip.octets() {
        [0, ..] => Some(AddressClass::Unspecified),
        [127, ..] => Some(AddressClass::Loopback),
        [169, 254, ..] if LINK_LOCAL_METADATA.contains(&ip) => Some(AddressClass::Metadata),
        [169, 254, ..] => Some(AddressClass::LinkLocal),
        [224..=239, ..] => Some(AddressClass::Multicast),
        [240..=255, ..] => Some(AddressClass::Reserved),
        _ => None,
    }
}

/// The IPv4 addresses that an IPv6 address carries, by the forms that it may have. Mapped ones are IPv4 by now.
fn carried(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let bits = ip.to_bits();
    let at = |from: u32| Some(Ipv4Addr::from_bits((bits >> (96 - from)) as u32));
    let segments = ip.segments();
    let last = at(96);
    match segments {
        // IPv4-compatible (RFC 4291), translated (RFC 2765), NAT64's well-known prefix (RFC 6052).
        [0, 0, 0, 0, 0, 0, ..] if bits > 1 => [last, None, None, None],
        [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => [last, None, None, None],
        // NAT64 with a prefix of one's own (RFC 8215), of any of the lengths of RFC 6052: bits 64 to 71 are always zero.
        [0x64, 0xff9b, 1, ..] => {
            let [_, _, _, _, _, _, a, b, _, c, d, e, f, ..] = ip.octets();
            // Which length it is cannot be told, so that zeros are taken for what surrounds the address.
            let of = |a, b, c, d| Some(Ipv4Addr::new(a, b, c, d)).filter(|_| a != 0);
            [last.filter(|last| last.octets()[0] != 0), of(a, b, c, d), of(b, c, d, e), of(c, d, e, f)]
        }
        // 6to4 (RFC 3056).
        [0x2002, ..] => [at(16), None, None, None],
        // Teredo (RFC 4380): the server, and the client with its bits turned over.
        [0x2001, 0, ..] => [at(32), last.map(|client| Ipv4Addr::from_bits(!client.to_bits())), None, None],
        // ISATAP (RFC 5214).
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => [last, None, None, None],
        _ => [None; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(address: &str) -> Option<AddressClass> {
        let ip: IpAddr = address.parse().unwrap();
        Guard::default().refusal(SocketAddr::new(ip, 80), false, &Upstreams::default())
    }

    #[test]
    fn addresses_have_classes() {
        use AddressClass::{LinkLocal, Loopback, Metadata, Multicast, Reserved, Unspecified};
        for (address, class) in [
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.255", Some(Loopback)),
            ("::1", Some(Loopback)),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::127.0.0.1", Some(Loopback)),
            ("64:ff9b::127.0.0.1", Some(Loopback)),
            ("64:ff9b:1::127.0.0.1", Some(Loopback)),
            ("64:ff9b:1:7f00:0:100::", Some(Loopback)),
            ("64:ff9b:1:808:8:800::", None),
            ("64:ff9b:1::8.8.8.8", None),
            ("2002:7f00:1::", Some(Loopback)),
            ("2001:0:7f00:1::", Some(Loopback)),
            ("2001:0:808:808::80ff:fffe", Some(Loopback)),
            ("2001:db8::5efe:127.0.0.1", Some(Loopback)),
            ("::ffff:0:127.0.0.1", Some(Loopback)),
            ("0.0.0.0", Some(Unspecified)),
            ("0.1.2.3", Some(Unspecified)),
            ("::", Some(Unspecified)),
            ("::ffff:0.0.0.0", Some(Unspecified)),
            ("169.254.0.1", Some(LinkLocal)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("169.254.169.254", Some(Metadata)),
            ("64:ff9b::169.254.169.254", Some(Metadata)),
            ("2002:a9fe:a9fe::1", Some(Metadata)),
            ("fd00:ec2::254", Some(Metadata)),
            ("fd00:ec2::23", Some(Metadata)),
            ("fd00:ec2::123", Some(Metadata)),
            ("fd00:c1::a9fe:a9fe", Some(Metadata)),
            ("fd00:42::42", Some(Metadata)),
            ("fd00:a9fe:a9fe::1", Some(Metadata)),
            ("fd00:100::100:200", Some(Metadata)),
            ("fe80::a9fe:a9fe", Some(LinkLocal)),
            ("::ffff:169.254.169.254", Some(Metadata)),
            ("64:ff9b:1::169.254.169.254", Some(Metadata)),
            ("fd20:ce::254", Some(Metadata)),
            ("100.100.100.200", Some(Metadata)),
            ("::ffff:100.100.100.200", Some(Metadata)),
            ("168.63.129.16", Some(Metadata)),
            ("224.0.0.1", Some(Multicast)),
            ("ff02::1", Some(Multicast)),
            ("255.255.255.255", Some(Reserved)),
            ("240.0.0.1", Some(Reserved)),
            ("10.0.0.1", None),
            ("192.168.0.1", None),
            ("100.64.0.1", None),
            ("8.8.8.8", None),
            ("fd00::1", None),
            ("2001:db8::1", None),
            ("64:ff9b::8.8.8.8", None),
            ("2002:808:808::1", None),
        ] {
            assert_eq!(refusal(address), class, "{address}");
        }
    }

    fn cluster() -> Upstreams {
        Upstreams {
            allowed: vec!["192.168.0.9/32".parse().unwrap(), "127.1.0.0/16".parse().unwrap()],
            nodes: ["192.168.0.1", "192.168.0.2", "192.168.0.9"].iter().map(|text| text.parse().unwrap()).collect(),
            control_plane: vec!["10.96.0.1:0".parse().unwrap(), "192.168.0.1:6443".parse().unwrap()],
        }
    }

    #[test]
    fn the_cluster_s_own_addresses_are_known() {
        use AddressClass::{ControlPlane, Loopback, Node};
        for (address, is_pod, class) in [
            ("192.168.0.2:10250", false, Some(Node)),
            ("192.168.0.2:8080", true, None),
            ("[::ffff:192.168.0.2]:80", false, Some(Node)),
            ("[64:ff9b::192.168.0.2]:80", false, Some(Node)),
            ("192.168.0.1:6443", true, Some(ControlPlane)),
            ("192.168.0.1:6443", false, Some(ControlPlane)),
            ("192.168.0.1:8080", true, None),
            ("192.168.0.1:8080", false, Some(ControlPlane)),
            ("10.96.0.1:443", false, Some(ControlPlane)),
            ("10.96.0.1:443", true, Some(ControlPlane)),
            ("[2002:a60:1::]:443", false, Some(ControlPlane)),
            ("192.168.0.3:80", false, None),
            ("192.168.0.9:80", false, None),
            ("127.1.0.1:80", false, None),
            ("127.2.0.1:80", true, Some(Loopback)),
            ("[64:ff9b::127.1.0.1]:80", false, Some(Loopback)),
        ] {
            let refusal = Guard::default().refusal(address.parse().unwrap(), is_pod, &cluster());
            assert_eq!(refusal, class, "{address} {is_pod}");
        }
        let guard = Guard { allowed: vec!["0.0.0.0/0".parse().unwrap()] };
        assert_eq!(guard.refusal("127.0.0.1:80".parse().unwrap(), false, &cluster()), None);
    }

    /// Whoever writes an EndpointSlice can say that its endpoints are pods.
    #[test]
    fn who_calls_a_node_a_pod_does_not_reach_what_controls_it() {
        let refusal = |address: &str, is_pod| Guard::default().refusal(address.parse().unwrap(), is_pod, &cluster());
        for port in [
            10250, 10255, 10256, 10257, 10259, 10248, 10249, 10251, 10252, 2379, 2380, 2381, 6443, 16443, 2375, 2376,
            9345, 22623, 22624,
        ] {
            for node in
                ["192.168.0.1", "192.168.0.2", "[::ffff:192.168.0.2]", "[64:ff9b::192.168.0.2]", "[2002:c0a8:2::]"]
            {
                let address = format!("{node}:{port}");
                assert!(refusal(&address, true).is_some(), "{address}");
                assert!(refusal(&address, false).is_some(), "{address}");
            }
            // A pod of its own address may listen where it likes, and an operator may want it all the same.
            assert_eq!(refusal(&format!("10.244.0.9:{port}"), true), None, "{port}");
            assert_eq!(refusal(&format!("192.168.0.9:{port}"), true), None, "{port}");
        }
        for port in [80, 443, 8080, 9100, 10247, 10260, 2378, 2382, 6442, 30080] {
            assert_eq!(refusal(&format!("192.168.0.2:{port}"), true), None, "{port}");
        }
    }

    /// It listens on all addresses of its node, of which its EndpointSlice has one.
    #[test]
    fn the_port_of_an_api_server_on_a_node_is_closed_on_all_nodes() {
        let known = Upstreams {
            nodes: ["192.168.0.1", "203.0.113.1"].iter().map(|text| text.parse().unwrap()).collect(),
            control_plane: ["10.0.0.7:9090", "10.9.0.1:7443", "192.168.0.1:8443"]
                .iter()
                .map(|text| text.parse().unwrap())
                .collect(),
            ..Upstreams::default()
        };
        for (address, class) in [
            ("192.168.0.1:8443", Some(AddressClass::ControlPlane)),
            ("203.0.113.1:8443", Some(AddressClass::Node)),
            ("203.0.113.1:9090", None),
            ("203.0.113.1:7443", None),
            ("10.0.0.8:8443", None),
        ] {
            assert_eq!(Guard::default().refusal(address.parse().unwrap(), true, &known), class, "{address}");
        }
    }

    /// The forms in which an IPv6 address carries an IPv4 address, written out as their specifications have them.
    fn forms(ip: Ipv4Addr, filler: u64) -> Vec<Ipv6Addr> {
        let [a, b, c, d] = ip.octets();
        let v4 = u128::from(ip.to_bits());
        let suffix = u128::from(filler & 0xffff_ffff);
        let octets = |bytes: [u8; 16]| Ipv6Addr::from(bytes);
        vec![
            Ipv6Addr::from_bits(0xffff << 32 | v4),
            Ipv6Addr::from_bits(0xffff << 48 | v4),
            Ipv6Addr::from_bits(0x0064_ff9b << 96 | v4),
            Ipv6Addr::from_bits(0x0064_ff9b_0001 << 80 | v4),
            octets([0, 0x64, 0xff, 0x9b, 0, 1, a, b, 0, c, d, 0, 0, 0, 0, 0]),
            octets([0, 0x64, 0xff, 0x9b, 0, 1, 7, a, 0, b, c, d, 0, 0, 0, 0]),
            octets([0, 0x64, 0xff, 0x9b, 0, 1, 7, 9, 0, a, b, c, d, 0, 0, 0]),
            Ipv6Addr::from_bits(0x2002 << 112 | v4 << 80 | suffix),
            Ipv6Addr::from_bits(0x2001_0000 << 96 | v4 << 64 | u128::from(!filler as u32)),
            Ipv6Addr::from_bits(0x2001_0000 << 96 | 0x0808_0808 << 64 | u128::from(!ip.to_bits())),
            Ipv6Addr::from_bits(0x2001_0db8 << 96 | 0x5efe << 32 | v4),
            Ipv6Addr::from_bits(0x2001_0db8 << 96 | 0x0200_5efe << 32 | v4),
        ]
    }

    fn dangerous() -> impl Strategy<Value = Ipv4Addr> {
        prop_oneof![
            (127u32..=127, any::<u32>()).prop_map(|(net, rest)| Ipv4Addr::from_bits(net << 24 | rest & 0xff_ffff)),
            any::<u32>().prop_map(|rest| Ipv4Addr::from_bits(0xa9fe_0000 | rest & 0xffff)),
            any::<u32>().prop_map(|rest| Ipv4Addr::from_bits(0xe000_0000 | rest & 0x1fff_ffff)),
            any::<u32>().prop_map(|rest| Ipv4Addr::from_bits(rest & 0xff_ffff)),
            Just(Ipv4Addr::new(100, 100, 100, 200)),
            Just(Ipv4Addr::new(192, 168, 0, 1)),
            Just(Ipv4Addr::new(10, 96, 0, 1)),
        ]
    }

    proptest! {
        #[test]
        fn no_form_hides_what_an_address_is(ip in dangerous(), filler in any::<u64>(), port in any::<u16>()) {
            let known = Upstreams { allowed: Vec::new(), ..cluster() };
            let guard = Guard::default();
            prop_assert!(guard.refusal(SocketAddr::new(ip.into(), port), false, &known).is_some());
            for form in forms(ip, filler) {
                // See `carried`.
                if ip.octets()[0] == 0 && form.segments()[..3] == [0x64, 0xff9b, 1] {
                    continue;
                }
                prop_assert!(guard.refusal(SocketAddr::new(form.into(), port), false, &known).is_some(), "{form} for {ip}");
            }
        }

        #[test]
        fn what_is_allowed_is_allowed_and_nothing_panics(bits in any::<u128>(), is_pod in any::<bool>()) {
            let ip = IpAddr::from(Ipv6Addr::from_bits(bits));
            let everything = Guard { allowed: vec!["::/0".parse().unwrap(), "0.0.0.0/0".parse().unwrap()] };
            prop_assert_eq!(everything.refusal(SocketAddr::new(ip, 1), is_pod, &cluster()), None);
            let _ = Guard::default().refusal(SocketAddr::new(ip, 1), is_pod, &cluster());
        }

        #[test]
        fn ordinary_addresses_pass(a in 11u8..=99, b in any::<u8>(), c in any::<u8>(), d in any::<u8>()) {
            let ip = Ipv4Addr::new(a, b, c, d);
            prop_assert_eq!(Guard::default().refusal(SocketAddr::new(ip.into(), 80), false, &cluster()), None);
        }
    }
}
