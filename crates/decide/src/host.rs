//! Hosts: reading them, and maps from hostnames.

use crate::HostRefusal;
use crate::shared::SharedMap;
use foldhash::fast::FixedState;
use portcullis_model::Hostname;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// A map that is looked up with what clients send. Its keys come from the configuration, and it is never iterated where
/// the order would show, so a fixed hasher does.
pub(crate) type Map<K, V> = HashMap<K, V, FixedState>;

/// The longest host name (RFC 1035 2.3.4, as text without the trailing dot).
const MAX_LENGTH: usize = 253;

/// Reads a Host or `:authority`: lower case, without port and trailing dot. Empty stays empty: a request without a Host.
///
/// Stricter than RFC 3986: letters, digits, `-`, `_` and `.` without empty labels, or an IPv6 address in brackets.
pub(crate) fn parse(received: &str) -> Result<Cow<'_, str>, HostRefusal> {
    let (name, port) = split_port(received)?;
    if let Some(port) = port
        && (port.len() > 5
            || !port.bytes().all(|byte| byte.is_ascii_digit())
            || port.parse::<u32>().is_ok_and(|n| n > 65535))
    {
        return Err(HostRefusal::InvalidPort);
    }
    if name.is_empty() && port.is_some() {
        return Err(HostRefusal::InvalidName);
    }
    if name.starts_with('[') {
        return Ok(lower(name));
    }
    parse_name(name)
}

/// Reads a host name or a server name without a port.
pub(crate) fn parse_name(name: &str) -> Result<Cow<'_, str>, HostRefusal> {
    if name.is_empty() {
        return Ok(Cow::Borrowed(name));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > MAX_LENGTH {
        return Err(HostRefusal::TooLong);
    }
    let mut label_is_empty = true;
    for byte in name.bytes() {
        match byte {
            b'.' if label_is_empty => return Err(HostRefusal::InvalidName),
            b'.' => label_is_empty = true,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => label_is_empty = false,
            _ => return Err(HostRefusal::InvalidName),
        }
    }
    if label_is_empty {
        return Err(HostRefusal::InvalidName);
    }
    Ok(lower(name))
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// The name, and what follows the colon. An IPv6 address keeps its brackets.
fn split_port(received: &str) -> Result<(&str, Option<&str>), HostRefusal> {
    let Some(inside) = received.strip_prefix('[') else {
        return Ok(match received.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (received, None),
        });
    };
    let end = inside.find(']').ok_or(HostRefusal::InvalidName)?;
    if inside[..end].parse::<std::net::Ipv6Addr>().is_err() {
        return Err(HostRefusal::InvalidName);
    }
    let (name, rest) = received.split_at(end + 2);
    match rest.strip_prefix(':') {
        Some(port) => Ok((name, Some(port))),
        None if rest.is_empty() => Ok((name, None)),
        None => Err(HostRefusal::InvalidName),
    }
}

/// Values by hostname, found from a host: the exact name, then wildcards from the longest to the shortest, then any. Copies share what
/// they have in common.
#[derive(Clone, Debug)]
pub(crate) struct HostMap<T> {
    exact: SharedMap<Arc<str>, T>,
    suffixes: SharedMap<Arc<str>, T>,
    any: Option<T>,
    /// The length of the longest suffix: longer ones need not be looked up.
    longest_suffix: usize,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: SharedMap::default(), suffixes: SharedMap::default(), any: None, longest_suffix: 0 }
    }
}

impl<T: Clone> HostMap<T> {
    pub(crate) fn get(&self, hostname: &Hostname) -> Option<&T> {
        match hostname {
            Hostname::Any => self.any.as_ref(),
            Hostname::Exact(name) => self.exact.get(name),
            Hostname::Wildcard(suffix) => self.suffixes.get(suffix),
        }
    }

    pub(crate) fn insert(&mut self, hostname: &Hostname, value: T) {
        match hostname {
            Hostname::Any => self.any = Some(value),
            Hostname::Exact(name) => self.exact.insert(name.clone(), value),
            Hostname::Wildcard(suffix) => {
                self.longest_suffix = self.longest_suffix.max(suffix.len());
                self.suffixes.insert(suffix.clone(), value);
            }
        }
    }

    pub(crate) fn remove(&mut self, hostname: &Hostname) {
        match hostname {
            Hostname::Any => self.any = None,
            Hostname::Exact(name) => self.exact.remove(name),
            Hostname::Wildcard(suffix) => self.suffixes.remove(suffix),
        }
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        self.exact.shrink_to_fit();
        self.suffixes.shrink_to_fit();
    }

    /// What covers a host, the most specific first. `host` is what [`parse`] returned: at most 253 bytes.
    pub(crate) fn covering<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a T> {
        let wildcards = (!self.suffixes.is_empty())
            .then(|| memchr::memchr_iter(b'.', host.as_bytes()).map(|dot| &host[dot + 1..]))
            .into_iter()
            .flatten()
            .filter(|suffix| suffix.len() <= self.longest_suffix)
            .filter_map(|suffix| self.suffixes.get(suffix));
        self.exact.get(host).into_iter().chain(wildcards).chain(self.any.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::{HostMap, parse};
    use crate::HostRefusal;
    use portcullis_model::Hostname;

    #[test]
    fn hosts_are_read() {
        use HostRefusal::*;
        let long = "a".repeat(254);
        for (received, host) in [
            ("", Ok("")),
            ("example.com", Ok("example.com")),
            ("Example.COM:8080", Ok("example.com")),
            ("example.com:", Ok("example.com")),
            ("example.com.", Ok("example.com")),
            ("example.com.:443", Ok("example.com")),
            ("a_b.example.com", Ok("a_b.example.com")),
            ("127.0.0.1:80", Ok("127.0.0.1")),
            ("[::1]", Ok("[::1]")),
            ("[2001:DB8::1]:443", Ok("[2001:db8::1]")),
            (".", Err(InvalidName)),
            (":80", Err(InvalidName)),
            (".example.com", Err(InvalidName)),
            ("a..b", Err(InvalidName)),
            ("example.com..", Err(InvalidName)),
            ("user@example.com", Err(InvalidName)),
            ("a b", Err(InvalidName)),
            ("a/b", Err(InvalidName)),
            ("é.example", Err(InvalidName)),
            ("[::1", Err(InvalidName)),
            ("[::1]x", Err(InvalidName)),
            ("[x]", Err(InvalidName)),
            ("example.com:x", Err(InvalidPort)),
            ("example.com:80:80", Err(InvalidPort)),
            ("example.com:65536", Err(InvalidPort)),
            ("example.com:000080", Err(InvalidPort)),
            ("::1", Err(InvalidPort)),
            (&long, Err(TooLong)),
        ] {
            assert_eq!(parse(received).as_deref(), host.as_ref().map(|host| *host), "{received}");
        }
    }

    #[test]
    fn the_most_specific_hostname_comes_first() {
        let mut map = HostMap::default();
        for hostname in ["*", "*.com", "*.example.com", "a.example.com"] {
            map.insert(&Hostname::new(Some(hostname)), hostname);
        }
        for (host, covering) in [
            ("a.example.com", vec!["a.example.com", "*.example.com", "*.com", "*"]),
            ("b.a.example.com", vec!["*.example.com", "*.com", "*"]),
            ("example.com", vec!["*.com", "*"]),
            ("com", vec!["*"]),
            ("", vec!["*"]),
            ("[::1]", vec!["*"]),
        ] {
            assert_eq!(map.covering(host).copied().collect::<Vec<_>>(), covering, "{host}");
        }
    }
}
