//! `cargo xtask conformance`: the whole on a real Kubernetes. What flows in: the workspace. What flows out: the official suite's report in
//! `conformance/reports`, and success only if nothing failed.
//!
//! Starts the test cluster of `conformance/`, loads the image that `cargo xtask image` makes, runs the tests that need an API server and
//! those of every way to install, installs `deploy/install.yaml` as a user would, runs the official suite and the faults, and takes
//! everything down again.

use crate::image;
use crate::step::{Outcome, Step, in_ci, root, say, target};
use clap::Args;
use std::path::Path;

/// The cluster's command.
const CLUSTER: &str = "conformance/run";
/// What the cluster's command answers on a machine that cannot carry a cluster.
const IMPOSSIBLE: i32 = 3;

/// What can be chosen.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave the cluster up, with Portcullis installed.
    #[arg(long)]
    keep: bool,
    /// Only bring it up and install; run nothing.
    #[arg(long)]
    only_install: bool,
    /// Leave out the faults.
    #[arg(long)]
    no_faults: bool,
    /// The release of the Gateway API: its CRDs and its suite.
    #[arg(long, value_name = "VERSION", default_value = "v1.7.0")]
    release: String,
    /// The channel of the CRDs.
    #[arg(long, value_name = "CHANNEL", default_value = "experimental")]
    channel: String,
}

/// What is run when nothing else is asked for.
impl Default for Options {
    fn default() -> Self {
        Self {
            keep: false,
            only_install: false,
            no_faults: false,
            release: "v1.7.0".to_owned(),
            channel: "experimental".to_owned(),
        }
    }
}

/// The part of `cargo xtask test`: with nothing left out.
pub(crate) fn test() -> Outcome {
    run(&Options::default())
}

/// Runs it.
pub(crate) fn run(options: &Options) -> Outcome {
    possible()?;
    // Sooner than half an hour of builds later.
    image::require_toolchain()?;
    cluster(&["test"]).run()?;
    cluster(&["build"]).run()?;
    let archive = target().join("image/conformance.tar");
    let program = image::image(&image::Options::to(&archive))?;
    cluster(&["down"]).run()?;
    let done = on_cluster(options, &archive, &program);
    if done.is_err() {
        diagnose();
    }
    if options.keep {
        say("the cluster is left up; conformance/run down removes it");
        return done;
    }
    let down = cluster(&["down"]).run();
    done.and(down)
}

fn on_cluster(options: &Options, archive: &Path, program: &Path) -> Outcome {
    cluster(&["up", "--crds", &options.channel, "--crds-version", &options.release]).run()?;
    cluster(&["load-image", &archive.display().to_string()]).run()?;
    if options.only_install {
        return install();
    }
    integration()?;
    go_tests("install", &[("PORTCULLIS_PROGRAM", &program.display().to_string())])?;
    install()?;
    suite(options)?;
    if options.no_faults {
        return Ok(());
    }
    go_tests("faults", &[])
}

fn install() -> Outcome {
    let manifest = root().join("deploy/install.yaml").display().to_string();
    cluster(&["kubectl", "apply", "--server-side", "-f", &manifest]).run()?;
    let deployment = "deployment/portcullis-controller";
    cluster(&["kubectl", "-n", "portcullis-system", "rollout", "status", "--timeout=120s", deployment]).run()?;
    cluster(&["kubectl", "wait", "--for=condition=Accepted", "--timeout=60s", "gatewayclass/portcullis"]).run()
}

/// The tests of the workspace that need a real API server, chosen from the programs that `cargo test --workspace` has built: another choice
/// of packages would build their dependencies anew.
fn integration() -> Outcome {
    let tests = [
        "--test cluster --test infrastructure --test serve",
        "--bin portcullis -- the_controller_can_write_data_planes_and_nothing_else",
    ];
    for chosen in tests {
        let script =
            format!("PORTCULLIS_TEST_KUBECONFIG=$KUBECONFIG exec cargo test --workspace --locked --quiet {chosen}");
        cluster(&["exec", "bash", "-c", &script]).run()?;
    }
    Ok(())
}

/// What helps to see why something failed.
fn diagnose() {
    let asked: [&[&str]; 4] = [
        &["status"],
        &["kubectl", "get", "pods,services,gateways", "--all-namespaces", "--output", "wide"],
        &["kubectl", "get", "events", "--all-namespaces", "--sort-by", ".lastTimestamp"],
        &[
            "kubectl",
            "--namespace",
            "portcullis-system",
            "logs",
            "--tail",
            "100",
            "--selector",
            "app.kubernetes.io/name=portcullis",
        ],
    ];
    for arguments in asked {
        // What failed is told already; this only adds to it.
        drop(cluster(arguments).run());
    }
}

fn suite(options: &Options) -> Outcome {
    cluster(&[
        "suite",
        "--version",
        &options.release,
        "--profile",
        "GATEWAY-HTTP",
        "--gateway-class",
        "portcullis",
        "--mode",
        &options.channel,
    ])
    .run()
}

/// The tests in a folder of `conformance/`, beside the cluster.
fn go_tests(folder: &str, environment: &[(&str, &str)]) -> Outcome {
    let command = root().join(CLUSTER).display().to_string();
    let script = format!(
        "cd {}/{folder} && exec go test -v -count=1 -parallel 3 -timeout 30m ./...",
        root().join("conformance").display()
    );
    let step = cluster(&["exec", "bash", "-c", &script]).environment("PORTCULLIS_CLUSTER", &command);
    environment.iter().fold(step, |step, (name, value)| step.environment(name, value)).run()
}

fn cluster(arguments: &[&str]) -> Step {
    Step::new(&root().join(CLUSTER).display().to_string(), arguments)
}

/// Whether this machine can carry the cluster, and why not.
pub(crate) fn possible() -> Outcome {
    if in_ci() {
        cluster(&["packages"]).run()?;
    }
    let no = "this machine cannot carry a Kubernetes cluster; `conformance/run doctor` says why";
    match cluster(&["doctor"]).status()? {
        0 => Ok(()),
        IMPOSSIBLE => Err(no.to_owned()),
        code => Err(format!("conformance/run doctor ended with {code}")),
    }
}
