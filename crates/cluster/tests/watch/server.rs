//! An API server for tests: lists in pages, watches with history, discovery, rights, and everything that goes wrong with a
//! real one. It speaks HTTP over real sockets and is told what to do by the test.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, iter, unfold};
use http::{Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub const GATEWAY: &str = "gateway.networking.k8s.io";

/// Group, kind, resource.
const KINDS: &[(&str, &str, &str)] = &[
    (GATEWAY, "GatewayClass", "gatewayclasses"),
    (GATEWAY, "Gateway", "gateways"),
    (GATEWAY, "HTTPRoute", "httproutes"),
    (GATEWAY, "ReferenceGrant", "referencegrants"),
    ("", "Namespace", "namespaces"),
    ("", "Node", "nodes"),
    ("", "Service", "services"),
    ("", "Secret", "secrets"),
    ("", "ConfigMap", "configmaps"),
    ("", "Pod", "pods"),
    ("apps", "Deployment", "deployments"),
    ("discovery.k8s.io", "EndpointSlice", "endpointslices"),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions"),
];

fn resource_of(kind: &str) -> (String, String) {
    let (group, _, resource) = KINDS.iter().find(|known| known.1 == kind).unwrap();
    ((*group).to_owned(), (*resource).to_owned())
}

/// Group and resource, namespace, name.
type Key = ((String, String), String, String);

#[derive(Default)]
pub struct State {
    version: u64,
    uids: u64,
    pub objects: BTreeMap<Key, Value>,
    log: Vec<Entry>,
    /// Versions before this one are forgotten.
    oldest: u64,
    /// By group and resource: the kind and its versions.
    served: BTreeMap<(String, String), (String, Vec<String>)>,
    /// Verb, resource and namespace (empty: the whole cluster) that are not permitted.
    pub forbidden: BTreeSet<(String, String, String)>,
    /// Answers instead of the real ones, by resource: 429, 500 and the like, for so many requests.
    pub failing: BTreeMap<String, (u16, u32)>,
    /// Verb, resource and namespace of what was asked.
    pub asked: Vec<(String, String, String)>,
    pub page: Option<usize>,
    down: bool,
    cuts: u64,
    connections: Vec<AbortHandle>,
}

struct Entry {
    version: u64,
    kind: (String, String),
    namespace: String,
    event: &'static str,
    object: Value,
}

#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<()>>,
}

