//! A controller with its servers, an API server, and the objects of a Gateway's data plane in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_controller::identity::{Authority, AuthorityOptions};
use portcullis_controller::serve::{ConfigServer, DataPlaneEvent, ServeOptions};
use portcullis_model::{
    Backend, BackendKey, BackendProtocol, ConfigDelta, Discovery, Gateway, ObjectName, Resource, ResourceKey,
};
use portcullis_runtime::drain::Drain;
use portcullis_runtime::metrics::{Format, Registry};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::data_plane::Claim;
use crate::kube::ApiServer;

/// Long enough for anything that is to happen on this machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) const POD: &str = "/api/v1/namespaces/shop/pods/edge-portcullis-5d-x";
pub(crate) const REPLICA_SET: &str = "/apis/apps/v1/namespaces/shop/replicasets/edge-portcullis-5d";
pub(crate) const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/shop/deployments/edge-portcullis";
pub(crate) const SECRET: &str = "/api/v1/namespaces/portcullis-system/secrets/portcullis-ca";

/// One replica of the controller.
pub(crate) struct Replica {
    pub(crate) server: ConfigServer,
    pub(crate) events: mpsc::Receiver<DataPlaneEvent>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) registry: Registry,
    pub(crate) drain: Drain,
}

pub(crate) fn authority_options(pod: &str) -> AuthorityOptions {
    AuthorityOptions {
        namespace: "portcullis-system".to_owned(),
        service: "portcullis-controller".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        pod: pod.to_owned(),
        pod_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    }
}

impl Replica {
    /// A replica that knows nothing yet.
    pub(crate) async fn start(api: &ApiServer, pod: &str, leading: bool) -> Self {
        Self::begin(api.client(), authority_options(pod), leading).await
    }

    /// A replica against any API server.
    pub(crate) async fn begin(client: ::kube::Client, options: AuthorityOptions, leading: bool) -> Self {
        let (registry, drain) = (Registry::new(1), Drain::new());
        let authority = Authority::start(options, client.clone(), &registry).unwrap();
        authority.lead(leading);
        tokio::time::timeout(LONG, authority.ready()).await.unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = ServeOptions {
            stream_address: any,
            identity_address: any,
            deployment_name: |gateway, class| format!("{}-{class}", gateway.name),
        };
        let started = ConfigServer::start(options, client, authority.clone(), &registry, &drain).await;
        let (server, events) = started.unwrap();
        if leading {
            server.follow(None);
        }
        Self { server, events, authority, registry, drain }
    }

    /// The Gateways `edge` and `other` of the namespace `shop`, and `edge` of `bank`.
    pub(crate) fn publish_all(&self) {
        self.server.gateways(known(&[("shop", "edge", "gw-1"), ("shop", "other", "gw-2"), ("bank", "edge", "gw-3")]));
        self.server.publish([EDGE, OTHER, BANK].map(|of| gateway(of, 1)).into());
    }

    pub(crate) fn bundle(&self) -> String {
        self.authority.bundle().borrow().to_string()
    }

    /// The next event, which must come.
    pub(crate) async fn event(&mut self) -> DataPlaneEvent {
        tokio::time::timeout(LONG, self.events.recv()).await.expect("an event").expect("the server lives")
    }

    /// The sample of a metric with its labels, such as `name{label="value"}`; 0 when there is none.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let text = self.registry.render(Format::OpenMetrics);
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map_or(0, |value| value.parse::<f64>().unwrap() as u64)
    }

    /// Waits until a metric has a value.
    pub(crate) async fn wait_metric(&self, sample: &str, value: u64) {
        self.wait_until(sample, |now| now == value, &value.to_string()).await;
    }

    /// Waits until something was counted, however often.
    pub(crate) async fn wait_counted(&self, sample: &str) {
        self.wait_until(sample, |now| now > 0, "more").await;
    }

    async fn wait_until(&self, sample: &str, holds: impl Fn(u64) -> bool, what: &str) {
        let reached = async {
            while !holds(self.metric(sample)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(LONG, reached).await;
        waited.unwrap_or_else(|_| panic!("{sample} is {}, not {what}", self.metric(sample)));
    }
}

/// An API server with the data planes of three Gateways.
pub(crate) async fn api_server() -> ApiServer {
    let api = ApiServer::start().await;
    for data_plane in [EDGE, OTHER, BANK] {
        data_plane.install(&api);
    }
    api
}

/// A leader that serves, and its API server.
pub(crate) async fn serving() -> (ApiServer, Replica) {
    let api = api_server().await;
    let replica = Replica::start(&api, "controller-0", true).await;
    replica.publish_all();
    (api, replica)
}

/// The objects of one Gateway's data plane of one pod. Their UIDs end in the Gateway's number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Installed {
    pub(crate) namespace: &'static str,
    pub(crate) gateway: &'static str,
    number: u32,
}

/// The Gateway that most cases are about.
pub(crate) const EDGE: Installed = Installed { namespace: "shop", gateway: "edge", number: 1 };
/// Another one in its namespace.
pub(crate) const OTHER: Installed = Installed { namespace: "shop", gateway: "other", number: 2 };
/// One of its name in another namespace.
pub(crate) const BANK: Installed = Installed { namespace: "bank", gateway: "edge", number: 3 };

impl Installed {
    /// What its pod says when it asks for its certificate.
    pub(crate) fn claim(&self) -> Claim {
        Claim {
            token: Some(self.token()),
            gateway: format!("{}/{}", self.namespace, self.gateway),
            gateway_uid: format!("gw-{}", self.number),
            pod: self.pod_name(),
        }
    }

    pub(crate) fn name(&self) -> ObjectName {
        ObjectName::new(self.namespace, self.gateway)
    }

