//! `cargo xtask bench control`: how soon a route serves, what it costs, and whether changes cost requests, on a real Kubernetes.
//!
//! What flows in: the workspace. What flows out: `control.json` and `control.md` in target/bench/control, and with `--write` the results
//! in bench/CONTROL.md. Each implementation gets a cluster of its own, which is taken down again; `bench/control` measures within.

mod peer;
mod table;

use super::machine::{commit, machine};
use crate::image;
use crate::step::{Outcome, Step, root, say, target};
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// What can be chosen.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Measure Envoy Gateway beside it, in a cluster of its own right after.
    #[arg(long)]
    peer: bool,
    /// Measure Envoy Gateway alone, beside what the last run in target/bench/control says of Portcullis.
    #[arg(long)]
    peer_alone: bool,
    /// Numbers of routes, ascending.
    #[arg(long, value_name = "COUNTS", default_value = "0,1000,5000")]
    routes: String,
    /// The same for Envoy Gateway.
    #[arg(long, value_name = "COUNTS", default_value = "0,1000,5000")]
    peer_routes: String,
    /// How many routes are created and asked for, one after another, at each number.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    samples: u32,
    /// How often a route is changed under load, at each number.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    flips: u32,
    /// Requests in each second while it is; 0 for as many as there are answers.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    load: u32,
    /// An image that was built already.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Where the cluster is kept: none that is in use is touched.
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/portcullis-bench")]
    state: PathBuf,
    /// Write the results to bench/CONTROL.md, too.
    #[arg(long)]
    write: bool,
}

/// Something that is measured.
struct Subject {
    name: &'static str,
    gateway_class: &'static str,
    /// Parts of the command lines of its processes.
    controller: &'static str,
    data_plane: &'static str,
    routes: String,
    archive: PathBuf,
}

/// The program that measures.
const MEASURE: &str = "measure";

/// Runs it.
pub(crate) fn run(options: &Options) -> Outcome {
    let cluster = Cluster { state: options.state.clone() };
    cluster.possible()?;
    // Everything is built before anything is measured.
    cluster.step(&["build"]).run()?;
    let folder = target().join("bench/control");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let program = folder.join(MEASURE).display().to_string();
    Step::new("go", &["build", "-C", "bench/control", "-o", &program, "."]).environment("GOWORK", "off").run()?;
    let mut results = Vec::new();
    let mut subjects = Vec::new();
    match options.peer_alone {
        true => results.extend(last(&folder)?),
        false => subjects.push(Subject {
            name: "Portcullis",
            gateway_class: "portcullis",
            controller: "portcullis controller",
            data_plane: "portcullis data-plane",
            routes: options.routes.clone(),
            archive: portcullis_image(options, &folder)?,
        }),
    }
    if options.peer || options.peer_alone {
        subjects.push(Subject {
            name: peer::NAME,
            gateway_class: peer::GATEWAY_CLASS,
            controller: peer::CONTROLLER,
            data_plane: peer::DATA_PLANE,
            routes: options.peer_routes.clone(),
            archive: peer::image(&folder)?,
        });
    }
    for subject in &subjects {
        say(&format!("measuring {} with {} routes", subject.name, subject.routes));
        let result = cluster.with(|id| measure(&cluster, id, options, subject, &folder));
        match result {
            Ok(result) => {
                results.push(result);
                // What comes after it takes long.
                report(options, &folder, &results)?;
            }
            // What was measured before is not lost.
            Err(problem) if !results.is_empty() => say(&format!("{}: not measured: {problem}", subject.name)),
            Err(problem) => return Err(problem),
        }
    }
    Ok(())
}

/// What the last run measured of Portcullis.
fn last(folder: &Path) -> Result<Option<Value>, String> {
    let file = folder.join("control.json");
    let failed = |error: String| format!("{}: {error}", file.display());
    let text = fs::read_to_string(&file).map_err(|error| failed(error.to_string()))?;
    let document: Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    Ok(document["results"].get(0).cloned())
}