impl Server {
    /// Without any definition.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { version: 1, ..State::default() };
        let server = Self { address, state: Arc::new(Mutex::new(state)), changed: Arc::new(watch::channel(()).0) };
        tokio::spawn(server.clone().accept(listener));
        server
    }

    /// With the definitions of GatewayClass, Gateway, HTTPRoute and ReferenceGrant.
    pub async fn with_definitions() -> Self {
        let server = Self::start().await;
        for kind in ["GatewayClass", "Gateway", "HTTPRoute"] {
            server.define(kind, &["v1", "v1beta1"]);
        }
        server.define("ReferenceGrant", &["v1beta1"]);
        server
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Creates an object, or changes it. Gives its `resourceVersion`.
    pub fn put(&self, kind: &str, namespace: &str, name: &str, content: Value) -> String {
        let mut state = self.lock();
        let version = state.put(kind, namespace, name, content);
        drop(state);
        self.changed.send_replace(());
        version
    }

    pub fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.lock().delete(kind, namespace, name);
        self.changed.send_replace(());
    }

    /// A CustomResourceDefinition, served at once.
    pub fn define(&self, kind: &str, versions: &[&str]) {
        let (group, resource) = resource_of(kind);
        let annotations = json!({"gateway.networking.k8s.io/bundle-version": "v1.7.0", "gateway.networking.k8s.io/channel": "standard"});
        self.put(
            "CustomResourceDefinition",
            "",
            &format!("{resource}.{group}"),
            json!({"metadata": {"annotations": annotations}}),
        );
        self.serve(kind, versions);
    }

    /// What discovery says, apart from the definition.
    pub fn serve(&self, kind: &str, versions: &[&str]) {
        let versions: Vec<_> = versions.iter().map(|&version| version.to_owned()).collect();
        let mut state = self.lock();
        if versions.is_empty() {
            state.served.remove(&resource_of(kind));
        } else {
            state.served.insert(resource_of(kind), (kind.to_owned(), versions));
        }
    }

    /// The definition goes, and everything of its kind.
    pub fn undefine(&self, kind: &str) {
        let (group, resource) = resource_of(kind);
        let names: Vec<_> = {
            let state = self.lock();
            let of_kind = state.objects.keys().filter(|key| key.0 == (group.clone(), resource.clone()));
            of_kind.map(|key| (key.1.clone(), key.2.clone())).collect()
        };
        for (namespace, name) in names {
            self.delete(kind, &namespace, &name);
        }
        self.serve(kind, &[]);
        self.delete("CustomResourceDefinition", "", &format!("{resource}.{group}"));
        self.cut();
    }

    /// Forgets history: watches from before have expired. Those that are open go on.
    pub fn compact(&self) {
        let mut state = self.lock();
        state.version += 1;
        state.oldest = state.version;
    }

    /// Tells all watches how far they have come.
    pub fn bookmark(&self) {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        for (group, kind, resource) in KINDS {
            let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
            let object =
                json!({"apiVersion": api_version, "kind": kind, "metadata": {"resourceVersion": version.to_string()}});
            let kind = ((*group).to_owned(), (*resource).to_owned());
            state.log.push(Entry { version, kind, namespace: String::new(), event: "BOOKMARK", object });
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Breaks all watches off, in the middle of a line.
    pub fn cut(&self) {
        self.lock().cuts += 1;
        self.changed.send_replace(());
    }

    /// Breaks everything off, and accepts nothing until [`up`](Self::up).
    pub fn down(&self) {
        let mut state = self.lock();
        state.down = true;
        for connection in state.connections.drain(..) {
            connection.abort();
        }
    }

    pub fn up(&self) {
        self.lock().down = false;
    }

    pub fn forbid(&self, verbs: &[&str], resource: &str, namespace: &str) {
        let mut state = self.lock();
        for verb in verbs {
            state.forbidden.insert(((*verb).to_owned(), resource.to_owned(), namespace.to_owned()));
        }
    }

    pub fn permit(&self) {
        self.lock().forbidden.clear();
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            if self.lock().down {
                continue;
            }
            let server = self.clone();
            let task = tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(&request)) }
                });
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
            self.lock().connections.push(task.abort_handle());
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<StreamBody<BoxStream<'static, Piece>>> {
        let asked = Asked::read(request);
        let mut state = self.lock();
        if asked.resource.is_empty() {
            return match state.discovery(&asked) {
                Some(document) => whole(StatusCode::OK, &document),
                None => status(StatusCode::NOT_FOUND, "no such path"),
            };
        }
        let question = (asked.verb().to_owned(), asked.resource.clone(), asked.namespace.clone());
        state.asked.push(question.clone());
        if state.forbidden.contains(&question) {
            return status(StatusCode::FORBIDDEN, "this is forbidden");
        }
        if let Some((code, count)) = state.failing.get_mut(&asked.resource).filter(|(_, count)| *count > 0) {
            *count -= 1;
            return status(StatusCode::from_u16(*code).unwrap(), "this fails");
        }
        let kind = (asked.group.clone(), asked.resource.clone());
        let is_custom = asked.group == GATEWAY || asked.group.ends_with("x-k8s.io") || asked.group == "portcullis.dev";
        let is_served = state.served.get(&kind).is_some_and(|(_, versions)| versions.contains(&asked.version));
        if is_custom && !is_served {
            return status(StatusCode::NOT_FOUND, "the server could not find the requested resource");
        }
        match asked.verb() {
            "get" => match state.objects.get(&(kind, asked.namespace.clone(), asked.name.clone())) {
                Some(object) => whole(StatusCode::OK, &asked.show(object)),
                None => status(StatusCode::NOT_FOUND, "not found"),
            },
            "list" => state.list(&asked),
            _ => {
                let since: u64 = asked.query("resourceVersion").parse().unwrap();
                if since < state.oldest {
                    let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}});
                    // Both ways are seen in the field.
                    return if since.is_multiple_of(2) {
                        status(StatusCode::GONE, "too old resource version")
                    } else {
                        pieces(StatusCode::OK, iter([Ok(Frame::data(Bytes::from(format!("{gone}\n"))))]).boxed())
                    };
                }
                let cuts = state.cuts;
                drop(state);
                self.watch(asked, since, cuts)
            }
        }
    }

    fn watch(&self, asked: Asked, since: u64, cuts: u64) -> Response<StreamBody<BoxStream<'static, Piece>>> {
        let server = self.clone();
        let mut changed = server.changed.subscribe();
        changed.mark_changed();
        let start = (server, changed, since, false);
        let stream = unfold(start, move |(server, mut changed, since, mut broken)| {
            let asked = asked.clone();
            async move {
                loop {
                    if broken {
                        // What has been sent is to arrive before the end does.
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        return Some((Err(io::Error::other("cut")), (server, changed, since, true)));
                    }
                    changed.changed().await.ok()?;
                    let (mut text, reached, cut) = {
                        let state = server.lock();
                        let mut text = String::new();
                        for entry in state.log.iter().filter(|entry| entry.version > since && asked.includes(entry)) {
                            let line = json!({"type": entry.event, "object": asked.show(&entry.object)});
                            text.push_str(&format!("{line}\n"));
                        }
                        (text, state.version, state.cuts != cuts)
                    };
                    if cut {
                        text.push_str(r#"{"type":"ADDED","object":{"metadata":{"name":"half","#);
                        broken = true;
                    }
                    if !text.is_empty() {
                        return Some((Ok(Frame::data(Bytes::from(text))), (server, changed, reached, broken)));
                    }
                }
            }
        });
        pieces(StatusCode::OK, stream.boxed())
    }
}

