//! Settings of the controller, as its caller gives them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use portcullis_cluster::Scope;

/// Settings of the controller.
#[derive(Clone, Debug)]
pub struct Options {
    /// The version of this program, for its metric.
    pub version: &'static str,
    /// How the cluster is reached: this file, or what `KUBECONFIG` names, or the pod's ServiceAccount.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    pub context: Option<String>,
    /// The controller's own namespace: of its Service, its lease, and its authority's Secret.
    pub namespace: String,
    /// The name of the lease.
    pub lease_name: String,
    /// The image of data planes.
    pub image: String,
    /// `imagePullPolicy` of data planes; the API server's default without one.
    pub image_pull_policy: Option<String>,
    /// The Service by which data planes reach the controller.
    pub controller_service: String,
    /// The `controllerName` of GatewayClasses that are ours.
    pub controller_name: String,
    /// Which namespaces are read.
    pub scope: Scope,
    /// The domain of the cluster's Services.
    pub cluster_domain: String,
    /// Where /metrics, /healthz and /readyz are served; nowhere without one.
    pub telemetry_address: Option<SocketAddr>,
    /// Where configurations are streamed from.
    pub stream_address: SocketAddr,
    /// Where data planes get their certificates.
    pub identity_address: SocketAddr,
    /// The name of this replica's pod.
    pub pod_name: String,
    /// Its uid. With it a container that was restarted goes on with the lease that it held; without it, it waits until that has run out.
    pub pod_uid: Option<String>,
    /// Its address, at which the other replicas reach it.
    pub pod_ip: Option<IpAddr>,
    /// How long streams may take to end when the program is stopped.
    pub drain_timeout: Duration,
}
