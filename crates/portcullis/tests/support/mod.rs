//! What the tests of the program share: the program itself, a client, a backend, a folder. (`mod.rs`, for a file beside it
//! would be a test of its own.)
#![allow(dead_code, unused_imports, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "helpers of tests")]

pub(crate) mod backend;
pub(crate) mod certificate;
pub(crate) mod client;
pub(crate) mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use backend::Backend;
pub(crate) use certificate::Authority;
pub(crate) use client::{Client, ClientError, Response};
pub(crate) use program::{Program, Run, portcullis};

/// How long anything that is waited for may take. Reached only when something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A temporary folder of YAML.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes into the file as it stands, as `echo > file` does.
    pub(crate) fn write(&self, name: &str, text: &str) -> &Self {
        fs::write(self.file(name), text).unwrap();
        self
    }

    /// Puts a new file in the place of the old one, as an editor does.
    pub(crate) fn replace(&self, name: &str, text: &str) -> &Self {
        let aside = self.file(&format!(".{name}.aside"));
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.file(name)).unwrap();
        self
    }

    pub(crate) fn remove(&self, name: &str) -> &Self {
        fs::remove_file(self.file(name)).unwrap();
        self
    }
}

/// A Gateway `infra/web` with an HTTP listener on port 80, for routes of all namespaces.
pub(crate) const GATEWAY: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: portcullis }
spec: { controllerName: portcullis.dev/gateway-controller }
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: web, namespace: infra }
spec:
  gatewayClassName: portcullis
  listeners:
  - { name: http, protocol: HTTP, port: 80, allowedRoutes: { namespaces: { from: All } } }
";

/// A Service of the namespace `apps` and its endpoints on loopback.
pub(crate) fn service(name: &str, ports: &[u16]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: apps }}\nspec:\n  ports: [{{ port: 8080 }}]\n"
    );
    for (index, port) in ports.iter().enumerate() {
        text.push_str(&format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{index}\n  namespace: apps\n  \
             labels: {{ kubernetes.io/service-name: {name} }}\naddressType: IPv4\nports: [{{ port: {port} }}]\nendpoints: \
             [{{ addresses: [127.0.0.1] }}]\n"
        ));
    }
    text
}

/// A route of the namespace `apps` from a path prefix to a Service.
pub(crate) fn route(name: &str, prefix: &str, service: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: {name}, namespace: apps }}\nspec:\n  \
         parentRefs: [{{ name: web, namespace: infra }}]\n  rules:\n  - matches: [{{ path: {{ type: PathPrefix, value: \
         {prefix} }} }}]\n    backendRefs: [{{ name: {service}, port: 8080 }}]\n"
    )
}
