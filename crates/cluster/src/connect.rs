//! The connection to an API server: from a pod by its ServiceAccount, from elsewhere by a kubeconfig.
//!
//! HTTP/1.1, one connection for each open watch: on one HTTP/2 connection all watches would share the limit of streams,
//! and beyond it wait for each other without end. Connections to a peer that went away silently are ended by TCP
//! keepalive within half a minute.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::Config;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::{BoxError, ServiceBuilder};

pub use kube::Client;

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither a kubeconfig nor a pod's ServiceAccount.
    #[error(
        "no cluster: there is no kubeconfig ({kubeconfig}), and this is no pod with a ServiceAccount ({in_cluster}); give a kubeconfig"
    )]
    NoCluster {
        /// Why the kubeconfig could not be read.
        kubeconfig: String,
        /// Why the ServiceAccount could not.
        in_cluster: String,
    },
    /// The kubeconfig that was named cannot be used.
    #[error("kubeconfig {path}: {message}", path = path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The kubeconfig says to go through a proxy.
    #[error("the kubeconfig's proxy-url is not supported: remove it, or reach the API server through a tunnel")]
    Proxy,
    /// TLS or credentials.
    #[error("the connection to the cluster cannot be set up: {0}; check certificates and credentials")]
    Setup(String),
}

/// A client from the kubeconfig that is named; or else from `KUBECONFIG` or `~/.kube/config`; or else, in a pod, from its
/// ServiceAccount, whose token and CA are read again when they rotate. `context` chooses a context of the kubeconfig.
///
/// Nothing is sent yet. rustls's process-wide provider must be installed.
///
/// # Errors
/// If there is no such configuration, or it cannot be used.
pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client, ConnectError> {
    client(configuration(kubeconfig, context).await?)
}

/// Where the API server is that [`connect`] chooses, for messages; `None` where it chooses none.
pub async fn server(kubeconfig: Option<&Path>, context: Option<&str>) -> Option<String> {
    let configuration = configuration(kubeconfig, context).await.ok()?;
    // A path or query is of no use in a message, and credentials may stand before the host.
    let url = &configuration.cluster_url;
    let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{}{port}", url.scheme_str()?, url.host()?))
}

async fn configuration(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, ConnectError> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    if let Some(path) = kubeconfig {
        let failed = |error| ConnectError::Kubeconfig { path: path.to_owned(), message: first_line(error) };
        let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed);
    }
    let kubeconfig = match Config::from_kubeconfig(&options).await {
        Ok(config) => return Ok(config),
        Err(error) => first_line(error),
    };
    Config::incluster().map_err(|error| ConnectError::NoCluster { kubeconfig, in_cluster: error.to_string() })
}

/// What is wrong with a kubeconfig, without the excerpt that follows, in which a token may stand.
fn first_line(error: kube::config::KubeconfigError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The client of a configuration.
fn client(config: Config) -> Result<Client, ConnectError> {
    if config.proxy_url.is_some() {
        return Err(ConnectError::Proxy);
    }
    let setup = |error: kube::Error| ConnectError::Setup(error.to_string());
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(KEEPALIVE_AFTER));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    let connector = config.rustls_https_connector_with_connector(connector).map_err(setup)?;
    let http = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(POOL_MAX_IDLE)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(setup)?)
        .layer(config.extra_headers_layer().map_err(setup)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace))
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Idle connections that are kept for requests to come.
const POOL_MAX_IDLE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[tokio::test]
    async fn a_token_in_a_broken_kubeconfig_is_not_shown() {
        let file = kubeconfig("users:\n- name: a\n  user: {token: secret-token, [\n");
        let error = configuration(Some(file.path()), None).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("kubeconfig {}: ", file.path().display())), "{error}");
        assert!(!error.contains("secret-token") && !error.contains('\n'), "{error}");
    }

    #[tokio::test]
    async fn a_server_is_named_without_what_is_confidential() {
        let file = kubeconfig(
            "clusters: [{name: a, cluster: {server: 'https://user:word@api.example.com:6443/path'}}]\n\
             users: [{name: a, user: {}}]\n\
             contexts: [{name: a, context: {cluster: a, user: a}}]\n\
             current-context: a\n",
        );
        assert_eq!(server(Some(file.path()), None).await.as_deref(), Some("https://api.example.com:6443"));
        assert_eq!(server(Some(file.path()), Some("b")).await, None);
    }
}
