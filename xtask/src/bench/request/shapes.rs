//! The shapes of load, as far as the bench must know them; what a unit does stands in `bench/traffic`.

/// A shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    /// What is counted.
    pub(super) unit: &'static str,
    pub(super) entry: Entry,
}

/// At which port of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    Http,
    Https,
    /// HTTP/2 with prior knowledge.
    H2c,
}

const fn shape(name: &'static str, unit: &'static str, entry: Entry) -> Shape {
    Shape { name, unit, entry }
}

/// All of them.
pub(super) const ALL: &[Shape] = &[
    shape("http1", "request", Entry::Http),
    shape("http1-64k", "request", Entry::Http),
    shape("http1-post-1k", "request", Entry::Http),
    shape("http1-post-64k", "request", Entry::Http),
    shape("https1", "request", Entry::Https),
    shape("https1-64k", "request", Entry::Https),
    shape("https1-post-64k", "request", Entry::Https),
    shape("https2", "request", Entry::Https),
    shape("https2-64k", "request", Entry::Https),
    shape("https2-post-64k", "request", Entry::Https),
    shape("grpc", "stream", Entry::H2c),
    shape("websocket", "message", Entry::Http),
    shape("tls-full", "connection", Entry::Https),
    shape("tls-resumed", "connection", Entry::Https),
];

impl Shape {
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let known = || ALL.iter().map(|shape| shape.name).collect::<Vec<_>>().join(", ");
        let shape = ALL.iter().find(|shape| shape.name == name).copied();
        shape.ok_or_else(|| format!("there is no shape {name}; there are {}", known()))
    }

    /// Whether each unit has a connection of its own.
    pub(super) fn connects(&self) -> bool {
        self.unit == "connection"
    }

    /// Whether the proxy logs each unit.
    pub(super) fn is_logged(&self) -> bool {
        self.unit != "message"
    }

    /// Whether requests have large bodies.
    pub(super) fn sends_much(&self) -> bool {
        self.name.ends_with("-post-64k")
    }

    /// Streams at a time on each connection: as many as a page has things to load where there are few connections, one in a crowd.
    pub(super) fn streams(&self, connections: usize) -> usize {
        let multiplexed = self.entry == Entry::H2c || self.name.starts_with("https2");
        if multiplexed && connections <= 200 { 10 } else { 1 }
    }
}
