//! The controller as a whole: starts the parts, in the order in which one needs the other, and ends them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_cluster::{ConnectError, Namespaces, SecretAccess, Selection, Watch};
use portcullis_compile::SecretNamespaces;
use portcullis_model::ObjectName;
use portcullis_runtime::drain::Drain;
use portcullis_runtime::metrics::{MetricError, Registry};
use portcullis_runtime::readiness::Readiness;
use portcullis_runtime::server::Limits;
use portcullis_runtime::telemetry::{self, TelemetryServer};
use portcullis_runtime::threads;

use crate::control_plane;
use crate::events::{EventOptions, EventWriter};
use crate::identity::{Authority, AuthorityError, AuthorityOptions};
use crate::infrastructure::{InfrastructureOptions, Provisioner, RenderOptions, names};
use crate::leader::{Elector, LeaderOptions};
use crate::options::Options;
use crate::reconcile::{Inputs, LoopError, Outputs, Reconciler};
use crate::serve::{ConfigServer, ServeOptions, StartError};
use crate::status::{REQUEST_LIMIT, StatusOptions, StatusWriter};

/// Parts that measure durations: the writer of statuses, and the loop.
const SHARDS: usize = 2;

/// How long a lease lasts, how often it is renewed, and how often it is looked at by those who wait for it.
const LEASE: Duration = Duration::from_secs(15);
const LEASE_RENEWAL: Duration = Duration::from_secs(5);
const LEASE_LOOK: Duration = Duration::from_secs(2);

