//! The relay: what data planes say on the streams of a follower is told to the holder of the lease, who writes it into statuses.
//!
//! In flow, at a follower, the picture of its own streams and the leader's address; at the leader, the messages of followers. Out
//! flows, at the leader, one picture of all. It is one call of gRPC that lasts, over the port of the config stream, under the
//! certificates of replicas. States are told, not events: after each connection all of them, then those that changed, so that nothing depends
//! on what a broken connection may have lost.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use portcullis_model::ObjectName;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codegen::{BoxFuture, Service};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::metrics::Metrics;
use super::picture::{Name, Picture, State};
use super::stream::Ending;
use crate::identity::{Authority, DataPlaneIdentity, Identity, Peer};

/// The path of the call.
pub(super) const METHOD_PATH: &str = "/portcullis.controller.v1.Relay/Tell";

/// Data planes in one message.
const BATCH: usize = 256;
/// Messages that wait for a slow leader.
const MESSAGES: usize = 2;
/// Longest message of a data plane that is passed on, in bytes.
const MESSAGE_LIMIT: usize = 4096;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between attempts, jittered by half.
const BACKOFF: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);

/// What this replica does with what data planes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Nobody is told, and nobody is listened to.
    Unknown,
    /// It holds the lease: the others tell it.
    Leading,
    /// It tells this one.
    Following(SocketAddr),
}

/// One message of a follower.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RelayMessage {
    /// States of data planes.
    #[prost(message, repeated, tag = "1")]
    data_planes: Vec<RelayedDataPlane>,
    /// With this message everything has been told once.
    #[prost(bool, tag = "2")]
    complete: bool,
}

/// The state of one data plane.
#[derive(Clone, PartialEq, prost::Message)]
struct RelayedDataPlane {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    gateway: String,
    #[prost(string, tag = "3")]
    pod: String,
    /// Its stream has ended; nothing below counts.
    #[prost(bool, tag = "4")]
    gone: bool,
    #[prost(uint64, tag = "5")]
    session: u64,
    /// As text; empty for none.
    #[prost(string, tag = "6")]
    acknowledged_version: String,
    #[prost(int64, tag = "7")]
    acknowledged_generation: i64,
    /// As text; empty for none.
    #[prost(string, tag = "8")]
    refused_version: String,
    #[prost(string, tag = "9")]
    refused_message: String,
}

/// The answer at the end of a call.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RelayEnd {}

impl RelayedDataPlane {
    fn new(name: Name, state: Option<State>) -> Self {
        let Name { gateway, pod } = name;
        let named = Self {
            namespace: gateway.namespace.to_string(),
            gateway: gateway.name.to_string(),
            pod: pod.to_string(),
            ..Self::default()
        };
        let Some(state) = state else { return Self { gone: true, ..named } };
        let (generation, acknowledged) =
            state.acknowledged.map_or((0, String::new()), |(generation, version)| (generation, version.to_string()));
        let (refused, message) = state
            .refused
            .map_or_else(Default::default, |(version, message)| (version.to_string(), message.to_string()));
        Self {
            session: state.session,
            acknowledged_version: acknowledged,
            acknowledged_generation: generation,
            refused_version: refused,
            refused_message: message,
            ..named
        }
    }

    /// `None` when it is not what a replica would send.
    fn read(self) -> Option<(Name, Option<State>)> {
        let gateway = ObjectName::new(self.namespace, self.gateway);
        // The same demands on names as in a certificate.
        let DataPlaneIdentity { gateway, pod, .. } = DataPlaneIdentity::new(gateway, "-", &self.pod)?;
        let name = Name { gateway, pod };
        if self.gone {
            return Some((name, None));
        }
        let acknowledged = match self.acknowledged_version.as_str() {
            "" => None,
            version => Some((self.acknowledged_generation, version.parse().ok()?)),
        };
        let refused = match self.refused_version.as_str() {
            "" => None,
            version => {
                let mut message = self.refused_message;
                message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
                Some((version.parse().ok()?, portcullis_runtime::escape::line(&message).as_ref().into()))
            }
        };
        Some((name, Some(State { session: self.session, acknowledged, refused })))
    }
}

/// The leader's side of one follower's call.
pub(super) struct Relays {
    pub(super) replica: Arc<str>,
    pub(super) picture: Picture,
    pub(super) role: watch::Receiver<Role>,
    pub(super) ending: watch::Receiver<Option<Ending>>,
}

impl Service<tonic::Request<Streaming<RelayMessage>>> for Relays {
    type Response = tonic::Response<RelayEnd>;
    type Error = Status;
    type Future = BoxFuture<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Streaming<RelayMessage>>) -> Self::Future {
        let (replica, picture) = (self.replica.clone(), self.picture.clone());
        let (mut role, mut ending) = (self.role.clone(), self.ending.clone());
        Box::pin(async move {
            if *role.borrow() != Role::Leading {
                return Err(not_leading());
            }
            let epoch = picture.attach(&replica);
            let attached = Attached { picture, replica, epoch };
            tokio::select! {
                biased;
                _ = role.wait_for(|role| *role != Role::Leading) => Err(not_leading()),
                _ = ending.wait_for(Option::is_some) => Err(Status::unavailable("this replica stops, or the certificate has expired")),
                told = attached.listen(request.into_inner()) => told.map(|()| tonic::Response::new(RelayEnd {})),
            }
        })
    }
}

fn not_leading() -> Status {
    Status::failed_precondition("this replica does not hold the lease")
}

