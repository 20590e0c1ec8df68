//! Where the data planes of a Gateway may connect to: what is allowed beside ordinary addresses, and which addresses are the cluster's own.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// What the guard of upstream addresses needs to know of a Gateway. Sorted, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Upstreams {
    /// Addresses that may be connected to although the guard would refuse them (GatewayParameters).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Cidr>,
    /// Addresses of the cluster's nodes: refused on every port, except to pods that share their node's network, and to those on the ports on
    /// which nodes are controlled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<IpAddr>,
    /// Where the cluster is controlled: API servers and the gateways' own controller. Port 0 stands for every port. Refused to every
    /// endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub control_plane: Vec<SocketAddr>,
}

impl Upstreams {
    /// Whether there is nothing to know.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A network of IP addresses, written as `10.0.0.0/8` or `fd00::/8` (RFC 4632, RFC 4291).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    length: u8,
}

impl Cidr {
    /// Whether an address is in the network. An IPv4-mapped IPv6 address counts as the IPv4 address that it stands for.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => masked4(address.to_bits(), self.length) == network.to_bits(),
            (IpAddr::V6(network), IpAddr::V6(address)) => masked6(address.to_bits(), self.length) == network.to_bits(),
            _ => false,
        }
    }
}

fn masked4(bits: u32, length: u8) -> u32 {
    bits & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn masked6(bits: u128, length: u8) -> u128 {
    bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CidrError {
    /// Not an address, a slash and a number.
    Form,
    /// The prefix is longer than the address.
    Length,
    /// The address has bits beyond the prefix: it cannot be told which of both was meant.
    HostBits,
}

impl fmt::Display for CidrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "is not a network; write it as in 10.0.0.0/8 or fd00::/8",
            Self::Length => "has a prefix that is longer than the address; use at most 32 for IPv4 and 128 for IPv6",
            Self::HostBits => "has bits set behind its prefix; clear them, or use a longer prefix",
        })
    }
}

impl std::error::Error for CidrError {}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, length) = text.split_once('/').ok_or(CidrError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| CidrError::Form)?;
        if length.is_empty() || length.len() > 3 || !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CidrError::Form);
        }
        let length: u8 = length.parse().map_err(|_| CidrError::Length)?;
        let (most, is_network) = match address {
            IpAddr::V4(address) => (32, length <= 32 && masked4(address.to_bits(), length) == address.to_bits()),
            IpAddr::V6(address) => (128, length <= 128 && masked6(address.to_bits(), length) == address.to_bits()),
        };
        match (length <= most, is_network) {
            (false, _) => Err(CidrError::Length),
            (true, false) => Err(CidrError::HostBits),
            (true, true) => Ok(Self { address, length }),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_networks() {
        for (text, expected) in [
            ("10.0.0.0/8", Ok(())),
            ("0.0.0.0/0", Ok(())),
            ("::/0", Ok(())),
            ("fd00:ec2::254/128", Ok(())),
            ("192.0.2.1/32", Ok(())),
            ("10.0.0.1/8", Err(CidrError::HostBits)),
            ("10.0.0.0/33", Err(CidrError::Length)),
            ("::/129", Err(CidrError::Length)),
            ("::/999", Err(CidrError::Length)),
            ("10.0.0.0", Err(CidrError::Form)),
            ("10.0.0/8", Err(CidrError::Form)),
            ("10.0.0.0/", Err(CidrError::Form)),
            ("10.0.0.0/+8", Err(CidrError::Form)),
            ("", Err(CidrError::Form)),
        ] {
            let read = text.parse::<Cidr>();
            assert_eq!(read.map(drop), expected, "{text}");
            if let Ok(cidr) = read {
                assert_eq!(cidr.to_string(), text);
            }
        }
    }

    #[test]
    fn knows_its_addresses() {
        for (cidr, address, contains) in [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("10.0.0.0/8", "a00::", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::", false),
            ("::/0", "ffff::1", true),
            ("fd00::/8", "fdff::", true),
            ("fd00::/8", "fe00::", false),
            ("192.0.2.1/32", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.2", false),
        ] {
            let network: Cidr = cidr.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), contains, "{cidr} {address}");
        }
    }
}