/// Why the controller could not start, or ended on its own.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no cluster to be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The telemetry address cannot be bound.
    #[error("the telemetry address {address} cannot be bound: {error}; name another with --telemetry-address")]
    Telemetry {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// A metric was registered twice.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The certificate authority cannot be started.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The servers for data planes cannot be started.
    #[error(transparent)]
    Serve(#[from] StartError),
    /// The loop ended on its own.
    #[error(transparent)]
    Loop(#[from] LoopError),
}

/// Runs the controller until the drain begins. Needs a tokio runtime, and rustls's process-wide provider.
///
/// # Errors
/// When a part cannot be started, or ends although nobody asked for it.
pub async fn run(options: Options, drain: &Drain) -> Result<(), RunError> {
    let registry = Registry::new(SHARDS);
    registry.build_info(&[("version", options.version)])?;
    threads::register(&registry)?;
    let readiness = Readiness::new(drain.watch());
    let lists = readiness.gate("cluster", "not everything has been read yet");
    let servers = readiness.gate("servers", "the servers for data planes do not listen yet");
    let alive = Arc::new(AtomicBool::new(true));
    serve_telemetry(&options, &registry, readiness, &alive).await?;

    let client = portcullis_cluster::connect(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
    let authority = Authority::start(authority_options(&options), client.clone(), &registry)?;
    let serve = ServeOptions {
        stream_address: options.stream_address,
        identity_address: options.identity_address,
        deployment_name: |gateway, class| names(gateway, class).base,
    };
    let (server, data_planes) = ConfigServer::start(serve, client.clone(), authority.clone(), &registry, drain).await?;
    tracing::info!(stream = %server.stream_address(), identity = %server.identity_address(), "serving data planes");
    servers.open();

    let provisioner = Provisioner::start(infrastructure_options(&options), client.clone(), &registry)?;
    let status =
        StatusOptions { controller_name: options.controller_name.as_str().into(), request_limit: REQUEST_LIMIT };
    let status = StatusWriter::start(client.clone(), status, &registry, registry.claim(0))?;
    let teller = EventOptions::new(&options.pod_name, REQUEST_LIMIT);
    let teller = EventWriter::start(client.clone(), teller, &registry)?;
    let elector = Elector::start(client.clone(), leader_options(&options, server.stream_address()), &registry)?;
    let selection = Selection { scope: options.scope.clone(), owned: true };
    let (watch, events) = Watch::start(client.clone(), selection);
    let places = control_plane::unwatched(&options.scope.namespaces, &own_service(&options));
    let events = control_plane::beside(events, client, places);

    let inputs = Inputs {
        events,
        data_planes,
        leadership: elector.watch(),
        bundle: authority.bundle(),
        problems: provisioner.problems(),
    };
    let outputs =
        Outputs { watch: Arc::new(watch), server, provisioner, status, events: teller, authority, gate: lists };
    let reconciler = Reconciler::new(compile_options(&options), outputs, &registry, registry.claim(1))?;
    let ended = reconciler.run(inputs, drain.watch()).await;
    alive.store(false, Ordering::Relaxed);
    // Nothing is written any more: another replica may begin.
    elector.release().await;
    if ended.is_ok() {
        let report = drain.finished().await;
        tracing::info!(cut = %report.cut, "drained");
    }
    Ok(ended?)
}

async fn serve_telemetry(
    options: &Options,
    registry: &Registry,
    readiness: Readiness,
    alive: &Arc<AtomicBool>,
) -> Result<(), RunError> {
    let Some(address) = options.telemetry_address else { return Ok(()) };
    let alive = alive.clone();
    let is_alive = move || match alive.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err("the controller's loop has ended".to_owned()),
    };
    let routes = telemetry::routes(registry.clone(), readiness, is_alive);
    let unbound = |error| RunError::Telemetry { address, error };
    let server = TelemetryServer::bind(address, routes, Limits::default()).await.map_err(unbound)?;
    server.register(registry)?;
    tracing::info!(address = %server.local_addr().map_err(unbound)?, "telemetry: /metrics /healthz /readyz");
    // Until the process ends: a drain is visible in /readyz.
    tokio::task::spawn_local(server.serve(std::future::pending()));
    Ok(())
}

fn compile_options(options: &Options) -> portcullis_compile::Options {
    portcullis_compile::Options {
        controller_name: options.controller_name.clone(),
        cluster_domain: options.cluster_domain.clone(),
        control_plane: BTreeSet::from([ObjectName::new("default", "kubernetes"), own_service(options)]),
        control_plane_addresses: own_addresses(
            options,
            std::env::var("KUBERNETES_SERVICE_HOST").ok().as_deref(),
            std::env::var("KUBERNETES_SERVICE_PORT").ok().as_deref(),
        ),
        secrets: secret_namespaces(&options.scope.secrets),
        ..portcullis_compile::Options::default()
    }
}

/// As the statuses of those that refer to Secrets are to explain it.
fn secret_namespaces(access: &SecretAccess) -> SecretNamespaces {
    match access {
        SecretAccess::Cluster => SecretNamespaces::All,
        SecretAccess::Namespaces(listed) => SecretNamespaces::Listed(listed.iter().cloned().collect()),
        SecretAccess::LabelledNamespaces(selector) => SecretNamespaces::Labelled(selector.clone()),
    }
}

fn own_service(options: &Options) -> ObjectName {
    ObjectName::new(options.namespace.as_str(), options.controller_service.as_str())
}

/// What is known without the Services, which may not have been read yet: this replica, and the API server as the kubelet names it to every
/// pod.
fn own_addresses(options: &Options, api_host: Option<&str>, api_port: Option<&str>) -> BTreeSet<SocketAddr> {
    let ports = [Some(options.stream_address), Some(options.identity_address), options.telemetry_address];
    let ports = ports.into_iter().flatten().map(|address| address.port());
    let replica = options.pod_ip.into_iter().flat_map(|ip| ports.clone().map(move |port| SocketAddr::new(ip, port)));
    let host = api_host.and_then(|host| host.parse::<IpAddr>().ok());
    // Port 0 stands for every port.
    let port = api_port.and_then(|port| port.parse().ok()).unwrap_or(0);
    replica.chain(host.map(|ip| SocketAddr::new(ip, port))).map(canonical).collect()
}

/// Endpoints are compared with these in this form.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn authority_options(options: &Options) -> AuthorityOptions {
    AuthorityOptions {
        namespace: options.namespace.clone(),
        service: options.controller_service.clone(),
        cluster_domain: options.cluster_domain.clone(),
        pod: options.pod_name.clone(),
        pod_ip: options.pod_ip,
    }
}

fn leader_options(options: &Options, stream: SocketAddr) -> LeaderOptions {
    // Two processes must never have the same identity; without the pod's uid, each process is a replica of its own.
    let uid = options.pod_uid.clone().unwrap_or_else(|| format!("{:016x}", fastrand::u64(..)));
    LeaderOptions {
        namespace: options.namespace.clone(),
        lease: options.lease_name.clone(),
        identity: format!("{}_{uid}", options.pod_name),
        address: options.pod_ip.map(|ip| SocketAddr::new(ip, stream.port()).to_string()),
        duration: LEASE,
        renew: LEASE_RENEWAL,
        look: LEASE_LOOK,
    }
}

fn infrastructure_options(options: &Options) -> InfrastructureOptions {
    let host = format!("{}.{}.svc", options.controller_service, options.namespace);
    let namespaces = match &options.scope.namespaces {
        Namespaces::All => None,
        Namespaces::Listed(listed) => Some(listed.clone()),
    };
    InfrastructureOptions {
        render: RenderOptions {
            image: options.image.clone(),
            image_pull_policy: options.image_pull_policy.clone(),
            controller: format!("{host}:{STREAM_PORT}"),
            identity: format!("{host}:{IDENTITY_PORT}"),
            controller_name: options.controller_name.clone(),
            ca_bundle: String::new(),
        },
        namespaces,
        request_limit: REQUEST_LIMIT,
    }
}

/// The ports of the controller's Service.
const STREAM_PORT: u16 = 8443;
const IDENTITY_PORT: u16 = 8444;

#[cfg(test)]
mod tests {
    use portcullis_cluster::{Scope, SecretAccess};

    use super::*;

    fn options() -> Options {
        Options {
            version: "0",
            kubeconfig: None,
            context: None,
            namespace: "portcullis-system".to_owned(),
            lease_name: "portcullis-controller".to_owned(),
            image: "image".to_owned(),
            image_pull_policy: None,
            controller_service: "portcullis-controller".to_owned(),
            controller_name: "portcullis.dev/gateway-controller".to_owned(),
            scope: Scope { namespaces: Namespaces::All, secrets: SecretAccess::Cluster },
            cluster_domain: "cluster.local".to_owned(),
            telemetry_address: Some("0.0.0.0:9090".parse().unwrap()),
            stream_address: "0.0.0.0:8443".parse().unwrap(),
            identity_address: "0.0.0.0:8444".parse().unwrap(),
            pod_name: "portcullis-controller-0".to_owned(),
            pod_uid: None,
            pod_ip: Some("::ffff:10.0.0.7".parse().unwrap()),
            drain_timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn no_route_leads_to_the_controller_or_the_api_server() {
        let services = compile_options(&options()).control_plane;
        for (namespace, name) in [("default", "kubernetes"), ("portcullis-system", "portcullis-controller")] {
            assert!(services.contains(&ObjectName::new(namespace, name)), "{namespace}/{name}");
        }
        let replica = ["10.0.0.7:8443", "10.0.0.7:8444", "10.0.0.7:9090"];
        for (host, port, api) in [
            (Some("10.96.0.1"), Some("443"), Some("10.96.0.1:443")),
            (Some("10.96.0.1"), None, Some("10.96.0.1:0")),
            (Some("fd00::1"), Some("6443"), Some("[fd00::1]:6443")),
            (Some("api.example"), Some("443"), None),
            (None, None, None),
        ] {
            let expected: BTreeSet<SocketAddr> =
                replica.iter().copied().chain(api).map(|text| text.parse().unwrap()).collect();
            assert_eq!(own_addresses(&options(), host, port), expected, "{host:?} {port:?}");
        }
    }
}
