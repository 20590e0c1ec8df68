//! `portcullis data-plane`: one pod of a Gateway's data plane.
//!
//! In flow the arguments that the controller renders into the pod, each also as an environment variable. The work is
//! [`portcullis_data_plane`]'s.

use crate::cli::LogFormat;
use crate::exit::Exit;
use crate::output;
use crate::process;
use crate::run::settings;
use clap::Args;
use portcullis_data_plane::{ControllerAddress, DataPlane, Options};
use portcullis_model::ObjectName;
use portcullis_proxy::Guard;
use portcullis_runtime::drain::Drain;
use portcullis_runtime::signals::{Reload, Signals};
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The Gateway that is served.
    #[arg(long, value_name = "NAMESPACE/NAME", env = "PORTCULLIS_GATEWAY", value_parser = gateway)]
    gateway: ObjectName,
    /// The Gateway's UID: one of the same name that was made anew is another one.
    #[arg(long, value_name = "UID", env = "PORTCULLIS_GATEWAY_UID")]
    gateway_uid: String,
    /// Where the controller streams configurations.
    #[arg(long, value_name = "HOST:PORT", env = "PORTCULLIS_CONTROLLER")]
    #[arg(default_value = "portcullis-controller.portcullis-system.svc:8443")]
    controller: ControllerAddress,
    /// Where the controller issues certificates.
    #[arg(long, value_name = "HOST:PORT", env = "PORTCULLIS_IDENTITY")]
    #[arg(default_value = "portcullis-controller.portcullis-system.svc:8444")]
    identity: ControllerAddress,
    /// The certificates of the controller's authority, in PEM.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_CA_FILE", default_value = "/var/run/portcullis/ca/ca.crt")]
    ca_file: PathBuf,
    /// The token of this pod's ServiceAccount that is meant for the controller.
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_TOKEN_FILE")]
    #[arg(default_value = "/var/run/portcullis/token/token")]
    token_file: PathBuf,
    /// The name of this pod.
    #[arg(long, value_name = "NAME", env = "PORTCULLIS_POD_NAME")]
    pod_name: String,
    /// Worker threads. Without it: the CPUs that may be used.
    #[arg(long, value_name = "COUNT", env = "PORTCULLIS_WORKERS")]
    workers: Option<usize>,
    /// Where /metrics, /healthz and /readyz are served; `none` for nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090", env = "PORTCULLIS_TELEMETRY_ADDRESS")]
    telemetry_address: String,
    /// Where /config and /drain are served: a Unix socket's path, or a loopback address; `none` for nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = "none", env = "PORTCULLIS_ADMIN_ADDRESS")]
    admin_address: String,
    /// Where the access log goes: `-` for standard output, a file, or `none`.
    #[arg(long, value_name = "FILE", default_value = "-", env = "PORTCULLIS_ACCESS_LOG")]
    access_log: String,
    /// The format of the program's own log on standard error.
    #[arg(long, value_enum, default_value_t, env = "PORTCULLIS_LOG_FORMAT")]
    log_format: LogFormat,
    /// What the program's own log holds, such as info, debug, or portcullis_proxy=debug,info.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "PORTCULLIS_LOG")]
    log_level: String,
    /// How long connections are still accepted after SIGTERM, so that the pod is out of every load balancer first.
    #[arg(long, value_name = "SECONDS", default_value = "5", env = "PORTCULLIS_SHUTDOWN_DELAY", value_parser = seconds)]
    shutdown_delay: Duration,
    /// How long open requests may take to end after that.
    #[arg(long, value_name = "SECONDS", default_value = "25", env = "PORTCULLIS_DRAIN_TIMEOUT", value_parser = seconds)]
    drain_timeout: Duration,
    /// Proxies in front whose X-Forwarded-* headers are trusted, such as 10.0.0.0/8.
    #[arg(long = "trusted-proxy", value_name = "CIDR", env = "PORTCULLIS_TRUSTED_PROXY", value_delimiter = ',')]
    trusted_proxies: Vec<String>,
    /// Count requests by rule too, not only by route.
    #[arg(long, env = "PORTCULLIS_RULE_METRICS")]
    rule_metrics: bool,
}

