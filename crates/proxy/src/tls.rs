//! TLS towards clients.
//!
//! On the control thread, in flow certificates of a configuration; out flows a `PortTls` for each HTTPS port, with one
//! rustls configuration per listener. On a worker, in flows a connection's first flight; out flows a TLS stream with the
//! listener that its server name chose, or a refusal with its reason (`accept`).
//!
//! - Certificates are parsed once for their content, and kept while any listener shows them.
//! - Session tickets: one key per Gateway, port and listener, kept across configurations and shared by all workers, never by
//!   two listeners: rustls does not ask again on resumption what the listener would ask for (RFC 8446 section 2.2).
//! - No early data (its requests can be replayed), no session store.
//! - TLS 1.2 and 1.3 with the suites that rustls holds for safe; X25519MLKEM768 is preferred.

pub(crate) mod accept;
mod certificate;
pub mod client_hello;

pub(crate) use accept::accept;

use certificate::{CertificateStore, ListenerCertificates};
use portcullis_decide::Port;
use portcullis_model::{Config, ListenerKey, ObjectName};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, ProducesTickets, ServerConfig};
use std::collections::BTreeMap;
use std::sync::Arc;

/// HTTP/2 first, as every server does.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// TLS of one HTTPS port, of one configuration.
#[derive(Default)]
pub(crate) struct PortTls {
    listeners: BTreeMap<ListenerKey, ListenerTls>,
}

#[derive(Clone)]
struct ListenerTls {
    certificates: Arc<ListenerCertificates>,
    config: Arc<ServerConfig>,
}

impl PortTls {
    /// What the listener's handshakes are made with; `None` when none of its certificates can be used.
    pub(crate) fn config(&self, listener: &ListenerKey) -> Option<&Arc<ServerConfig>> {
        self.listeners.get(listener).map(|listener| &listener.config)
    }

    /// When the first certificate of each listener ends to be valid, in seconds since 1970.
    pub(crate) fn not_after(&self) -> impl Iterator<Item = (&ListenerKey, i64)> {
        self.listeners.iter().filter_map(|(key, listener)| Some((key, listener.certificates.not_after()?)))
    }
}

type TicketDomain = (ObjectName, u16, ListenerKey);

/// Makes [`PortTls`]. Lives on the control thread, as long as the proxy.
pub(crate) struct TlsBuilder {
    provider: Arc<CryptoProvider>,
    certificates: CertificateStore,
    tickets: BTreeMap<TicketDomain, Arc<dyn ProducesTickets>>,
}

impl TlsBuilder {
    pub(crate) fn new() -> Self {
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            certificates: CertificateStore::default(),
            tickets: BTreeMap::new(),
        }
    }

    /// TLS of a port. Listeners whose certificates did not change keep what they had in `previous`.
    /// What cannot be used is told as sentences, and its listener refuses handshakes if nothing else is left to it.
    pub(crate) fn port(
        &mut self,
        config: &Config,
        port: &Port,
        previous: Option<&PortTls>,
        problems: &mut Vec<String>,
    ) -> PortTls {
        let mut listeners = BTreeMap::new();
        for listener in port.listeners() {
            let mut usable = Vec::new();
            for key in &listener.certificates {
                match self.certificates.load(config, key) {
                    Ok(certificate) => usable.push(certificate),
                    Err(problem) => problems.push(format!(
                        "Gateway {}, listener {}: certificate of Secret {}: {problem}",
                        config.gateway.name, listener.key, key.0
                    )),
                }
            }
            if usable.is_empty() {
                continue;
            }
            let known = previous.and_then(|previous| previous.listeners.get(&listener.key));
            if let Some(known) = known.filter(|known| known.certificates.is(&usable)) {
                listeners.insert(listener.key.clone(), known.clone());
                continue;
            }
            let certificates = Arc::new(ListenerCertificates::new(usable));
            let domain = (config.gateway.name.clone(), port.number(), listener.key.clone());
            match self.server_config(domain, certificates.clone()) {
                Ok(config) => drop(listeners.insert(listener.key.clone(), ListenerTls { certificates, config })),
                Err(error) => problems.push(format!(
                    "Gateway {}, listener {}: TLS cannot be set up: {error}",
                    config.gateway.name, listener.key
                )),
            }
        }
        PortTls { listeners }
    }

    fn server_config(
        &mut self,
        domain: TicketDomain,
        certificates: Arc<ListenerCertificates>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let ticketer = match self.tickets.get(&domain) {
            Some(ticketer) => ticketer.clone(),
            None => {
                let ticketer = Ticketer::new()?;
                self.tickets.insert(domain, ticketer.clone());
                ticketer
            }
        };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        config.ticketer = ticketer;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Arc::new(config))
    }

    /// Forgets ticket keys and certificates of what is no longer configured. `is_used` says which listeners still are.
    pub(crate) fn retain(
        &mut self,
        configs: &BTreeMap<ObjectName, Config>,
        is_used: impl Fn(&ObjectName, u16, &ListenerKey) -> bool,
    ) {
        self.tickets.retain(|(gateway, port, listener), _| is_used(gateway, *port, listener));
        self.certificates.retain(configs);
    }
}
