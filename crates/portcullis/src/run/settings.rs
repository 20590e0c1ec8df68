//! What was typed, as what it means; after this nothing fails for a wrong argument.

use crate::cli::{LogFormat, Serving};
use portcullis_compile as compile;
use portcullis_model::ObjectName;
use portcullis_proxy::PortMap;
use portcullis_runtime::admin::AdminAddress;
use portcullis_runtime::log::{self, AccessLogOptions, AccessLogTarget};
use portcullis_runtime::worker_count::WorkerCount;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How the gateway serves.
pub(crate) struct Settings {
    pub(crate) proxy: portcullis_proxy::Options,
    pub(crate) compile: compile::Options,
    pub(crate) telemetry_address: Option<SocketAddr>,
    pub(crate) admin_address: Option<AdminAddress>,
    pub(crate) access_log: Option<AccessLogOptions>,
    pub(crate) log_format: log::LogFormat,
    pub(crate) log_filter: String,
    pub(crate) drain_timeout: Duration,
    pub(crate) poll_interval: Duration,
}

impl Settings {
    /// What was typed, or which option is wrong and how to write it.
    pub(crate) fn new(serving: &Serving) -> Result<Self, String> {
        let ports = Ports::new(&serving.ports)?;
        let mut proxy = portcullis_proxy::Options {
            workers: workers(serving.workers)?,
            port_map: ports.map,
            ..portcullis_proxy::Options::default()
        };
        if !serving.addresses.is_empty() {
            proxy.default_bind.clone_from(&serving.addresses);
        }
        let trusted = serving.trusted_proxies.iter().map(|text| network(text));
        proxy.forwarding.trusted_proxies = trusted.collect::<Result<_, _>>()?;
        proxy.telemetry.by_rule = serving.rule_metrics;
        proxy.timeouts.port_drain = serving.drain_timeout;
        let compile = compile::Options {
            standalone: true,
            // Gateways with ports of their own may have the same port in their specifications.
            shared_machine: !ports.of_gateways,
            ..compile::Options::default()
        };
        Ok(Self {
            proxy,
            compile,
            telemetry_address: telemetry_address(&serving.telemetry_address)?,
            admin_address: admin_address(&serving.admin_address)?,
            access_log: access_log(&serving.access_log),
            log_format: log_format(serving.log_format),
            log_filter: serving.log_level.clone(),
            drain_timeout: serving.drain_timeout,
            poll_interval: serving.poll_interval.max(Duration::from_millis(100)),
        })
    }
}

pub(crate) fn log_format(format: LogFormat) -> log::LogFormat {
    match format {
        LogFormat::Text => log::LogFormat::Text,
        LogFormat::Json => log::LogFormat::Json,
    }
}

pub(crate) fn workers(asked: Option<usize>) -> Result<usize, String> {
    match asked {
        None => Ok(WorkerCount::detect().workers.get()),
        Some(workers @ 1..=1024) => Ok(workers),
        Some(_) => Err("--workers: a number from 1 to 1024".to_owned()),
    }
}

/// Keeps the connections of clients within half of the files that may be open: each may need one to a backend.
pub(crate) fn limit_connections(proxy: &mut portcullis_proxy::Options, files: u64) {
    let half = usize::try_from(files / 2).unwrap_or(usize::MAX).max(1);
    proxy.connections.total = proxy.connections.total.min(half);
}

struct Ports {
    map: PortMap,
    /// Whether a Gateway has a mapping of its own.
    of_gateways: bool,
}

impl Ports {
    fn new(mappings: &[String]) -> Result<Self, String> {
        let mut ports = Self { map: PortMap::default(), of_gateways: false };
        for text in mappings {
            ports.add(text).ok_or_else(|| {
                format!("--port {text:?}: write LISTENER=PORT such as 443=8443, or NAMESPACE/GATEWAY:LISTENER=PORT")
            })?;
        }
        Ok(ports)
    }

    fn add(&mut self, text: &str) -> Option<()> {
        let (listener, bound) = text.split_once('=')?;
        let bound = bound.parse().ok()?;
        match listener.rsplit_once(':') {
            None => self.map.insert(port(listener)?, bound),
            Some((gateway, listener)) => {
                let gateway: ObjectName = gateway.parse().ok()?;
                self.map.insert_for(gateway, port(listener)?, bound);
                self.of_gateways = true;
            }
        }
        Some(())
    }
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

pub(crate) fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("--trusted-proxy {text:?}: write an address or a network such as 10.0.0.0/8 or fd00::/8");
    let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Ok(bits), str::parse).map_err(|_| wrong())?;
    if length > bits { Err(wrong()) } else { Ok((address, length)) }
}

pub(crate) fn telemetry_address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "none" {
        return Ok(None);
    }
    let text = text.strip_prefix("localhost:").map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
    let wrong = |_| format!("--telemetry-address {text:?}: write ADDRESS:PORT such as 0.0.0.0:9090, or none");
    text.parse().map(Some).map_err(wrong)
}

pub(crate) fn admin_address(text: &str) -> Result<Option<AdminAddress>, String> {
    match text {
        "none" => Ok(None),
        path if path.starts_with(['/', '.']) => Ok(Some(AdminAddress::unix(path))),
        _ => text.parse().map(Some).map_err(|error| format!("--admin-address: {error}, or none")),
    }
}

pub(crate) fn access_log(text: &str) -> Option<AccessLogOptions> {
    let target = match text {
        "none" => return None,
        "-" => AccessLogTarget::Stdout,
        path => AccessLogTarget::File(path.into()),
    };
    Some(AccessLogOptions { target, ..AccessLogOptions::default() })
}

#[cfg(test)]
mod tests {
    use super::{Ports, admin_address, network, telemetry_address};

    #[test]
    fn ports_are_mapped_for_all_gateways_or_for_one() {
        let ports = Ports::new(&["443=8443".to_owned(), "infra/web:443=9443".to_owned()]).unwrap();
        assert!(ports.of_gateways);
        assert_eq!(ports.map.bound(&"infra/web".parse().unwrap(), 443), 9443);
        assert_eq!(ports.map.bound(&"infra/other".parse().unwrap(), 443), 8443);
        assert_eq!(ports.map.bound(&"infra/other".parse().unwrap(), 80), 80);
        for wrong in ["", "443", "443=", "=8443", "0=8443", "443=70000", "web:443=8443", "a/b:=1"] {
            assert!(Ports::new(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_and_addresses_are_read_or_refused() {
        assert_eq!(network("10.0.0.0/8").unwrap(), ("10.0.0.0".parse().unwrap(), 8));
        assert_eq!(network("::1").unwrap(), ("::1".parse().unwrap(), 128));
        for wrong in ["10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "host"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
        assert!(telemetry_address("none").unwrap().is_none());
        assert!(telemetry_address("localhost:9090").unwrap().is_some());
        assert!(telemetry_address("9090").is_err());
        assert!(admin_address("/run/portcullis.sock").unwrap().is_some());
        assert!(admin_address("127.0.0.1:9091").unwrap().is_some());
        assert!(admin_address("0.0.0.0:9091").is_err());
    }
}