/// A follower's call, until it is dropped.
struct Attached {
    picture: Picture,
    replica: Arc<str>,
    epoch: u64,
}

impl Attached {
    async fn listen(&self, mut messages: Streaming<RelayMessage>) -> Result<(), Status> {
        while let Some(message) = messages.message().await? {
            for data_plane in message.data_planes {
                let (name, state) =
                    data_plane.read().ok_or_else(|| Status::invalid_argument("not the state of a data plane"))?;
                if !self.picture.relayed(&self.replica, self.epoch, name, state) {
                    return Err(Status::aborted("this replica has a newer call, or too many data planes"));
                }
            }
            if message.complete {
                self.picture.complete(&self.replica, self.epoch);
            }
        }
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.picture.detach(self.replica.clone(), self.epoch);
    }
}

/// The follower's side: tells the leader as long as there is one.
pub(super) struct Follower {
    pub(super) authority: Arc<Authority>,
    pub(super) picture: Picture,
    pub(super) metrics: Metrics,
    pub(super) role: watch::Receiver<Role>,
}

/// Why a call ended.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("there is no certificate yet")]
    NotReady,
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("the other side is no replica of the controller")]
    NotAController,
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("{}", .0.message())]
    Status(#[from] Status),
}

impl Follower {
    /// Runs until the server is gone.
    pub(super) async fn run(self) {
        let mut role = self.role.clone();
        let mut pause = *BACKOFF.start();
        loop {
            let now = *role.borrow_and_update();
            let Role::Following(leader) = now else {
                if role.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let began = tokio::time::Instant::now();
            tokio::select! {
                changed = role.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                error = self.tell(leader) => tracing::debug!(%leader, %error, "the relay to the holder of the lease ended"),
            }
            pause = if began.elapsed() > *BACKOFF.end() { *BACKOFF.start() } else { (pause * 2).min(*BACKOFF.end()) };
            let jitter = 0.5 + fastrand::f64() / 2.0;
            tokio::select! {
                _ = role.changed() => {}
                () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
            }
        }
    }

    /// Connects and tells until something breaks.
    async fn tell(&self, leader: SocketAddr) -> RelayError {
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, self.connect(leader)).await;
        let (sender, connection) = match connected.unwrap_or(Err(RelayError::Timeout)) {
            Ok(connected) => connected,
            Err(error) => return error,
        };
        let (messages, stream) = mpsc::channel(MESSAGES);
        let call = async {
            let origin = Uri::from_static("https://portcullis-controller");
            let mut grpc = Grpc::with_origin(Sender(sender), origin);
            let codec = ProstCodec::<RelayMessage, RelayEnd>::default();
            let request = tonic::Request::new(ReceiverStream::new(stream));
            grpc.client_streaming(request, PathAndQuery::from_static(METHOD_PATH), codec).await
        };
        let _relaying = Relaying::new(self);
        tokio::select! {
            ended = connection => ended.map_or_else(RelayError::from, |()| Status::cancelled("the connection was closed").into()),
            ended = call => match ended {
                Ok(_) => Status::cancelled("the leader has ended the call").into(),
                Err(status) => status.into(),
            },
            () = self.pump(messages) => Status::cancelled("the leader does not read").into(),
        }
    }

    async fn connect(&self, leader: SocketAddr) -> Result<Connected, RelayError> {
        let current = self.authority.current().ok_or(RelayError::NotReady)?;
        let stream = TcpStream::connect(leader).await?;
        stream.set_nodelay(true)?;
        let name =
            ServerName::try_from(self.authority.server_name().to_owned()).map_err(|_| RelayError::NotAController)?;
        let stream = TlsConnector::from(current.relay.clone()).connect(name, stream).await?;
        // The name alone is not enough: it must be a certificate of a replica.
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = certificate.and_then(|certificate| Peer::of_certificate(certificate).ok());
        if !matches!(peer, Some(Peer { identity: Identity::Controller { .. }, .. })) {
            return Err(RelayError::NotAController);
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok((sender, Box::pin(connection)))
    }

    /// Everything once, then what changes.
    async fn pump(&self, messages: mpsc::Sender<RelayMessage>) {
        let mut is_complete = false;
        loop {
            let news = self.picture.unrelayed(BATCH);
            let complete = !is_complete && news.len() < BATCH;
            if news.is_empty() && !complete {
                self.picture.relay_changed().await;
                continue;
            }
            is_complete |= complete;
            let data_planes = news.into_iter().map(|(name, state)| RelayedDataPlane::new(name, state)).collect();
            if messages.send(RelayMessage { data_planes, complete }).await.is_err() {
                return;
            }
        }
    }
}

/// A call that is under way.
struct Relaying<'a>(&'a Follower);

impl<'a> Relaying<'a> {
    fn new(follower: &'a Follower) -> Self {
        follower.picture.begin_relay();
        follower.metrics.relaying.add_shared(1);
        Self(follower)
    }
}

impl Drop for Relaying<'_> {
    fn drop(&mut self) {
        self.0.picture.end_relay();
        self.0.metrics.relaying.add_shared(-1);
    }
}

type Connected = (http2::SendRequest<Body>, Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>);

/// hyper's sender, as tonic calls it.
struct Sender(http2::SendRequest<Body>);

impl Service<http::Request<Body>> for Sender {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<Self::Response, hyper::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let response = self.0.send_request(request);
        Box::pin(response)
    }
}
