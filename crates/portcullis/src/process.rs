//! What every command that serves does first: its log, the panic hook, no core dumps, the crypto provider, the limit of open
//! files, the control thread.

use crate::exit::Exit;
use crate::output;
use portcullis_runtime::log::LogFormat;
use portcullis_runtime::{core_dumps, file_limits, threads};
use std::error::Error;
use std::future::Future;
use std::time::Duration;

/// Makes the process ready; returns how many files may be open, if that is known.
pub(crate) fn prepare(log_format: LogFormat, log_filter: &str) -> Result<Option<u64>, Exit> {
    if let Err(error) = portcullis_runtime::log::init(log_format, log_filter) {
        output::problem(&format!("portcullis: --log-level: {error}"));
        return Err(Exit::Usage);
    }
    threads::install_panic_hook();
    if let Err(error) = core_dumps::forbid() {
        tracing::warn!(%error, "core dumps could not be forbidden: one would hold private keys");
    }
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a crypto provider was installed before");
    }
    match file_limits::raise() {
        Ok(limits) => {
            tracing::debug!(before = limits.before, now = limits.now, "limit of open files");
            Ok(Some(limits.now))
        }
        Err(error) => {
            tracing::warn!(%error, "the limit of open files could not be raised");
            Ok(None)
        }
    }
}

/// Runs the control thread: this one.
pub(crate) fn control(serve: impl Future<Output = Result<Exit, Box<dyn Error>>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failure(&format!("the control thread could not be started: {error}")),
    };
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, serve);
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(exit) => exit,
        Err(error) => output::failure(&error.to_string()),
    }
}
