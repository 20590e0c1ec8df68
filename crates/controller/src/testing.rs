//! For tests: an API server that keeps objects by their path, knows resource versions, and fails when it is told to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Says whether a request is to fail, and with which code.
type Fault = Box<dyn Fn(&Method, &str) -> Option<u16> + Send>;

/// The API server.
#[derive(Clone)]
pub(crate) struct ApiServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    log: Vec<String>,
    fault: Option<Fault>,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = server.state.clone();
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let state = state.clone();
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| answer(state.clone(), request));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        server
    }

    pub(crate) fn client(&self) -> kube::Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        kube::Client::try_from(config).unwrap()
    }

    /// Stores an object as if another had written it.
    pub(crate) fn store(&self, path: &str, object: Value) -> Value {
        self.state.lock().unwrap().store(path, object)
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    /// The objects below a path.
    pub(crate) fn with_prefix(&self, path: &str) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        state.objects.iter().filter(|(at, _)| at.starts_with(path)).map(|(_, object)| object.clone()).collect()
    }

    pub(crate) fn delete(&self, path: &str) {
        self.state.lock().unwrap().objects.remove(path);
    }

    pub(crate) fn fail(&self, fault: impl Fn(&Method, &str) -> Option<u16> + Send + 'static) {
        self.state.lock().unwrap().fault = Some(Box::new(fault));
    }

    pub(crate) fn heal(&self) {
        self.state.lock().unwrap().fault = None;
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
        if let Some(code) = self.fault.as_ref().and_then(|fault| fault(method, path)) {
            return (code, json!({"message": "as the test asks"}));
        }
        let at = path.trim_end_matches("/status");
        match (method.as_str(), self.objects.get(at).cloned()) {
            ("GET", Some(object)) => (200, object),
            ("POST", _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    return (409, json!({}));
                }
                (201, self.store(&path, body))
            }
            ("PUT", Some(stored)) => {
                let version = &body["metadata"]["resourceVersion"];
                if !version.is_null() && *version != stored["metadata"]["resourceVersion"] {
                    return (409, json!({}));
                }
                if at == path {
                    return (200, self.store(path, body));
                }
                let mut object = stored;
                object["status"] = body["status"].clone();
                (200, self.store(at, object))
            }
            _ => (404, json!({})),
        }
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (code, answer) = state.lock().unwrap().answer(&head.method, head.uri.path(), body);
    // Nobody answers at all: the connection is cut off in the test by never coming back.
    if code == 0 {
        std::future::pending::<()>().await;
    }
    Ok(Response::builder().status(code).body(Full::from(answer.to_string())).unwrap())
}