impl State {
    pub fn put(&mut self, kind: &str, namespace: &str, name: &str, content: Value) -> String {
        let (group, resource) = resource_of(kind);
        let key = ((group.clone(), resource.clone()), namespace.to_owned(), name.to_owned());
        self.version += 1;
        let version = self.version.to_string();
        let before = self.objects.get(&key);
        let uid = match before {
            Some(object) => object["metadata"]["uid"].clone(),
            None => {
                self.uids += 1;
                json!(format!("uid-{}", self.uids))
            }
        };
        let mut object = content;
        object["apiVersion"] = json!(if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") });
        object["kind"] = json!(kind);
        object["metadata"]["name"] = json!(name);
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        object["metadata"]["uid"] = uid;
        object["metadata"]["resourceVersion"] = json!(version);
        object["metadata"]["managedFields"] = json!([{"manager": "test"}]);
        let event = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(key, object.clone());
        let kind = (group, resource);
        self.log.push(Entry { version: self.version, kind, namespace: namespace.to_owned(), event, object });
        version
    }

    pub fn delete(&mut self, kind: &str, namespace: &str, name: &str) {
        let kind = resource_of(kind);
        let key = (kind.clone(), namespace.to_owned(), name.to_owned());
        let Some(mut object) = self.objects.remove(&key) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let namespace = namespace.to_owned();
        self.log.push(Entry { version: self.version, kind, namespace, event: "DELETED", object });
    }

    fn discovery(&self, asked: &Asked) -> Option<Value> {
        let of_group = self.served.iter().filter(|((group, _), _)| *group == asked.group);
        if asked.version.is_empty() {
            let versions: BTreeSet<_> = of_group.flat_map(|(_, (_, versions))| versions).collect();
            let versions: Vec<_> = versions.iter().map(|version| json!({"version": version})).collect();
            return (!versions.is_empty())
                .then(|| json!({"kind": "APIGroup", "name": asked.group, "versions": versions}));
        }
        let resources = of_group.filter(|(_, (_, versions))| versions.contains(&asked.version)).flat_map(
            |((_, resource), (kind, _))| {
                [
                    json!({"name": resource, "kind": kind, "verbs": ["get", "list", "watch"]}),
                    json!({"name": format!("{resource}/status"), "kind": kind, "verbs": ["get"]}),
                ]
            },
        );
        let resources: Vec<_> = resources.collect();
        (!resources.is_empty()).then(|| json!({"kind": "APIResourceList", "resources": resources}))
    }

    fn list(&self, asked: &Asked) -> Response<StreamBody<BoxStream<'static, Piece>>> {
        let limit: usize = self.page.unwrap_or(asked.query("limit").parse().unwrap());
        let (start, version) = match asked.query("continue").split_once('-') {
            Some((start, version)) => (start.parse().unwrap(), version.parse().unwrap()),
            None => (0, self.version),
        };
        // A list that goes on is of the version in which it began: this one keeps no old versions, and says so.
        if version != self.version && start > 0 {
            return status(StatusCode::GONE, "the provided continue parameter is too old");
        }
        let of_kind = self.objects.iter().filter(|((kind, namespace, _), object)| {
            *kind == (asked.group.clone(), asked.resource.clone())
                && (asked.namespace.is_empty() || asked.namespace == *namespace)
                && asked.selects(object)
        });
        let all: Vec<_> = of_kind.map(|(_, object)| asked.show(object)).collect();
        let end = (start + limit).min(all.len());
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if end < all.len() {
            metadata["continue"] = json!(format!("{end}-{version}"));
        }
        whole(
            StatusCode::OK,
            &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": all[start..end]}),
        )
    }
}

