//! The command line: what can be typed. Help texts, completions and manual pages come from these definitions.

use crate::exit::{self, Exit};
use crate::install::manifests;
use crate::{check, install, manual, quickstart, run, status, uninstall, version};
use crate::{controller, data_plane};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A Kubernetes Gateway API implementation, built security first.
///
/// Serves HTTP and HTTPS from Gateway API YAML in a folder on one machine, or in a Kubernetes cluster with a data plane for each Gateway.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version = version::SHORT, after_help = exit::TABLE, propagate_version = true)]
#[command(max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the Gateways of files and folders, and follow their changes.
    Run(Run),
    /// Show the status of every object as a cluster would show it.
    Check(Check),
    /// Install the controller and its definitions into a cluster, or bring them up to date.
    Install(Install),
    /// Remove what install made.
    Uninstall(Uninstall),
    /// Show how the Gateways of a cluster are: classes, listeners, routes, addresses, data planes, and what is wrong.
    Status(Status),
    /// Write an example folder, run it, and print what to try.
    Quickstart(Quickstart),
    /// Run the control plane in a cluster: status, data planes, and their configuration.
    Controller(controller::Arguments),
    /// Serve one Gateway as its controller says (runs in the pods that the controller makes).
    DataPlane(data_plane::Arguments),
    /// Print the version.
    Version(Version),
    /// Print the completions of a shell.
    Completion(Completion),
    /// Write the manual pages into a folder.
    #[command(hide = true)]
    Manual(Manual),
}

/// What every command that looks at objects takes, as in kubectl.
#[derive(Clone, Debug, Args)]
pub(crate) struct Selection {
    /// Only this namespace; it is also the namespace of objects that name none.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// All namespaces (the default without --namespace).
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// Only objects with these labels: key=value, key!=value, key, !key, key in (a,b), key notin (a,b); with commas between.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(crate) output: OutputFormat,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// A table.
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// Kind and name of each object.
    Name,
}

/// Where the objects come from.
#[derive(Clone, Debug, Args)]
pub(crate) struct Input {
    /// Files or folders of YAML or JSON; `-` for standard input.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Refuse what is otherwise a warning: unknown fields, private keys that others can read.
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Which cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct Cluster {
    /// The kubeconfig; without it KUBECONFIG, then ~/.kube/config, then the pod's ServiceAccount.
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context.
    #[arg(long, value_name = "CONTEXT")]
    pub(crate) context: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// The controller's namespace; it is made when it does not exist.
    #[arg(short, long, value_name = "NAMESPACE", default_value = manifests::NAMESPACE)]
    pub(crate) namespace: String,
    /// The image of the controller and the data planes.
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Pods of the controller. Without it: one.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(0..=20))]
    pub(crate) replicas: Option<u32>,
    /// The Gateway API's definitions, where the cluster has none. Without it: standard. Those that are there are never replaced;
    /// a channel other than theirs is refused.
    #[arg(long, value_enum, value_name = "CHANNEL")]
    pub(crate) channel: Option<GatewayApiChannel>,
    /// Only print the manifests, as YAML; no cluster is asked. The Gateway API's are among them if --channel is given.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Wait until the controller is ready and its GatewayClass accepted.
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait.
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

/// Which definitions of the Gateway API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GatewayApiChannel {
    /// What is stable.
    Standard,
    /// Everything.
    Experimental,
    /// None.
    None,
}

#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// The controller's namespace; it goes too if install made it and nothing else is in it.
    #[arg(short, long, value_name = "NAMESPACE", default_value = manifests::NAMESPACE)]
    pub(crate) namespace: String,
    /// Also remove the definitions of Portcullis' own kinds, and with them all of their objects.
    #[arg(long)]
    pub(crate) crds: bool,
    /// Also remove the Gateway API's definitions, and with them all Gateways and routes of the cluster. Refused while there is
    /// a GatewayClass of another controller.
    #[arg(long)]
    pub(crate) gateway_api_crds: bool,
    /// Only print what would be removed.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) selection: Selection,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) input: Input,
    /// The namespace of objects that name none.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) serving: Serving,
}

