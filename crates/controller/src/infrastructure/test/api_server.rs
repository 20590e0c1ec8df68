//! An API server that knows server-side apply as far as the provisioner uses it: one that owns every field.

use std::collections::{BTreeMap, BTreeSet};
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
type Fault = Box<dyn FnMut(&Method, &str) -> Option<u16> + Send>;

#[derive(Clone)]
pub(super) struct ApiServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    log: Vec<String>,
    fault: Option<Fault>,
    /// Another makes this as soon as it was found to be absent.
    race: Option<(String, Value)>,
    going: BTreeSet<String>,
}

impl ApiServer {
    pub(super) async fn start() -> Self {
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

    pub(super) fn client(&self) -> kube::Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = kube::Config::new(format!("http://{}", self.address).parse().unwrap());
        kube::Client::try_from(config).unwrap()
    }

    /// Stores an object as if another had written it.
    pub(super) fn store(&self, path: &str, object: Value) -> Value {
        self.state.lock().unwrap().store(path, object)
    }

    pub(super) fn object(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    pub(super) fn delete(&self, path: &str) {
        self.state.lock().unwrap().objects.remove(path);
    }

    pub(super) fn paths(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    pub(super) fn fail(&self, fault: impl FnMut(&Method, &str) -> Option<u16> + Send + 'static) {
        self.state.lock().unwrap().fault = Some(Box::new(fault));
    }

    /// Another makes this object just after it was asked for in vain.
    pub(super) fn race(&self, path: &str, object: Value) {
        self.state.lock().unwrap().race = Some((path.to_owned(), object));
    }

    pub(super) fn heal(&self) {
        self.state.lock().unwrap().fault = None;
    }

    /// From now on nothing can be made in a namespace.
    pub(super) fn terminate(&self, namespace: &str) {
        self.state.lock().unwrap().going.insert(namespace.to_owned());
    }

    /// The writes so far, as `PATCH /path`.
    pub(super) fn writes(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.log.iter().filter(|line| !line.starts_with("GET")).cloned().collect()
    }

    pub(super) fn requests(&self) -> usize {
        self.state.lock().unwrap().log.len()
    }
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let before = self.objects.get(path);
        let metadata =
            |name: &str| before.map(|before| before["metadata"][name].clone()).filter(|value| !value.is_null());
        object["metadata"]["uid"] = metadata("uid").unwrap_or_else(|| json!(format!("uid-{}", self.version)));
        let same = before.is_some_and(|before| before["spec"] == object["spec"]);
        let generation = before.and_then(|before| before["metadata"]["generation"].as_i64()).unwrap_or(0);
        if path.contains("/deployments/") {
            object["metadata"]["generation"] = json!(if same { generation } else { generation + 1 });
        }
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn answer(&mut self, method: &Method, path: &str, query: &str, body: Value) -> (u16, Value) {
        // What is made is known by its own path.
        let made = (method == Method::POST).then(|| format!("{path}/{}", body["metadata"]["name"].as_str().unwrap()));
        let path = made.as_deref().unwrap_or(path);
        self.log.push(format!("{method} {path}"));
        if let Some(code) = self.fault.as_mut().and_then(|fault| fault(method, path)) {
            return (code, json!({"message": "as the test asks"}));
        }
        let stored = self.objects.get(path).cloned();
        if stored.is_none()
            && method == Method::GET
            && let Some((_, object)) = self.race.take_if(|(at, _)| at == path)
        {
            self.store(path, object);
        }
        let uid = |object: &Value| object["metadata"]["uid"].clone();
        match (method.as_str(), stored) {
            ("GET", _) if query.starts_with("labelSelector=app.kubernetes.io%2Fmanaged-by%3Dportcullis") => {
                (200, self.list(path, query))
            }
            ("GET", Some(object)) => (200, object),
            ("POST", Some(_)) => (409, json!({"reason": "AlreadyExists"})),
            ("POST", None)
                if self.going.iter().any(|namespace| path.contains(&format!("/namespaces/{namespace}/"))) =>
            {
                let message =
                    "forbidden: unable to create new content in namespace infra because it is being terminated";
                (403, json!({"message": message}))
            }
            ("POST", None) => {
                assert_eq!(query, "fieldManager=portcullis-controller&fieldValidation=Strict");
                assert_eq!(body["metadata"].get("uid"), None);
                let mut object = body;
                object["metadata"]["managedFields"] = managed_by_us("Update");
                (201, self.store(path, object))
            }
            // As the API server does: without a precondition an absent object would be made, and another's taken over.
            ("PATCH", None) => (409, json!({})),
            ("PATCH", Some(mut object)) if body.is_array() => {
                let operations = body.as_array().unwrap();
                let (changes, tests): (Vec<_>, Vec<_>) =
                    operations.iter().partition(|operation| operation["op"] == "replace");
                let at = |operation: &Value| operation["path"].as_str().unwrap().to_owned();
                if tests.iter().any(|test| object.pointer(&at(test)) != Some(&test["value"])) {
                    return (422, json!({}));
                }
                changes.iter().for_each(|change| *object.pointer_mut(&at(change)).unwrap() = change["value"].clone());
                (200, self.store(path, object))
            }
            ("PATCH", Some(stored)) => {
                assert_eq!(query, "fieldManager=portcullis-controller&force=true&fieldValidation=Strict");
                let wanted = &body["metadata"]["uid"];
                assert!(!wanted.is_null(), "an apply says to what");
                if *wanted != uid(&stored) {
                    return (409, json!({}));
                }
                assert!(
                    super::super::known::posted_entry(&stored).is_none(),
                    "what an update wrote would stay for ever"
                );
                // What another has set stays, as long as it is not ours.
                let mut object = stored;
                merge(&mut object, &body);
                object["metadata"]["managedFields"] = managed_by_us("Apply");
                (200, self.store(path, object))
            }
            ("DELETE", Some(object)) => {
                if body["preconditions"]["uid"] != uid(&object) {
                    return (409, json!({}));
                }
                self.objects.remove(path);
                (200, json!({}))
            }
            _ => (404, json!({})),
        }
    }

    fn list(&self, path: &str, query: &str) -> Value {
        let number = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.parse::<usize>().ok());
        let (limit, from) = (number("limit=").unwrap(), number("continue=").unwrap_or(0));
        let (root, resource) = path.rsplit_once('/').unwrap();
        let labelled = |object: &&Value| object["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "portcullis";
        let here = self.objects.iter().filter(|(path, _)| {
            let (at, _) = path.rsplit_once('/').unwrap();
            at.starts_with(root) && at.ends_with(&format!("/{resource}"))
        });
        let items: Vec<&Value> = here.map(|(_, object)| object).filter(labelled).skip(from).collect();
        let next = if items.len() > limit { (from + limit).to_string() } else { String::new() };
        json!({"items": &items[..limit.min(items.len())], "metadata": {"continue": next}})
    }
}

fn managed_by_us(operation: &str) -> Value {
    json!([{"manager": "portcullis-controller", "operation": operation}])
}

/// Maps field by field, lists as a whole.
fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(fields.entry(name).or_insert(Value::Null), change);
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let (code, answer) =
        state.lock().unwrap().answer(&head.method, head.uri.path(), head.uri.query().unwrap_or_default(), body);
    Ok(Response::builder().status(code).body(Full::from(answer.to_string())).unwrap())
}
