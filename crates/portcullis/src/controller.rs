//! `portcullis controller`: the control plane in a cluster.
//!
//! In flow the arguments that the chart gives, each also as an environment variable. The work is [`portcullis_controller`]'s.

use crate::cli::{self, LogFormat};
use crate::exit::Exit;
use crate::output;
use crate::process;
use crate::run::settings;
use clap::{Args, ValueEnum};
use portcullis_api::meta::LabelSelector;
use portcullis_cluster::{Namespaces, Scope, SecretAccess};
use portcullis_controller::Options;
use portcullis_runtime::drain::Drain;
use portcullis_runtime::signals::{Reload, Signals};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// The label of namespaces whose Secrets may be read, for `--secret-access=labelled`.
const SECRETS_LABEL: (&str, &str) = ("portcullis.dev/secrets", "allowed");

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The kubeconfig; without it KUBECONFIG, then ~/.kube/config, then the pod's ServiceAccount.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context.
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
    /// The controller's own namespace.
    #[arg(short, long, value_name = "NAMESPACE", default_value = "portcullis-system", env = "PORTCULLIS_NAMESPACE")]
    namespace: String,
    /// The name of the Lease that decides which replica writes.
    #[arg(long, value_name = "NAME", default_value = "portcullis-controller", env = "PORTCULLIS_LEASE_NAME")]
    lease_name: String,
    /// The image of data planes.
    #[arg(long, value_name = "IMAGE", env = "PORTCULLIS_IMAGE", default_value_t = default_image())]
    image: String,
    /// When nodes pull that image: Always, IfNotPresent or Never. Without it: what the API server makes of the image's tag.
    #[arg(long, value_name = "POLICY", env = "PORTCULLIS_IMAGE_PULL_POLICY")]
    image_pull_policy: Option<String>,
    /// The Service by which data planes reach the controller, in its namespace.
    #[arg(long, value_name = "NAME", default_value = "portcullis-controller", env = "PORTCULLIS_CONTROLLER_SERVICE")]
    controller_service: String,
    /// The controllerName of the GatewayClasses that are served.
    #[arg(long, value_name = "NAME", default_value = "portcullis.dev/gateway-controller")]
    #[arg(env = "PORTCULLIS_CONTROLLER_NAME")]
    controller_name: String,
    /// Read only this namespace; may be given again. Without it: all.
    #[arg(
        long = "watch-namespace",
        value_name = "NAMESPACE",
        env = "PORTCULLIS_WATCH_NAMESPACE",
        value_delimiter = ','
    )]
    watch_namespaces: Vec<String>,
    /// Where Secrets may be read.
    #[arg(long, value_enum, value_name = "ACCESS", default_value_t, env = "PORTCULLIS_SECRET_ACCESS")]
    secret_access: SecretAccessMode,
    /// A namespace whose Secrets may be read, for --secret-access=listed; may be given again.
    #[arg(
        long = "secret-namespace",
        value_name = "NAMESPACE",
        env = "PORTCULLIS_SECRET_NAMESPACE",
        value_delimiter = ','
    )]
    secret_namespaces: Vec<String>,
    /// The domain of the cluster's Services.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", env = "PORTCULLIS_CLUSTER_DOMAIN")]
    cluster_domain: String,
    /// Where configurations are streamed to data planes.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8443", env = "PORTCULLIS_STREAM_ADDRESS")]
    stream_address: SocketAddr,
    /// Where data planes get their certificates.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8444", env = "PORTCULLIS_IDENTITY_ADDRESS")]
    identity_address: SocketAddr,
    /// Where /metrics, /healthz and /readyz are served; `none` for nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:9090", env = "PORTCULLIS_TELEMETRY_ADDRESS")]
    telemetry_address: String,
    /// The name of this replica's pod.
    #[arg(long, value_name = "NAME", default_value = "portcullis-controller", env = "PORTCULLIS_POD_NAME")]
    pod_name: String,
    /// Its uid: with it a container that was restarted goes on with the lease that it held.
    #[arg(long, value_name = "UID", env = "PORTCULLIS_POD_UID")]
    pod_uid: Option<String>,
    /// Its address, at which the other replicas reach it.
    #[arg(long, value_name = "IP", env = "PORTCULLIS_POD_IP")]
    pod_ip: Option<IpAddr>,
    /// The format of the program's own log on standard error.
    #[arg(long, value_enum, default_value_t, env = "PORTCULLIS_LOG_FORMAT")]
    log_format: LogFormat,
    /// What the program's own log holds, such as info, debug, or portcullis_controller=debug,info.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "PORTCULLIS_LOG")]
    log_level: String,
    /// How long streams may take to end when the program is stopped.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = cli::seconds)]
    drain_timeout: Duration,
}

/// Where Secrets may be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum SecretAccessMode {
    /// In every namespace that is read.
    #[default]
    Cluster,
    /// In namespaces with the label portcullis.dev/secrets=allowed.
    Labelled,
    /// In those of --secret-namespace.
    Listed,
}

