//! `portcullis run`: a gateway from files and folders.
//!
//! The loader thread reads and compiles; the control thread (this one) gives what changed to the proxy, and answers
//! `/metrics` and `/config`; the proxy's threads serve. A signal drains them.

mod loader;
mod settings;

use crate::cli;
use crate::exit::Exit;
use crate::output;
use loader::{Loaded, Loader};
use portcullis_folder::{Folder, Options as FolderOptions};
use portcullis_model::{Config, ConfigDelta, ObjectName};
use portcullis_proxy::{Applied, BindError, Proxy};
use portcullis_runtime::admin::{self, AdminServer};
use portcullis_runtime::drain::Drain;
use portcullis_runtime::log::{AccessLog, AccessLogOptions, AccessLogTarget};
use portcullis_runtime::metrics::{Kind, MetricError, Registry};
use portcullis_runtime::readiness::{Gate, Readiness};
use portcullis_runtime::server::Limits;
use portcullis_runtime::signals::{Reload, Signals};
use portcullis_runtime::telemetry::{self, TelemetryServer};
use portcullis_runtime::{file_limits, threads};
use settings::Settings;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the access log may take to write its last lines.
const LOG_CLOSE: Duration = Duration::from_secs(2);

/// Serves until a signal.
pub(crate) fn run(arguments: &cli::Run) -> Exit {
    let mut settings = match Settings::new(&arguments.serving) {
        Ok(settings) => settings,
        Err(problem) => {
            output::problem(&format!("portcullis: {problem}"));
            return Exit::Usage;
        }
    };
    if let Err(error) = portcullis_runtime::log::init(settings.log_format, &settings.log_filter) {
        output::problem(&format!("portcullis: --log-level: {error}"));
        return Exit::Usage;
    }
    threads::install_panic_hook();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a crypto provider was installed before");
    }
    match file_limits::raise() {
        Ok(limits) => {
            tracing::debug!(before = limits.before, now = limits.now, "limit of open files");
            settings.limit_connections(limits.now);
        }
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
    let options = FolderOptions { default_namespace: arguments.namespace.clone(), strict: arguments.input.strict };
    let folder = Folder::new(arguments.input.paths.clone(), options);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failure(&format!("the control thread could not be started: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, serve(settings, folder));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(exit) => exit,
        Err(error) => output::failure(&error.to_string()),
    }
}

async fn serve(settings: Settings, folder: Folder) -> Result<Exit, Box<dyn Error>> {
    let drain = Drain::new();
    let reload = Reload::new();
    tokio::task::spawn_local(Signals::install()?.drive(drain.clone(), settings.drain_timeout, reload.clone()));

    let registry = Registry::new(settings.proxy.workers);
    registry.build_info(&[("version", crate::version::SHORT)])?;
    threads::register(&registry)?;
    let access_log = settings.access_log.clone().map(open_access_log).transpose()?;
    if let Some(access_log) = &access_log {
        access_log.register(&registry)?;
    }
    let readiness = Readiness::new(drain.watch());
    let gate = readiness.gate("configuration", "the first complete configuration is not served yet");
    let configs = Arc::new(Mutex::new(BTreeMap::new()));
    let mut options = settings.proxy.clone();
    // A route must not reach what only operators may.
    options.upstream.forbidden = start_servers(&settings, &registry, readiness, &configs, &drain).await?;
    let proxy = Proxy::start(options, &registry, access_log.as_ref(), &drain)?;

    let file_errors = register_file_errors(&registry)?;
    let (loader, loaded) = Loader::start(folder, settings.compile.clone(), settings.poll_interval, file_errors)?;
    let served = Served { proxy: proxy.clone(), gate, configs };
    let exit = follow(&served, loaded, &drain, &reload, access_log.as_ref(), &loader).await;
    if drain.watch().is_draining() {
        let drained = proxy.drain(settings.drain_timeout).await;
        tracing::info!(cut = %drained.cut, "drained");
    }
    if access_log.is_some_and(|access_log| !access_log.close(LOG_CLOSE)) {
        tracing::warn!("the last lines of the access log could not be written in time");
    }
    Ok(exit)
}

/// What the control thread keeps up to date.
struct Served {
    proxy: Proxy,
    gate: Gate,
    configs: Arc<Mutex<BTreeMap<ObjectName, Config>>>,
}

/// Gives the proxy what the loader found, until the program is told to stop.
async fn follow(
    served: &Served,
    mut loaded: mpsc::UnboundedReceiver<Loaded>,
    drain: &Drain,
    reload: &Reload,
    access_log: Option<&AccessLog>,
    loader: &Loader,
) -> Exit {
    let watch = drain.watch();
    let mut reloads = reload.watch();
    let mut failures = BTreeMap::new();
    let mut first = true;
    loop {
        tokio::select! {
            () = watch.draining() => return Exit::Success,
            () = reloads.requested() => {
                access_log.inspect(|access_log| access_log.reopen());
                loader.wake();
            }
            next = loaded.recv() => match next {
                Some(Loaded::Unreadable) if first => return Exit::Unreadable,
                Some(Loaded::Unreadable) => {}
                Some(Loaded::Changed(deltas)) => {
                    let applied = served.apply(deltas).await;
                    tell_failures(&applied, &mut failures);
                    if first && !applied.ports.is_empty() && applied.ports.iter().all(|port| port.result.is_err()) {
                        tracing::error!("no port could be bound; nothing can be served");
                        return Exit::Failure;
                    }
                    if first && applied.ports.is_empty() {
                        tracing::warn!("no Gateway with a listener that can be served; waiting for the files to change");
                    }
                    first = false;
                    served.gate.open();
                }
                None => {
                    tracing::error!("the loader ended; this is a defect");
                    return Exit::Failure;
                }
            },
        }
    }
}

impl Served {
    async fn apply(&self, deltas: Vec<ConfigDelta>) -> Applied {
        {
            let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
            deltas.iter().for_each(|delta| Config::apply(&mut configs, delta));
        }
        let applied = self.proxy.apply(deltas).await;
        tracing::info!(generation = applied.generation, ports = applied.ports.len(), "configuration applied");
        applied
    }
}

/// Tells which ports are served, and which are not, when that changed.
fn tell_failures(applied: &Applied, known: &mut BTreeMap<(ObjectName, u16), Result<String, BindError>>) {
    let mut now = BTreeMap::new();
    for report in &applied.ports {
        let result = report.result.as_ref().map_err(Clone::clone).map(|bound| {
            let addresses: Vec<String> = bound.addresses.iter().map(ToString::to_string).collect();
            addresses.join(", ")
        });
        let key = (report.gateway.clone(), report.port);
        if known.get(&key) != Some(&result) {
            match &result {
                Ok(address) => {
                    tracing::info!(gateway = %report.gateway, port = report.port, address = address.as_str(), "listening");
                }
                Err(error) => tracing::error!(gateway = %report.gateway, port = report.port, %error, "not listening"),
            }
        }
        now.insert(key, result);
    }
    *known = now;
}

/// Starts the servers for operators, and says where they listen.
fn open_access_log(options: AccessLogOptions) -> Result<AccessLog, String> {
    let place = match &options.target {
        AccessLogTarget::Stdout => "standard output".to_owned(),
        AccessLogTarget::File(path) => path.display().to_string(),
    };
    AccessLog::start(options).map_err(|error| {
        format!("the access log cannot be written to {place}: {error}; name another file with --access-log")
    })
}

async fn start_servers(
    settings: &Settings,
    registry: &Registry,
    readiness: Readiness,
    configs: &Arc<Mutex<BTreeMap<ObjectName, Config>>>,
    drain: &Drain,
) -> Result<Vec<SocketAddr>, Box<dyn Error>> {
    let mut addresses = Vec::new();
    if let Some(address) = settings.telemetry_address {
        let routes = telemetry::routes(registry.clone(), readiness, || Ok(()));
        let server = TelemetryServer::bind(address, routes, Limits::default()).await;
        let server = server.map_err(|error| {
            format!("the telemetry address {address} cannot be bound: {error}; name another with --telemetry-address")
        })?;
        server.register(registry)?;
        addresses.push(server.local_addr()?);
        tracing::info!(address = %server.local_addr()?, "telemetry: /metrics /healthz /readyz");
        tokio::task::spawn_local(server.serve(std::future::pending()));
    }
    if let Some(address) = &settings.admin_address {
        let configs = configs.clone();
        let dump = move || {
            let configs = configs.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Every key of every map is written as text, so that this cannot fail; an empty answer would say so.
            serde_json::to_vec_pretty(&configs).unwrap_or_default()
        };
        let routes = admin::routes(dump, drain.clone(), settings.drain_timeout);
        let server = AdminServer::bind(address, routes, Limits::default()).await;
        let server = server.map_err(|error| {
            format!("the admin address cannot be bound: {error}; name another with --admin-address")
        })?;
        server.register(registry)?;
        addresses.extend(server.local_addr());
        let watch = drain.watch();
        tokio::task::spawn_local(server.serve(async move { watch.forced().await }));
    }
    Ok(addresses)
}

fn register_file_errors(registry: &Registry) -> Result<Arc<AtomicUsize>, MetricError> {
    let errors = Arc::new(AtomicUsize::new(0));
    let read = errors.clone();
    let help = "Errors in the files as they are now; what is wrong keeps its last good version.";
    registry.collect("portcullis_file_errors", help, Kind::Gauge, move |samples| {
        samples.add(&[], read.load(Ordering::Relaxed) as f64);
    })?;
    Ok(errors)
}
