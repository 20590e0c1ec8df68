//! A small controller: an identity endpoint and a config stream, with what tests turn on and off.

use crate::authority::Authority;
use crate::config::web;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use portcullis_model::{ConfigDelta, ObjectName};
use portcullis_xds::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use portcullis_xds::{Catalog, METHOD_PATH, ServerStream, StreamEvent};
use prost::Message;
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// What a test sees and sets. It outlives the controller's own lives.
pub struct Controller {
    pub authority: RefCell<Authority>,
    /// The token that is accepted.
    pub token: RefCell<String>,
    pub lifetime: Cell<Duration>,
    /// Whose data planes the streams are.
    pub gateway: RefCell<ObjectName>,
    pub catalog: RefCell<Catalog>,
    changed: watch::Sender<u64>,
    pub events: RefCell<Vec<StreamEvent>>,
    /// Certificates that were shown on streams.
    pub shown: RefCell<BTreeSet<Vec<u8>>>,
    pub streams: Cell<usize>,
    /// Names of resources that were sent, since the last life began.
    pub sent: RefCell<Vec<String>>,
    /// Requests for a certificate.
    pub asked: Cell<usize>,
    tasks: RefCell<Vec<AbortHandle>>,
    addresses: Cell<Option<(SocketAddr, SocketAddr)>>,
}

type Answer = Response<StreamBody<stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