/// Runs until a signal.
pub(crate) fn run(arguments: &Arguments) -> Exit {
    let options = match options(arguments) {
        Ok(options) => options,
        Err(problem) => {
            output::problem(&format!("portcullis: {problem}"));
            return Exit::Usage;
        }
    };
    match process::prepare(settings::log_format(arguments.log_format), &arguments.log_level) {
        Ok(_) => process::control(serve(options)),
        Err(exit) => exit,
    }
}

async fn serve(options: Options) -> Result<Exit, Box<dyn Error>> {
    let drain = Drain::new();
    let signals = Signals::install()?.drive(drain.clone(), options.drain_timeout, Reload::new());
    tokio::task::spawn_local(signals);
    portcullis_controller::run(options, &drain).await?;
    Ok(Exit::Success)
}

fn options(arguments: &Arguments) -> Result<Options, String> {
    let policies = ["Always", "IfNotPresent", "Never"];
    if arguments.image_pull_policy.as_ref().is_some_and(|policy| !policies.contains(&policy.as_str())) {
        return Err("--image-pull-policy: write Always, IfNotPresent or Never".to_owned());
    }
    Ok(Options {
        version: crate::version::SHORT,
        kubeconfig: arguments.kubeconfig.clone(),
        context: arguments.context.clone(),
        namespace: arguments.namespace.clone(),
        lease_name: arguments.lease_name.clone(),
        image: arguments.image.clone(),
        image_pull_policy: arguments.image_pull_policy.clone(),
        controller_service: arguments.controller_service.clone(),
        controller_name: arguments.controller_name.clone(),
        scope: scope(arguments)?,
        cluster_domain: arguments.cluster_domain.clone(),
        telemetry_address: settings::telemetry_address(&arguments.telemetry_address)?,
        stream_address: arguments.stream_address,
        identity_address: arguments.identity_address,
        pod_name: arguments.pod_name.clone(),
        pod_uid: arguments.pod_uid.clone().filter(|uid| !uid.is_empty()),
        pod_ip: arguments.pod_ip,
        drain_timeout: arguments.drain_timeout,
    })
}

fn scope(arguments: &Arguments) -> Result<Scope, String> {
    let listed = &arguments.secret_namespaces;
    let secrets = match (arguments.secret_access, listed.is_empty()) {
        (SecretAccessMode::Listed, true) => {
            return Err("--secret-access=listed: name at least one namespace with --secret-namespace".to_owned());
        }
        (SecretAccessMode::Listed, false) => SecretAccess::Namespaces(listed.clone()),
        (_, false) => return Err("--secret-namespace: only together with --secret-access=listed".to_owned()),
        (SecretAccessMode::Cluster, true) => SecretAccess::Cluster,
        (SecretAccessMode::Labelled, true) => {
            let (name, value) = SECRETS_LABEL;
            let mut selector = LabelSelector::default();
            selector.match_labels.insert(name.to_owned(), value.to_owned());
            SecretAccess::LabelledNamespaces(selector)
        }
    };
    let namespaces = match arguments.watch_namespaces.as_slice() {
        [] => Namespaces::All,
        listed => Namespaces::Listed(listed.to_vec()),
    };
    Ok(Scope { namespaces, secrets })
}

fn default_image() -> String {
    format!("localhost/portcullis:{}", env!("CARGO_PKG_VERSION"))
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

    fn parsed(line: &[&str]) -> Result<Options, String> {
        let line = Line::try_parse_from([&["controller"], line].concat()).map_err(|error| error.to_string())?;
        options(&line.arguments)
    }

    #[test]
    fn the_arguments_of_the_chart_are_read() {
        let options = parsed(&[
            "--namespace=portcullis-system",
            "--image=localhost/portcullis:1",
            "--controller-service=portcullis-controller",
            "--controller-name=portcullis.dev/gateway-controller",
            "--cluster-domain=cluster.local",
            "--lease-name=portcullis-controller",
            "--watch-namespace=a",
            "--watch-namespace=b",
            "--secret-access=listed",
            "--secret-namespace=a",
            "--stream-address=[::]:8443",
            "--identity-address=[::]:8444",
            "--telemetry-address=[::]:9090",
            "--pod-name=portcullis-controller-0",
            "--pod-ip=10.0.0.1",
            "--log-format=json",
            "--log-level=info",
        ])
        .unwrap();
        assert_eq!(options.scope.namespaces, Namespaces::Listed(vec!["a".into(), "b".into()]));
        assert_eq!(options.scope.secrets, SecretAccess::Namespaces(vec!["a".into()]));
        assert_eq!(options.pod_ip, Some(IpAddr::from([10, 0, 0, 1])));
    }

    #[test]
    fn secrets_are_read_where_it_is_said() {
        assert_eq!(parsed(&[]).unwrap().scope.secrets, SecretAccess::Cluster);
        let SecretAccess::LabelledNamespaces(selector) = parsed(&["--secret-access=labelled"]).unwrap().scope.secrets
        else {
            panic!("labelled")
        };
        assert_eq!(selector.match_labels.get("portcullis.dev/secrets").map(String::as_str), Some("allowed"));
        assert!(parsed(&["--secret-access=listed"]).is_err());
        assert!(parsed(&["--secret-namespace=a"]).is_err());
        assert!(parsed(&["--image-pull-policy=never"]).is_err());
    }
}