fn portcullis_image(options: &Options, folder: &Path) -> Result<PathBuf, String> {
    if let Some(image) = &options.image {
        return Ok(image.clone());
    }
    let archive = folder.join("portcullis.tar");
    image::run(&image::Options::to(&archive))?;
    Ok(archive)
}

fn measure(cluster: &Cluster, id: &str, options: &Options, subject: &Subject, folder: &Path) -> Result<Value, String> {
    cluster.step(&["load-image", &subject.archive.display().to_string()]).run()?;
    match subject.name {
        peer::NAME => peer::install(cluster, folder)?,
        _ => install(cluster)?,
    }
    let program = folder.join(MEASURE).display().to_string();
    let (samples, flips, load) = (options.samples.to_string(), options.flips.to_string(), options.load.to_string());
    let group = format!("portcullis-conformance-{id}");
    let mut arguments = vec!["exec", &program, "--keep", "--label", subject.name, "--control-group", &group];
    arguments.extend(["--gateway-class", subject.gateway_class, "--controller", subject.controller]);
    arguments.extend(["--data-plane", subject.data_plane, "--routes", &subject.routes]);
    arguments.extend(["--samples", &samples, "--flips", &flips, "--load", &load]);
    let text = cluster.step(&arguments).output()?;
    serde_json::from_str(&text).map_err(|error| format!("what bench/control printed is not JSON: {error}"))
}

fn install(cluster: &Cluster) -> Outcome {
    let manifest = root().join("deploy/install.yaml").display().to_string();
    cluster.step(&["kubectl", "apply", "--server-side", "-f", &manifest]).run()?;
    let deployment = "deployment/portcullis-controller";
    cluster.step(&["kubectl", "-n", "portcullis-system", "rollout", "status", "--timeout=120s", deployment]).run()?;
    cluster.accepted("portcullis")
}

fn report(options: &Options, folder: &Path, results: &[Value]) -> Outcome {
    let document = json!({ "machine": machine(), "commit": commit(), "results": results });
    let pretty = serde_json::to_string_pretty(&document).map_err(|error| error.to_string())?;
    let text = table::markdown(&document, &pretty);
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        say(&format!("{} is written", path.display()));
        Ok::<_, String>(())
    };
    write(&folder.join("control.json"), &pretty)?;
    write(&folder.join("control.md"), &text)?;
    if options.write {
        write(&root().join("bench/CONTROL.md"), &text)?;
    }
    say(&format!("\n{}", table::tables(&document)));
    Ok(())
}

/// A test cluster of its own.
pub(crate) struct Cluster {
    state: PathBuf,
}

impl Cluster {
    fn step(&self, arguments: &[&str]) -> Step {
        let command = root().join("conformance/run").display().to_string();
        Step::new(&command, arguments).environment("PORTCULLIS_CONFORMANCE_STATE", &self.state.display().to_string())
    }

    fn possible(&self) -> Outcome {
        match self.step(&["doctor"]).status()? {
            0 => Ok(()),
            code => Err(format!("this machine cannot carry a cluster; conformance/run doctor ended with {code}")),
        }
    }

    /// Does something in a fresh cluster, which is named by its id, and takes it down again whatever happens.
    fn with<T>(&self, work: impl FnOnce(&str) -> Result<T, String>) -> Result<T, String> {
        self.step(&["down"]).run()?;
        let kubeconfig = self.step(&["up", "--crds", "experimental"]).output();
        let done = kubeconfig.and_then(|kubeconfig| {
            let folder = Path::new(kubeconfig.trim()).parent().and_then(Path::file_name);
            let id =
                folder.and_then(|name| name.to_str()).ok_or("conformance/run up did not say where the cluster is")?;
            work(id)
        });
        let down = self.step(&["down"]).run();
        done.and_then(|done| down.map(|()| done))
    }

    fn accepted(&self, gateway_class: &str) -> Outcome {
        let class = format!("gatewayclass/{gateway_class}");
        self.step(&["kubectl", "wait", "--for=condition=Accepted", "--timeout=60s", &class]).run()
    }
}
