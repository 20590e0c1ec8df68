//! TLS towards clients: which listener, which certificate, tickets.

/// TLS of one HTTPS port.
pub(crate) struct PortTls;
