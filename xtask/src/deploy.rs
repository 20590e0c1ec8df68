//! `cargo xtask deploy`: what is derived from the charts and from other parts of the tree, and checked in; and the checks of
//! the charts themselves.
//!
//! | derived | from |
//! |---|---|
//! | `charts/portcullis-crds/gateway-api/{standard,experimental}.yaml` | `crates/api/crds`, a line for each definition |
//! | `charts/portcullis-crds/portcullis/*.yaml` | `crates/api/crds/portcullis` |
//! | `charts/portcullis/dashboards/*.json` | `dashboards`, for a chart cannot reach out of its folder |
//! | `deploy/install.yaml` | `deploy/namespace.yaml` and both charts with their default values, by helm |

use crate::step::{Outcome, Step, installed, root, say, target};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The namespace of the plain manifests.
const NAMESPACE: &str = "portcullis-system";

/// Writes everything that is derived.
pub(crate) fn write() -> Outcome {
    let helm = helm().ok_or(MISSING)?;
    for (path, text) in copies()? {
        write_file(&path, &text)?;
    }
    write_file(&manifests_file(), &manifests(&helm)?)
}

/// Checks that what is derived is up to date, and that the charts render as they should. What needs helm is left out
/// without it, which is said, and is a failure in continuous integration.
pub(crate) fn check() -> Outcome {
    for (path, text) in copies()? {
        compare(&path, &text)?;
    }
    versions_agree()?;
    metrics_exist()?;
    let Some(helm) = helm() else {
        if crate::step::in_ci() {
            return Err(MISSING.to_owned());
        }
        say(
            "left out: the Helm charts and deploy/install.yaml (helm is missing; set HELM to it, or install Go for conformance/run)",
        );
        return Ok(());
    };
    compare(&manifests_file(), &manifests(&helm)?)?;
    replacements_hold(&helm)?;
    controller_is_confined(&helm)?;
    charts_render(&helm)?;
    alerts_hold(&helm)
}

const MISSING: &str =
    "helm 4 is missing; set HELM to it, put it on the PATH, or install Go, with which conformance/run builds it";

fn manifests_file() -> PathBuf {
    root().join("deploy/install.yaml")
}

/// How helm is started.
struct Helm {
    program: String,
    first: Option<&'static str>,
}

/// Whether the test cluster's command can be built, which has helm and promtool.
fn cluster_command() -> Option<String> {
    let command = root().join("conformance/run");
    let go = installed("go") || Path::new("/usr/local/go/bin/go").exists();
    (command.exists() && go).then(|| command.display().to_string())
}

fn helm() -> Option<Helm> {
    if let Some(program) = std::env::var_os("HELM") {
        return Some(Helm { program: program.into_string().ok()?, first: None });
    }
    if installed("helm") {
        return Some(Helm { program: "helm".to_owned(), first: None });
    }
    cluster_command().map(|program| Helm { program, first: Some("helm") })
}

impl Helm {
    fn step(&self, arguments: &[&str]) -> Step {
        let all: Vec<&str> = self.first.iter().copied().chain(arguments.iter().copied()).collect();
        Step::new(&self.program, &all)
    }

    fn template(&self, chart: &str, values: Option<&Path>) -> Result<String, String> {
        let values = values.map(|path| path.display().to_string());
        let values: Vec<&str> = values.iter().flat_map(|values| ["--values", values]).collect();
        self.template_in(NAMESPACE, chart, &values)
    }

    fn template_in(&self, namespace: &str, chart: &str, values: &[&str]) -> Result<String, String> {
        let folder = format!("charts/{chart}");
        let mut arguments = vec!["template", chart, &folder, "--namespace", namespace];
        arguments.extend(values);
        self.step(&arguments).quiet().output()
    }
}

/// The plain manifests: for `kubectl apply --server-side`, and for `portcullis install`, which holds them.
fn manifests(helm: &Helm) -> Result<String, String> {
    let namespace = read(&root().join("deploy/namespace.yaml"))?;
    let definitions = helm.template("portcullis-crds", None)?;
    let controller = helm.template("portcullis", None)?;
    Ok(format!("{HEADER}---\n{namespace}{}{}", trimmed(&definitions), trimmed(&controller)))
}

