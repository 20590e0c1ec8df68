//! `portcullis run`: a gateway from files and folders.
//!
//! The loader thread reads and compiles; the control thread (this one) gives what changed to the proxy, and answers
//! `/metrics` and `/config`; the proxy's threads serve. A signal drains them.

mod loader;
pub(crate) mod settings;

use crate::cli;
use crate::exit::Exit;
use crate::output;
use crate::process;
use loader::{Loaded, Loader};
use portcullis_folder::{Folder, Options as FolderOptions};
use portcullis_model::{Config, ConfigDelta, ObjectName};
use portcullis_proxy::{Applied, PortJournal, Proxy};
use portcullis_runtime::drain::Drain;
use portcullis_runtime::log::AccessLog;
use portcullis_runtime::metrics::{Kind, MetricError, Registry};
use portcullis_runtime::operators::{self, OperatorAddresses, OperatorError, Operators};
use portcullis_runtime::readiness::{Gate, Readiness};
use portcullis_runtime::signals::{Reload, Signals};
use portcullis_runtime::threads;
use settings::Settings;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the access log may take to write its last lines.
const LOG_CLOSE: Duration = Duration::from_secs(2);

/// How long the other threads may finish what they have when one is gone.
const DEFECT_DRAIN: Duration = Duration::from_secs(5);

/// Serves until a signal.
pub(crate) fn run(arguments: &cli::Run) -> Exit {
    let mut settings = match Settings::new(&arguments.serving) {
        Ok(settings) => settings,
        Err(problem) => {
            output::problem(&format!("portcullis: {problem}"));
            return Exit::Usage;
        }
    };
    let files = match process::prepare(settings.log_format, &settings.log_filter) {
        Ok(files) => files,
        Err(exit) => return exit,
    };
    files.into_iter().for_each(|files| settings::limit_connections(&mut settings.proxy, files));
    let options = FolderOptions { default_namespace: arguments.namespace.clone(), strict: arguments.input.strict };
    let folder = Folder::new(arguments.input.paths.clone(), options);
    process::control(serve(settings, folder))
}

async fn serve(settings: Settings, folder: Folder) -> Result<Exit, Box<dyn Error>> {
    let drain = Drain::new();
    let reload = Reload::new();
    tokio::task::spawn_local(Signals::install()?.drive(drain.clone(), settings.drain_timeout, reload.clone()));

    let registry = Registry::new(settings.proxy.workers);
    registry.build_info(&[("version", crate::version::SHORT)])?;
    threads::register(&registry)?;
    let access_log = settings.access_log.clone().map(operators::open_access_log).transpose()?;
    if let Some(access_log) = &access_log {
        access_log.register(&registry)?;
    }
    let readiness = Readiness::new(drain.watch());
    let gate = readiness.gate("configuration", "the first complete configuration is not served yet");
    let configs = Arc::new(Mutex::new(BTreeMap::new()));
    let mut options = settings.proxy.clone();
    // A route must not reach what only operators may.
    let servers = start_servers(&settings, &registry, readiness, &configs, &drain).await?;
    options.upstream.forbidden = servers.all().collect();
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
    let mut journal = PortJournal::default();
    let mut first = true;
    loop {
        tokio::select! {
            biased;
            () = watch.draining() => return Exit::Success,
            () = served.proxy.draining() => {
                tracing::error!("a thread of the proxy ended; this is a defect");
                drain.begin(DEFECT_DRAIN);
                return Exit::Failure;
            }
            () = reloads.requested() => {
                access_log.inspect(|access_log| access_log.reopen());
                loader.wake();
            }
            next = loaded.recv() => match next {
                Some(Loaded::Unreadable) if first => return Exit::Unreadable,
                Some(Loaded::Unreadable) => {}
                Some(Loaded::Changed(deltas)) => {
                    let applied = served.apply(deltas).await;
                    journal.tell(&applied);
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

/// Starts the servers for operators, and says where they listen.
async fn start_servers(
    settings: &Settings,
    registry: &Registry,
    readiness: Readiness,
    configs: &Arc<Mutex<BTreeMap<ObjectName, Config>>>,
    drain: &Drain,
) -> Result<OperatorAddresses, OperatorError> {
    let configs = configs.clone();
    let dump = move || {
        let configs = configs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Every key of every map is written as text, so that this cannot fail; an empty answer would say so.
        serde_json::to_vec_pretty(&configs).unwrap_or_default()
    };
    let operators = Operators {
        telemetry_address: settings.telemetry_address,
        admin_address: settings.admin_address.clone(),
        drain_timeout: settings.drain_timeout,
    };
    operators::start(&operators, registry, readiness, dump, drain).await
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