    pub(crate) fn pod_name(&self) -> String {
        format!("{}-portcullis-5d-x", self.gateway)
    }

    /// The token that the kubelet gives its pod, as the API server writes it; signed by nobody.
    pub(crate) fn token(&self) -> String {
        jwt(&json!({
            "aud": ["portcullis.dev/controller"], "exp": 1_795_003_607, "iat": 1_795_000_000, "nbf": 1_795_000_000,
            "iss": "https://kubernetes.default.svc.cluster.local",
            "kubernetes.io": {
                "namespace": self.namespace,
                "pod": {"name": self.pod_name(), "uid": format!("p-{}", self.number)},
                "serviceaccount": {"name": self.account(), "uid": "sa"}
            },
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.account())
        }))
    }

    fn account(&self) -> String {
        format!("{}-portcullis", self.gateway)
    }

    pub(crate) fn token_status(&self) -> Value {
        json!({
            "authenticated": true,
            "audiences": ["portcullis.dev/controller"],
            "user": {
                "username": format!("system:serviceaccount:{}:{}", self.namespace, self.account()),
                "uid": "sa",
                "groups": ["system:serviceaccounts", "system:authenticated"],
                "extra": {
                    "authentication.kubernetes.io/pod-name": [self.pod_name()],
                    "authentication.kubernetes.io/pod-uid": [format!("p-{}", self.number)]
                }
            }
        })
    }

    fn labels(&self) -> Value {
        json!({
            "app.kubernetes.io/managed-by": "portcullis",
            "app.kubernetes.io/name": "portcullis-data-plane",
            "gateway.networking.k8s.io/gateway-name": self.gateway
        })
    }

    fn selector(&self) -> Value {
        json!({"matchLabels": {"gateway.networking.k8s.io/gateway-name": self.gateway}})
    }

    fn metadata(&self, name: &str, uid: &str, owner: [&str; 4]) -> Value {
        let [api_version, kind, owner, owner_uid] = owner;
        json!({
            "name": name, "namespace": self.namespace, "uid": uid, "labels": self.labels(),
            "ownerReferences": [{
                "apiVersion": api_version, "kind": kind, "name": owner, "uid": owner_uid,
                "controller": true, "blockOwnerDeletion": true
            }]
        })
    }

    pub(crate) fn install(&self, api: &ApiServer) {
        let Self { namespace, gateway, number } = *self;
        let (account, pod) = (self.account(), self.pod_name());
        let replica_set = format!("{account}-5d");
        let [of_pod, of_set, of_deployment, of_gateway] = ["p", "r", "d", "gw"].map(|kind| format!("{kind}-{number}"));
        api.token(&self.token(), self.token_status());
        let spec = json!({"serviceAccountName": account, "containers": [{"name": "data-plane", "image": "i"}]});
        api.store(
            &format!("/api/v1/namespaces/{namespace}/pods/{pod}"),
            json!({
                "metadata": self.metadata(&pod, &of_pod, ["apps/v1", "ReplicaSet", &replica_set, &of_set]),
                "spec": spec, "status": {"phase": "Running"}
            }),
        );
        api.store(
            &format!("/apis/apps/v1/namespaces/{namespace}/replicasets/{replica_set}"),
            json!({
                "metadata": self.metadata(&replica_set, &of_set, ["apps/v1", "Deployment", &account, &of_deployment]),
                "spec": {"selector": self.selector()}
            }),
        );
        let owner = ["gateway.networking.k8s.io/v1", "Gateway", gateway, &of_gateway];
        api.store(
            &format!("/apis/apps/v1/namespaces/{namespace}/deployments/{account}"),
            json!({
                "metadata": self.metadata(&account, &of_deployment, owner),
                "spec": {"selector": self.selector(), "template": {"metadata": {"labels": self.labels()}, "spec": spec}}
            }),
        );
    }
}

/// A JSON Web Token with a signature of nobody.
pub(crate) fn jwt(payload: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(r#"{"alg":"RS256","kid":"k"}"#), part(&payload.to_string()), part("signature"))
}

pub(crate) fn known(gateways: &[(&str, &str, &str)]) -> Arc<BTreeMap<ObjectName, Arc<str>>> {
    let named = |(namespace, name, uid): &(&str, &str, &str)| (ObjectName::new(*namespace, *name), Arc::from(*uid));
    Arc::new(gateways.iter().map(named).collect())
}

/// A Gateway with one backend.
pub(crate) fn gateway(of: Installed, generation: i64) -> ConfigDelta {
    let gateway = of.name();
    let own = Gateway {
        name: gateway.clone(),
        gateway_class: "portcullis".into(),
        addresses: Vec::new(),
        generation,
        upstreams: Default::default(),
    };
    ConfigDelta::Change {
        upserted: vec![Resource::Gateway(Arc::new(own)), backend(&format!("of-{}-{}", of.namespace, of.gateway), "")],
        removed: Vec::new(),
        gateway,
    }
}

/// A backend with some content.
pub(crate) fn backend(name: &str, content: &str) -> Resource {
    let hostname = format!("{name}.example{content}").into();
    Resource::Backend(Arc::new(Backend {
        key: backend_key(name),
        protocol: BackendProtocol::Http1,
        discovery: Discovery::Dns { hostname, port: 80 },
    }))
}

pub(crate) fn backend_key(name: &str) -> BackendKey {
    BackendKey { service: ObjectName::new("backends", name), port: 80 }
}

/// A change of pieces of a Gateway.
pub(crate) fn change(of: Installed, upserted: Vec<Resource>, removed: Vec<ResourceKey>) -> Vec<ConfigDelta> {
    vec![ConfigDelta::Change { gateway: of.name(), upserted, removed }]
}