const HEADER: &str = "\
# Made by `cargo xtask deploy` from deploy/namespace.yaml and the charts: change those.
#
#   kubectl apply --server-side -f deploy/install.yaml
#
# The Gateway API's own definitions come first: charts/portcullis-crds/gateway-api.
";

/// Without blank lines between documents and at the end.
fn trimmed(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if line == "---" {
            while lines.last().is_some_and(|line| line.is_empty()) {
                lines.pop();
            }
        }
        lines.push(line);
    }
    while lines.last().is_some_and(|line| line.is_empty()) {
        lines.pop();
    }
    lines.join("\n") + "\n"
}

/// Files whose content comes from elsewhere in the tree.
fn copies() -> Result<BTreeMap<PathBuf, String>, String> {
    let mut copies = BTreeMap::new();
    let definitions = root().join("crates/api/crds");
    let charts = root().join("charts");
    for channel in ["standard", "experimental"] {
        let mut bundle = format!(
            "# The definitions of the Gateway API {}, channel {channel}, from crates/api/crds; Helm never deletes them.\n",
            read(&definitions.join("VERSION"))?.trim(),
        );
        for (name, text) in files(&definitions.join(channel), "json")? {
            let mut definition: Value = serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
            definition["metadata"]["annotations"]["helm.sh/resource-policy"] = "keep".into();
            bundle.push_str(&format!("---\n{definition}\n"));
        }
        copies.insert(charts.join("portcullis-crds/gateway-api").join(format!("{channel}.yaml")), bundle);
    }
    for (name, text) in files(&definitions.join("portcullis"), "yaml")? {
        copies.insert(charts.join("portcullis-crds/portcullis").join(name), text);
    }
    for (name, text) in files(&root().join("dashboards"), "json")? {
        serde_json::from_str::<Value>(&text).map_err(|error| format!("dashboards/{name}: {error}"))?;
        copies.insert(charts.join("portcullis/dashboards").join(name), text);
    }
    Ok(copies)
}

/// The charts carry the version of the workspace.
fn versions_agree() -> Outcome {
    let version = version()?;
    for chart in ["portcullis", "portcullis-crds"] {
        let file = format!("charts/{chart}/Chart.yaml");
        let text = read(&root().join(&file))?;
        for line in [format!("version: {version}"), format!("appVersion: {version}")] {
            if !text.lines().any(|other| other == line) {
                return Err(format!("{file} must have the line `{line}`, as the workspace's version is"));
            }
        }
    }
    Ok(())
}

/// Alerts and dashboards use metrics that some part of the program registers by that name.
fn metrics_exist() -> Outcome {
    let mut sources = String::new();
    for name in ["api", "cluster", "controller", "data-plane", "portcullis", "proxy", "runtime", "xds"] {
        read_sources(&root().join("crates").join(name).join("src"), &mut sources)?;
    }
    for file in ["dashboards/portcullis.json", "charts/portcullis/templates/prometheusrule.yaml"] {
        for name in metric_names(&read(&root().join(file))?) {
            // What the format of the metrics adds to names.
            let base = ["_bucket", "_sum", "_count", "_info"].iter().find_map(|suffix| name.strip_suffix(suffix));
            if ![Some(name), base].iter().flatten().any(|name| sources.contains(&format!("\"{name}\""))) {
                return Err(format!("{file} uses the metric {name}, which nothing registers"));
            }
        }
    }
    Ok(())
}

/// The version of the workspace.
fn version() -> Result<String, String> {
    let manifest = read(&root().join("Cargo.toml"))?;
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(str::to_owned).ok_or_else(|| "Cargo.toml has no version".to_owned())
}

fn read_sources(folder: &Path, sources: &mut String) -> Outcome {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            read_sources(&path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&read(&path)?);
        }
    }
    Ok(())
}

/// Words of a text that begin as our metrics do.
fn metric_names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("portcullis_"))
        .collect()
}

/// `portcullis install` replaces namespace and image as texts: the same as what the chart makes of these values.
fn replacements_hold(helm: &Helm) -> Outcome {
    let replaced = helm.template("portcullis", None)?.replace(NAMESPACE, "edge");
    if helm.template_in("edge", "portcullis", &[])? != replaced {
        return Err(format!("the chart must use its namespace's name as it is, and {NAMESPACE} for nothing else"));
    }
    let default = format!("localhost/portcullis:{}", version()?);
    let image = ["--set-string", "image.repository=registry.example.com/p,image.tag=2"];
    if helm.template_in("edge", "portcullis", &image)? != replaced.replace(&default, "registry.example.com/p:2") {
        return Err(format!("the chart must use its image's name as it is, and {default} for nothing else"));
    }
    Ok(())
}