/// How the gateway serves.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serving {
    /// Bind another port than the listener names, such as 443=8443, or infra/web:443=8443 for one Gateway.
    #[arg(long = "port", value_name = "LISTENER=PORT")]
    pub(crate) ports: Vec<String>,
    /// Addresses to bind when a Gateway asks for none. Without any: all of the machine.
    #[arg(long = "address", value_name = "IP")]
    pub(crate) addresses: Vec<IpAddr>,
    /// Worker threads. Without it: the CPUs that may be used.
    #[arg(long, value_name = "COUNT", env = "PORTCULLIS_WORKERS")]
    pub(crate) workers: Option<usize>,
    /// Where /metrics, /healthz and /readyz are served; `none` for nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090", env = "PORTCULLIS_TELEMETRY_ADDRESS")]
    pub(crate) telemetry_address: String,
    /// Where /config and /drain are served: a Unix socket's path, or a loopback address; `none` for nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = "none", env = "PORTCULLIS_ADMIN_ADDRESS")]
    pub(crate) admin_address: String,
    /// Where the access log goes: `-` for standard output, a file, or `none`.
    #[arg(long, value_name = "FILE", default_value = "-", env = "PORTCULLIS_ACCESS_LOG")]
    pub(crate) access_log: String,
    /// The format of the program's own log on standard error.
    #[arg(long, value_enum, default_value_t, env = "PORTCULLIS_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// What the program's own log holds, such as info, debug, or portcullis_proxy=debug,info.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "PORTCULLIS_LOG")]
    pub(crate) log_level: String,
    /// How long open requests may take to end when the program is stopped.
    #[arg(long, value_name = "SECONDS", default_value = "25", value_parser = seconds)]
    pub(crate) drain_timeout: Duration,
    /// How often files are read again when nothing tells of a change.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(crate) poll_interval: Duration,
    /// Proxies in front whose X-Forwarded-* headers are trusted, such as 10.0.0.0/8.
    #[arg(long = "trusted-proxy", value_name = "CIDR")]
    pub(crate) trusted_proxies: Vec<String>,
    /// Count requests by rule too, not only by route.
    #[arg(long)]
    pub(crate) rule_metrics: bool,
}

/// The format of the program's own log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Quickstart {
    /// The folder to write; it must not exist, or be empty, or be one that quickstart wrote: files that are there stay.
    #[arg(default_value = "portcullis-quickstart", value_name = "FOLDER")]
    pub(crate) folder: PathBuf,
    /// Only write the folder.
    #[arg(long)]
    pub(crate) write_only: bool,
    /// The port on which the Gateway's port 443 is bound.
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub(crate) https_port: u16,
    /// The port on which the Gateway's port 80 is bound.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) http_port: u16,
    /// The port of the built-in echo backend.
    #[arg(long, value_name = "PORT", default_value_t = 8081)]
    pub(crate) echo_port: u16,
    #[command(flatten)]
    pub(crate) serving: Serving,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// How to print.
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<VersionFormat>,
}

/// How the version is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VersionFormat {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// The folder; it is made when it does not exist.
    pub(crate) folder: PathBuf,
}

/// Reads the command line; ends the program with a message and exit code 2 when it is wrong.
pub(crate) fn parse() -> Cli {
    Cli::parse()
}

/// The definitions, for completions and manual pages.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> Exit {
        match self.command {
            Command::Run(arguments) => run::run(&arguments),
            Command::Check(arguments) => check::run(&arguments),
            Command::Install(arguments) => install::run(&arguments),
            Command::Uninstall(arguments) => uninstall::run(&arguments),
            Command::Status(arguments) => status::run(&arguments),
            Command::Quickstart(arguments) => quickstart::run(&arguments),
            Command::Controller(arguments) => controller::run(&arguments),
            Command::DataPlane(arguments) => data_plane::run(&arguments),
            Command::Version(arguments) => version::run(&arguments),
            Command::Completion(arguments) => manual::completion(&arguments),
            Command::Manual(arguments) => manual::pages(&arguments),
        }
    }
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|duration| *duration <= Duration::from_secs(86_400))
        .ok_or_else(|| "expected a number of seconds, at most 86400".to_owned())
}

#[cfg(test)]
mod tests;