/// What is asked for.
#[derive(Clone, Default)]
struct Asked {
    group: String,
    version: String,
    namespace: String,
    resource: String,
    name: String,
    query: BTreeMap<String, String>,
    metadata_only: bool,
}

impl Asked {
    fn read(request: &Request<Incoming>) -> Self {
        let mut asked = Self::default();
        let mut parts = request.uri().path().split('/').skip(1);
        if parts.next() == Some("apis") {
            asked.group = parts.next().unwrap_or_default().to_owned();
        }
        asked.version = parts.next().unwrap_or_default().to_owned();
        let mut rest: Vec<_> = parts.collect();
        if rest.len() > 2 && rest[0] == "namespaces" {
            asked.namespace = rest[1].to_owned();
            rest.drain(..2);
        }
        asked.resource = rest.first().copied().unwrap_or_default().to_owned();
        asked.name = rest.get(1).copied().unwrap_or_default().to_owned();
        for pair in request.uri().query().unwrap_or_default().split('&') {
            if let Some((name, value)) = pair.split_once('=') {
                asked.query.insert(name.to_owned(), value.replace("%2F", "/").replace("%3D", "="));
            }
        }
        let accept = request.headers().get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
        asked.metadata_only = accept.contains("PartialObjectMetadata");
        asked
    }

    fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    fn verb(&self) -> &'static str {
        match (self.name.is_empty(), self.query("watch")) {
            (false, _) => "get",
            (true, "true") => "watch",
            (true, _) => "list",
        }
    }

    fn includes(&self, entry: &Entry) -> bool {
        let bookmark = entry.event == "BOOKMARK";
        entry.kind == (self.group.clone(), self.resource.clone())
            && (bookmark || self.namespace.is_empty() || entry.namespace == self.namespace)
            && (bookmark || self.selects(&entry.object))
    }

    fn selects(&self, object: &Value) -> bool {
        match self.query("labelSelector").split_once('=') {
            Some((label, value)) => object["metadata"]["labels"][label] == value,
            None => true,
        }
    }

    fn show(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if !self.group.is_empty() {
            object["apiVersion"] = json!(format!("{}/{}", self.group, self.version));
        }
        if self.metadata_only {
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
        } else {
            object
        }
    }
}

type Piece = Result<Frame<Bytes>, io::Error>;

fn pieces(status: StatusCode, stream: BoxStream<'static, Piece>) -> Response<StreamBody<BoxStream<'static, Piece>>> {
    Response::builder().status(status).body(StreamBody::new(stream)).unwrap()
}

fn whole(status: StatusCode, document: &Value) -> Response<StreamBody<BoxStream<'static, Piece>>> {
    // In two pieces, so that nobody relies on one.
    let bytes = Bytes::from(document.to_string());
    let middle = bytes.len() / 2;
    let halves = [bytes.slice(..middle), bytes.slice(middle..)];
    pieces(status, iter(halves.map(|half| Ok(Frame::data(half)))).boxed())
}

fn status(code: StatusCode, message: &str) -> Response<StreamBody<BoxStream<'static, Piece>>> {
    whole(code, &json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "message": message}))
}
