//! An API server that keeps objects by their path and tokens by their text.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What happens to requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    /// They are answered.
    #[default]
    Well,
    /// They are answered with this code.
    Failing(u16),
    /// Connections are closed.
    Gone,
}

/// The API server. Cloning it shares it.
#[derive(Clone)]
pub(crate) struct ApiServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    /// The status of a TokenReview of each token.
    tokens: BTreeMap<String, Value>,
    /// Tokens about which questions are not answered, and how many such questions there were.
    silenced: BTreeSet<String>,
    silent: usize,
    version: u64,
    log: Vec<String>,
    health: Health,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = server.state.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = state.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| answer(state.clone(), request));
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }

    pub(crate) fn client(&self) -> ::kube::Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = ::kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        ::kube::Client::try_from(config).unwrap()
    }

    pub(crate) fn store(&self, path: &str, object: Value) {
        self.state.lock().unwrap().store(path, object);
    }

    pub(crate) fn edit(&self, path: &str, pointer: &str, value: Value) {
        let mut state = self.state.lock().unwrap();
        let mut object = state.objects[path].clone();
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let last = last.replace("~1", "/");
        object.pointer_mut(parent).unwrap_or_else(|| panic!("{parent} in {path}"))[&*last] = value;
        state.store(path, object);
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    pub(crate) fn delete(&self, path: &str) {
        self.state.lock().unwrap().objects.remove(path).unwrap_or_else(|| panic!("{path} does not exist"));
    }

    /// A TokenReview of this token has this status.
    pub(crate) fn token(&self, token: &str, status: Value) {
        self.state.lock().unwrap().tokens.insert(token.to_owned(), status);
    }

    /// A TokenReview of this token is never answered.
    pub(crate) fn silence(&self, token: &str) {
        self.state.lock().unwrap().silenced.insert(token.to_owned());
    }

    /// Questions that were not answered.
    pub(crate) fn silent(&self) -> usize {
        self.state.lock().unwrap().silent
    }

    pub(crate) fn health(&self, health: Health) {
        self.state.lock().unwrap().health = health;
    }

    /// The requests so far, as `GET /path`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        self.log.push(format!("{method} {path}"));
        if let Health::Failing(code) = self.health {
            return (code, failure(code));
        }
        if path == "/apis/authentication.k8s.io/v1/tokenreviews" {
            return (201, self.review(body));
        }
        match (method.as_str(), self.objects.get(path).cloned()) {
            ("GET", Some(object)) => (200, object),
            ("POST", _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                match self.objects.contains_key(&path) {
                    true => (409, failure(409)),
                    false => (201, self.store(&path, body)),
                }
            }
            ("PUT", Some(stored)) => match body["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
            {
                true => (200, self.store(path, body)),
                false => (409, failure(409)),
            },
            _ => (404, failure(404)),
        }
    }

    /// As the API server does: a token that is not for one of the audiences asked for is not authenticated.
    fn review(&self, mut review: Value) -> Value {
        let token = review["spec"]["token"].as_str().unwrap();
        review["status"] = match self.tokens.get(token) {
            Some(status) => status.clone(),
            None => json!({"authenticated": false, "error": "[invalid bearer token, unknown]"}),
        };
        review
    }
}

fn failure(code: u16) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        403 => "Forbidden",
        _ => "InternalError",
    };
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason, "message": ""})
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if state.lock().unwrap().health == Health::Gone {
        return Err(std::io::Error::other("gone"));
    }
    let is_silenced = |state: &mut State| {
        let token = body.pointer("/spec/token").and_then(Value::as_str);
        let silenced = token.is_some_and(|token| state.silenced.contains(token));
        state.silent += usize::from(silenced);
        silenced
    };
    let silenced = is_silenced(&mut state.lock().unwrap());
    if silenced {
        std::future::pending::<()>().await;
    }
    let (code, answer) = state.lock().unwrap().answer(&head.method, head.uri.path(), body);
    let response = Response::builder().status(code).header("content-type", "application/json");
    Ok(response.body(Full::from(answer.to_string())).unwrap())
}
