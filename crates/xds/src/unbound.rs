//! What a data plane says of a configuration that it serves but for some ports: text, as a refusal has nothing else, in one form that is
//! written and read here.

use std::collections::BTreeMap;
use std::fmt;

/// A configuration is served, except the ports that cannot be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnboundPorts {
    /// The Gateway's generation that the configuration was made of.
    pub gateway_generation: i64,
    /// The ports of listeners that are not served, each with the reason.
    pub ports: BTreeMap<u16, String>,
}

const SERVED: &str = " is served, except ";

impl UnboundPorts {
    /// Reads a refusal; nothing for one that says something else. The reasons are foreign text.
    pub fn parse(message: &str) -> Option<Self> {
        let (generation, ports) = message.strip_prefix("generation ")?.split_once(SERVED)?;
        let port = |text: &str| {
            let (number, reason) = text.strip_prefix("port ")?.split_once(": ")?;
            Some((number.parse().ok()?, reason.to_owned()))
        };
        let ports = ports.split("; ").map(port).collect::<Option<BTreeMap<_, _>>>()?;
        Some(Self { gateway_generation: generation.parse().ok()?, ports })
    }
}

impl fmt::Display for UnboundPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {}{SERVED}", self.gateway_generation)?;
        for (index, (port, reason)) in self.ports.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}port {port}: {}", reason.replace("; ", ", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let ports = [(80, "cannot listen on [::]:80: in use".to_owned()), (443, "a, b: c".to_owned())];
        let unbound = UnboundPorts { gateway_generation: 7, ports: ports.into() };
        assert_eq!(
            unbound.to_string(),
            "generation 7 is served, except port 80: cannot listen on [::]:80: in use; port 443: a, b: c"
        );
        assert_eq!(UnboundPorts::parse(&unbound.to_string()), Some(unbound));
    }

    #[test]
    fn a_reason_stays_one_reason() {
        let unbound = UnboundPorts { gateway_generation: 1, ports: [(80, "a; port 81: b".to_owned())].into() };
        assert_eq!(UnboundPorts::parse(&unbound.to_string()).map(|unbound| unbound.ports.len()), Some(1));
    }

    #[test]
    fn anything_else_is_not() {
        for text in [
            "",
            "port 80: in use",
            "generation x is served, except port 80: a",
            "generation 1 is served, except ",
            "generation 1 is served, except port 99999: a",
            "generation 1 is served, except port 80: a; rubbish",
        ] {
            assert_eq!(UnboundPorts::parse(text), None, "{text}");
        }
    }
}
