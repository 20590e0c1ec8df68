//! A client of the servers, as a data plane is one, and as somebody would be who wants to be taken for one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http::uri::PathAndQuery;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis_model::{Config, ObjectName};
use portcullis_xds::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use portcullis_xds::{ClientStream, ConfigVersion, METHOD_PATH, RESPONSE_LIMIT};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{BoxFuture, Service};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use crate::world::{Installed, LONG, Replica};

/// A name that the certificates of all replicas have, whatever their namespace.
pub(crate) const SERVER_NAME: &str = "portcullis-controller";

/// What somebody says who asks for a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) token: Option<String>,
    pub(crate) gateway: String,
    pub(crate) gateway_uid: String,
    pub(crate) pod: String,
}

impl Claim {
    pub(crate) fn body(&self, csr: &str) -> Value {
        json!({"csr": csr, "gateway": self.gateway, "gatewayUid": self.gateway_uid, "pod": self.pod})
    }

    /// The request, with any CSR.
    pub(crate) fn request(&self, csr: &str) -> Request<Full<Bytes>> {
        let request = Request::post("/v1/identity").header("host", SERVER_NAME);
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        request.body(Full::from(self.body(csr).to_string())).unwrap()
    }

    /// Asks with a CSR of a key of its own: the status and the answer.
    pub(crate) async fn ask(&self, replica: &Replica) -> (u16, Value) {
        let key = KeyPair::generate().unwrap();
        ask(replica, self.request(&csr(&key))).await
    }
}

pub(crate) fn csr(key: &KeyPair) -> String {
    CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
}

/// One request to the identity endpoint.
pub(crate) async fn ask(replica: &Replica, request: Request<Full<Bytes>>) -> (u16, Value) {
    let answer = async {
        let stream = TcpStream::connect(replica.server.identity_address()).await.unwrap();
        exchange(stream, &replica.bundle(), request).await
    };
    tokio::time::timeout(LONG, answer).await.unwrap()
}

/// The same from an address of this machine.
pub(crate) async fn ask_from(
    from: [u8; 4],
    address: SocketAddr,
    bundle: &str,
    request: Request<Full<Bytes>>,
) -> (u16, Value) {
    let answer = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        let stream = socket.connect(address).await.unwrap();
        exchange(stream, bundle, request).await
    };
    tokio::time::timeout(LONG, answer).await.unwrap()
}

async fn exchange(stream: TcpStream, bundle: &str, request: Request<Full<Bytes>>) -> (u16, Value) {
    let config = client_config(bundle, None, b"http/1.1");
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

/// A certificate with its key.
#[derive(Debug)]
pub(crate) struct Certified {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: KeyPair,
}

/// The certificate of a data plane, got as it gets it.
pub(crate) async fn certify(replica: &Replica, of: Installed) -> Certified {
    let key = KeyPair::generate().unwrap();
    let (status, answer) = ask(replica, of.claim().request(&csr(&key))).await;
    assert_eq!(status, 200, "{answer}");
    let certificate = answer["certificate"].as_str().unwrap();
    Certified { certificate: CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap(), key }
}

pub(crate) fn client_config(bundle: &str, certified: Option<&Certified>, protocol: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut config = match certified {
        Some(Certified { certificate, key }) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}

pub(crate) async fn connect(
    address: SocketAddr,
    config: ClientConfig,
    name: &str,
) -> Result<TlsStream<TcpStream>, std::io::Error> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A connection to the config stream's port.
pub(crate) struct Channel(http2::SendRequest<tonic::body::Body>);

impl Channel {
    /// An error when the server refuses the connection.
    pub(crate) async fn open(replica: &Replica, certified: Option<&Certified>) -> Result<Self, String> {
        let config = client_config(&replica.bundle(), certified, b"h2");
        let stream = connect(replica.server.stream_address(), config, SERVER_NAME).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let opened = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// A call of any method that has delta xDS's messages.
    pub(crate) async fn call(&self, path: &'static str) -> Result<DataPlane, Status> {
        let (requests, stream) = mpsc::channel(16);
        let mut grpc = tonic::client::Grpc::with_origin(Sender(self.0.clone()), "https://controller".parse().unwrap())
            .max_decoding_message_size(RESPONSE_LIMIT);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
        let request = tonic::Request::new(ReceiverStream::new(stream));
        let answer = grpc.streaming(request, PathAndQuery::from_static(path), codec);
        let responses = tokio::time::timeout(LONG, answer).await.unwrap()?.into_inner();
        Ok(DataPlane { requests, responses })
    }
}

struct Sender(http2::SendRequest<tonic::body::Body>);

impl Service<Request<tonic::body::Body>> for Sender {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<Self::Response, hyper::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A config stream.
pub(crate) struct DataPlane {
    pub(crate) requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub(crate) responses: Streaming<DeltaDiscoveryResponse>,
}

impl DataPlane {
    /// The stream of a data plane with its certificate.
    pub(crate) async fn open(replica: &Replica, certified: &Certified) -> Self {
        Channel::open(replica, Some(certified)).await.unwrap().call(METHOD_PATH).await.unwrap()
    }

    pub(crate) async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    /// The next response, or how the stream ended.
    pub(crate) async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let message = tokio::time::timeout(LONG, self.responses.message()).await.expect("a response or an end");
        message?.ok_or_else(|| Status::ok("ended"))
    }

    /// How the stream ends; nothing more may come before.
    pub(crate) async fn end(&mut self) -> Status {
        match self.next().await {
            Err(status) => status,
            Ok(response) => panic!("not an end: {response:?}"),
        }
    }
}

/// What a data plane holds, over its streams.
pub(crate) struct Held {
    pub(crate) client: ClientStream,
    pub(crate) configs: BTreeMap<ObjectName, Config>,
}

impl Held {
    pub(crate) fn new(of: Installed) -> Self {
        Self { client: ClientStream::new(of.name(), of.pod_name()), configs: BTreeMap::new() }
    }

    pub(crate) async fn start(&mut self, stream: &DataPlane) {
        for request in self.client.start() {
            stream.send(request).await;
        }
    }

    /// Takes responses in until a configuration is complete; its version, its Gateway's generation and how many pieces came.
    pub(crate) async fn receive(&mut self, stream: &mut DataPlane) -> (ConfigVersion, i64, usize) {
        let mut pieces = 0;
        loop {
            let response = stream.next().await.unwrap();
            pieces += response.resources.len();
            let step = self.client.on_response(response).unwrap();
            for request in step.requests {
                stream.send(request).await;
            }
            if let Some(commit) = step.commit {
                commit.deltas.iter().for_each(|delta| Config::apply(&mut self.configs, delta));
                // The commit itself is no piece.
                return (commit.version, commit.gateway_generation, pieces - 1);
            }
        }
    }

    pub(crate) async fn answer(&mut self, stream: &DataPlane, outcome: Result<(), String>) {
        let answer = self.client.applied(outcome).expect("a commit to answer");
        stream.send(answer).await;
    }

    /// Receives a configuration and says that it is served.
    pub(crate) async fn take(&mut self, stream: &mut DataPlane) -> (ConfigVersion, i64, usize) {
        let received = self.receive(stream).await;
        self.answer(stream, Ok(())).await;
        received
    }
}

/// A data plane that follows its stream.
pub(crate) async fn following(replica: &Replica, of: Installed) -> (DataPlane, Held, Certified) {
    let certified = certify(replica, of).await;
    let mut stream = DataPlane::open(replica, &certified).await;
    let mut held = Held::new(of);
    held.start(&stream).await;
    held.take(&mut stream).await;
    (stream, held, certified)
}
