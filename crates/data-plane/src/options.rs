//! Settings of a data plane.

use portcullis_model::{ObjectName, TELEMETRY_PORT, pod_port};
use portcullis_runtime::admin::AdminAddress;
use portcullis_runtime::log::AccessLogOptions;
use rustls_pki_types::ServerName;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Whose data plane this is, where its controller is, and how it serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The Gateway.
    pub gateway: ObjectName,
    /// The Gateway's `metadata.uid`.
    pub gateway_uid: String,
    /// The name of this pod.
    pub pod: String,
    /// Where configurations are streamed.
    pub controller: ControllerAddress,
    /// Where certificates are issued.
    pub identity: ControllerAddress,
    /// The certificates of the controller's authority, in PEM. Read again for each connection.
    pub ca_file: PathBuf,
    /// The pod's token for the controller. Read again for each certificate.
    pub token_file: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub telemetry_address: Option<SocketAddr>,
    /// Where `/config` and `/drain` are served.
    pub admin_address: Option<AdminAddress>,
    /// The access log.
    pub access_log: Option<AccessLogOptions>,
    /// How long connections are still accepted after the word to stop, while those who send traffic hear of it.
    pub shutdown_delay: Duration,
    /// How long open requests may take to end after that.
    pub drain_timeout: Duration,
    /// How the proxy serves. Its worker count is the number of serving threads.
    pub proxy: portcullis_proxy::Options,
}

impl Options {
    /// A data plane with everything else as in a pod.
    pub fn new(
        gateway: ObjectName,
        gateway_uid: impl Into<String>,
        pod: impl Into<String>,
        controller: ControllerAddress,
        identity: ControllerAddress,
    ) -> Self {
        let mut proxy = portcullis_proxy::Options::default();
        // The telemetry server has the port.
        proxy.port_map.insert(TELEMETRY_PORT, pod_port(TELEMETRY_PORT));
        Self {
            gateway,
            gateway_uid: gateway_uid.into(),
            pod: pod.into(),
            controller,
            identity,
            ca_file: "/var/run/portcullis/ca/ca.crt".into(),
            token_file: "/var/run/portcullis/token/token".into(),
            telemetry_address: Some((Ipv4Addr::UNSPECIFIED, TELEMETRY_PORT).into()),
            admin_address: None,
            access_log: None,
            shutdown_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(25),
            proxy,
        }
    }
}

/// A server of the controller: `HOST:PORT`, where the host is what its certificate has to name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerAddress {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl ControllerAddress {
    /// The host, without brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What the certificate has to name.
    pub(crate) fn name(&self) -> &ServerName<'static> {
        &self.name
    }
}

impl FromStr for ControllerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?}: write HOST:PORT such as portcullis-controller.portcullis-system.svc:8443");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong())?;
        Ok(Self { host: host.to_owned(), port, name })
    }
}

impl fmt::Display for ControllerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_or_refused() {
        for text in ["controller.system.svc:8443", "127.0.0.1:1", "[::1]:8443"] {
            assert_eq!(text.parse::<ControllerAddress>().unwrap().to_string(), text);
        }
        for text in
            ["", "controller", "controller:", ":8443", "controller:0", "controller:99999", "a b:1", "https://a:1"]
        {
            assert!(text.parse::<ControllerAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_listener_on_the_telemetry_port_is_bound_elsewhere() {
        let address: ControllerAddress = "controller:8443".parse().unwrap();
        let gateway = ObjectName::new("infra", "web");
        let options = Options::new(gateway.clone(), "uid", "pod", address.clone(), address);
        assert_eq!([80, 9090].map(|port| options.proxy.port_map.bound(&gateway, port)), [80, 19090]);
    }
}