impl Controller {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            authority: RefCell::new(Authority::new()),
            token: RefCell::new("token-1".to_owned()),
            lifetime: Cell::new(Duration::from_secs(3600)),
            gateway: RefCell::new(web()),
            catalog: RefCell::default(),
            changed: watch::Sender::new(0),
            events: RefCell::default(),
            shown: RefCell::default(),
            streams: Cell::new(0),
            sent: RefCell::default(),
            asked: Cell::new(0),
            tasks: RefCell::default(),
            addresses: Cell::new(None),
        })
    }

    /// Begins a life, at the same addresses as the one before. Returns the stream's and the identity's.
    pub async fn start(self: &Rc<Self>) -> (SocketAddr, SocketAddr) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (stream, identity) = self.addresses.get().unwrap_or((any, any));
        let (stream, identity) = (TcpListener::bind(stream).await.unwrap(), TcpListener::bind(identity).await.unwrap());
        let addresses = (stream.local_addr().unwrap(), identity.local_addr().unwrap());
        self.addresses.set(Some(addresses));
        self.sent.borrow_mut().clear();
        let controller = self.clone();
        self.spawn(async move {
            loop {
                let (socket, _) = stream.accept().await.unwrap();
                let served = controller.clone().stream_connection(socket);
                controller.spawn(served);
            }
        });
        let controller = self.clone();
        self.spawn(async move {
            loop {
                let (socket, _) = identity.accept().await.unwrap();
                let served = controller.clone().identity_connection(socket);
                controller.spawn(served);
            }
        });
        addresses
    }

    /// Ends a life, with all connections.
    pub async fn kill(&self) {
        self.tasks.borrow_mut().drain(..).for_each(|task| task.abort());
        tokio::task::yield_now().await;
    }

    pub fn publish(&self, delta: ConfigDelta) {
        self.catalog.borrow_mut().publish(&[delta]);
        self.changed.send_modify(|count| *count += 1);
    }

    pub fn acknowledged(&self) -> Option<i64> {
        let events = self.events.borrow();
        events.iter().rev().find_map(|event| match event {
            StreamEvent::Acknowledged { gateway_generation, .. } => Some(*gateway_generation),
            StreamEvent::Refused { .. } => None,
        })
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.tasks.borrow_mut().push(tokio::task::spawn_local(task).abort_handle());
    }

    async fn identity_connection(self: Rc<Self>, socket: TcpStream) {
        let (certificate, key) = self.authority.borrow().server();
        let mut config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let Ok(socket) = TlsAcceptor::from(Arc::new(config)).accept(socket).await else { return };
        let service = service_fn(|request: Request<Incoming>| {
            let controller = self.clone();
            async move { Ok::<_, Infallible>(controller.identity(request).await) }
        });
        let _ = http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(socket), service).await;
    }

    async fn identity(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/identity"));
        self.asked.set(self.asked.get() + 1);
        let token = format!("Bearer {}", self.token.borrow());
        if request.headers()["authorization"] != *token {
            let mut response = Response::new(Full::from("{\"error\":\"token\"}\n"));
            *response.status_mut() = StatusCode::FORBIDDEN;
            return response;
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&body["gateway"], &body["gatewayUid"], &body["pod"]),
            (&"infra/web".into(), &"1".into(), &"web-1".into())
        );
        let authority = self.authority.borrow();
        let (certificate, not_after) = authority.client(body["csr"].as_str().unwrap(), self.lifetime.get());
        let answer = serde_json::json!({"certificate": certificate, "ca": authority.pem(), "notAfter": not_after});
        Response::new(Full::from(answer.to_string()))
    }

    async fn stream_connection(self: Rc<Self>, socket: TcpStream) {
        let config = {
            let authority = self.authority.borrow();
            let (certificate, key) = authority.server();
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.der()).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
            let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
            let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
            config.alpn_protocols = vec![b"h2".to_vec()];
            config
        };
        let Ok(socket) = TlsAcceptor::from(Arc::new(config)).accept(socket).await else { return };
        let shown = socket.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        self.shown.borrow_mut().insert(shown);
        let service = service_fn(|request: Request<Incoming>| {
            let controller = self.clone();
            async move { Ok::<_, Infallible>(controller.stream(request)) }
        });
        let _ = http2::Builder::new(Local).serve_connection(TokioIo::new(socket), service).await;
    }

    fn stream(self: Rc<Self>, request: Request<Incoming>) -> Answer {
        assert_eq!(request.uri().path(), METHOD_PATH);
        assert_eq!(request.headers()["content-type"], "application/grpc");
        assert_eq!(request.headers()["te"], "trailers");
        self.streams.set(self.streams.get() + 1);
        let (frames, queue) = mpsc::unbounded_channel();
        let controller = self.clone();
        self.spawn(async move { controller.serve(request.into_body(), frames).await });
        let body = stream::unfold(queue, |mut queue| async move { Some((Ok(queue.recv().await?), queue)) });
        let body: stream::BoxStream<'static, _> = Box::pin(body);
        let mut response = Response::new(StreamBody::new(body));
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response
    }

    async fn serve(&self, mut body: Incoming, frames: mpsc::UnboundedSender<Frame<Bytes>>) {
        let mut stream = ServerStream::new(self.gateway.borrow().clone());
        let mut changed = self.changed.subscribe();
        let mut received = BytesMut::new();
        loop {
            let responses = tokio::select! {
                frame = body.frame() => {
                    let Some(Ok(frame)) = frame else { return };
                    received.extend_from_slice(&frame.into_data().unwrap_or_default());
                    let mut responses = Vec::new();
                    while let Some(request) = message(&mut received) {
                        match stream.on_request(request, &self.catalog.borrow()) {
                            Ok(step) => {
                                responses.extend(step.responses);
                                self.events.borrow_mut().extend(step.event);
                            }
                            Err(refused) => {
                                let mut trailers = HeaderMap::new();
                                trailers.insert("grpc-status", refused.code.into());
                                let _ = frames.send(Frame::trailers(trailers));
                                return;
                            }
                        }
                    }
                    responses
                }
                _ = changed.changed() => stream.on_change(&[web()], &self.catalog.borrow()),
            };
            for response in responses {
                self.sent.borrow_mut().extend(response.resources.iter().map(|resource| resource.name.clone()));
                let _ = frames.send(Frame::data(framed(&response)));
            }
        }
    }
}

fn message(received: &mut BytesMut) -> Option<DeltaDiscoveryRequest> {
    let length = u32::from_be_bytes(received.get(1..5)?.try_into().unwrap()) as usize;
    if received.len() < 5 + length {
        return None;
    }
    let message = received.split_to(5 + length);
    Some(DeltaDiscoveryRequest::decode(&message[5..]).unwrap())
}

fn framed(response: &DeltaDiscoveryResponse) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(0);
    out.put_u32(response.encoded_len() as u32);
    response.encode(&mut out).unwrap();
    out.freeze()
}

#[derive(Clone)]
struct Local;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