/// Serves until a signal.
pub(crate) fn run(arguments: &Arguments) -> Exit {
    let mut options = match options(arguments) {
        Ok(options) => options,
        Err(problem) => {
            output::problem(&format!("portcullis: {problem}"));
            return Exit::Usage;
        }
    };
    let files = match process::prepare(settings::log_format(arguments.log_format), &arguments.log_level) {
        Ok(files) => files,
        Err(exit) => return exit,
    };
    files.into_iter().for_each(|files| settings::limit_connections(&mut options.proxy, files));
    process::control(serve(options))
}

async fn serve(options: Options) -> Result<Exit, Box<dyn Error>> {
    let stop = Drain::new();
    let reload = Reload::new();
    let grace = options.shutdown_delay + options.drain_timeout;
    tokio::task::spawn_local(Signals::install()?.drive(stop.clone(), grace, reload.clone()));
    let data_plane = DataPlane::start(options, crate::version::SHORT, &stop).await?;
    data_plane.run(&stop, reload.watch()).await?;
    Ok(Exit::Success)
}

fn options(arguments: &Arguments) -> Result<Options, String> {
    let mut options = Options::new(
        arguments.gateway.clone(),
        arguments.gateway_uid.clone(),
        arguments.pod_name.clone(),
        arguments.controller.clone(),
        arguments.identity.clone(),
    );
    options.ca_file.clone_from(&arguments.ca_file);
    options.token_file.clone_from(&arguments.token_file);
    options.telemetry_address = settings::telemetry_address(&arguments.telemetry_address)?;
    options.admin_address = settings::admin_address(&arguments.admin_address)?;
    options.access_log = settings::access_log(&arguments.access_log);
    options.shutdown_delay = arguments.shutdown_delay;
    options.drain_timeout = arguments.drain_timeout;
    let proxy = &mut options.proxy;
    proxy.workers = settings::workers(arguments.workers)?;
    proxy.timeouts.port_drain = arguments.drain_timeout;
    proxy.telemetry.by_rule = arguments.rule_metrics;
    // What routes name comes from many hands.
    proxy.upstream.guard = Some(Guard::default());
    let trusted = arguments.trusted_proxies.iter().map(|text| settings::network(text));
    proxy.forwarding.trusted_proxies = trusted.collect::<Result<_, _>>()?;
    Ok(options)
}

fn gateway(text: &str) -> Result<ObjectName, String> {
    let name: ObjectName = text.parse().map_err(str::to_owned)?;
    let is_one = !name.namespace.is_empty() && !name.name.is_empty() && !name.name.contains('/');
    if is_one { Ok(name) } else { Err("expected namespace/name".to_owned()) }
}

/// `5` or `5s`.
fn seconds(text: &str) -> Result<Duration, String> {
    crate::cli::seconds(text.strip_suffix('s').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn the_arguments_of_a_pod_are_read() {
        let line = Line::try_parse_from([
            "data-plane",
            "--gateway",
            "infra/web",
            "--gateway-uid",
            "6f0c",
            "--controller",
            "portcullis-controller.portcullis-system.svc:8443",
            "--identity",
            "portcullis-controller.portcullis-system.svc:8444",
            "--ca-file",
            "/var/run/portcullis/ca/ca.crt",
            "--token-file",
            "/var/run/portcullis/token/token",
            "--pod-name",
            "web-1",
            "--telemetry-address",
            "0.0.0.0:9090",
            "--shutdown-delay",
            "5s",
            "--drain-timeout",
            "25s",
            "--access-log",
            "-",
        ]);
        let options = options(&line.unwrap_or_else(|error| panic!("{error}")).arguments).unwrap();
        assert_eq!(options.gateway, ObjectName::new("infra", "web"));
        assert_eq!(options.shutdown_delay, Duration::from_secs(5));
        assert_eq!(options.drain_timeout, Duration::from_secs(25));
        assert!(options.proxy.upstream.guard.is_some());
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for (name, value) in
            [("--gateway", "web"), ("--gateway", "a/b/c"), ("--controller", "host"), ("--shutdown-delay", "5m")]
        {
            let mut line = vec!["data-plane", "--gateway-uid", "1", "--pod-name", "p", name, value];
            if name != "--gateway" {
                line.extend(["--gateway", "infra/web"]);
            }
            assert!(Line::try_parse_from(line).is_err(), "{name} {value}");
        }
    }
}