/// Whatever the controller may read, what it may write is confined by the same admission policies.
fn controller_is_confined(helm: &Helm) -> Outcome {
    let policies = |values: Option<&Path>| -> Result<Vec<String>, String> {
        let text = helm.template("portcullis", values)?;
        let is_policy =
            |document: &&str| document.lines().any(|line| line.starts_with("kind: ValidatingAdmissionPolicy"));
        Ok(text.split("\n---\n").filter(is_policy).map(|document| document.trim().to_owned()).collect())
    };
    let default = policies(None)?;
    if default.is_empty() {
        return Err("the chart has no admission policies".to_owned());
    }
    for name in ["labelled", "listed", "namespaces", "namespaces-labelled"] {
        let values = root().join(format!("charts/portcullis/ci/{name}.yaml"));
        if policies(Some(&values))? != default {
            return Err(format!("{}: the admission policies differ from the default ones", values.display()));
        }
    }
    Ok(())
}

/// Each file of values renders and passes lint; each refused one does not render.
fn charts_render(helm: &Helm) -> Outcome {
    for chart in ["portcullis", "portcullis-crds"] {
        let folder = format!("charts/{chart}");
        helm.step(&["lint", "--strict", "--quiet", &folder]).run()?;
        for (path, _) in value_files(&folder)? {
            let values = path.display().to_string();
            helm.step(&["lint", "--strict", "--quiet", &folder, "--values", &values]).quiet().output()?;
            helm.template(chart, Some(&path))?;
        }
        for (path, _) in value_files(&format!("{folder}/ci/refused"))? {
            if helm.template(chart, Some(&path)).is_ok() {
                return Err(format!("{}: these values must be refused, and are not", path.display()));
            }
        }
    }
    Ok(())
}

/// The alerts fire when `charts/portcullis/tests/alerts.yaml` says so, and not otherwise.
fn alerts_hold(helm: &Helm) -> Outcome {
    let Some(command) = cluster_command() else {
        say("left out: the alerts' own tests (promtool is built with Go, which is missing)");
        return Ok(());
    };
    let chosen = ["--set", "monitoring.rules.enabled=true", "--show-only", "templates/prometheusrule.yaml"];
    let rendered = helm.template_in(NAMESPACE, "portcullis", &chosen)?;
    let spec = rendered.lines().skip_while(|line| *line != "spec:").skip(1);
    let rules: String = spec.map(|line| format!("{}\n", line.strip_prefix("  ").unwrap_or(line))).collect();
    let folder = target().join("alerts");
    write_file(&folder.join("rules.yaml"), &rules)?;
    write_file(&folder.join("alerts.yaml"), &read(&root().join("charts/portcullis/tests/alerts.yaml"))?)?;
    let tests = folder.join("alerts.yaml").display().to_string();
    Step::new(&command, &["promtool", "test", "rules", &tests]).run()
}

fn value_files(folder: &str) -> Result<Vec<(PathBuf, String)>, String> {
    let folder = match folder.ends_with("refused") {
        true => root().join(folder),
        false => root().join(folder).join("ci"),
    };
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    Ok(files(&folder, "yaml")?.into_iter().map(|(name, text)| (folder.join(name), text)).collect())
}

/// Names and contents of the files with an extension, by name.
fn files(folder: &Path, extension: &str) -> Result<BTreeMap<String, String>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|other| other == extension) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.insert(name, read(&path)?);
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write_file(path: &Path, text: &str) -> Outcome {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)?;
    say(&format!("wrote {}", path.display()));
    Ok(())
}

fn compare(path: &Path, text: &str) -> Outcome {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    Err(format!("{} is not what it is made from; run: cargo xtask deploy", path.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn metrics_are_found_in_expressions() {
        let names = super::metric_names("sum(rate(portcullis_a_total{x=\"portcullis-b\"}[5m])) / portcullis_c");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["portcullis_a_total", "portcullis_c"]);
    }

    #[test]
    fn blank_lines_between_documents_go() {
        assert_eq!(super::trimmed("a \n\n\n---\nb\n\nc\n\n"), "a\n---\nb\n\nc\n");
    }
}
