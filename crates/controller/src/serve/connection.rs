//! The port of the config stream: mutual TLS 1.3, HTTP/2, and who may call which method.
//!
//! In flow connections. Out flow streams of data planes and relays of other replicas, each under the identity in the certificate
//! that its peer showed; what a peer says about itself in a message counts for nothing. A peer without a certificate of our
//! authority gets no further than the handshake. The bounds: connections, handshakes at a time and per address, streams per connection, sizes
//! of heads and windows, idle time; pings find peers that are gone.

use std::convert::Infallible;
use std::future::Ready;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use portcullis_runtime::drain::{DrainWatch, Kind};
use portcullis_xds::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use portcullis_xds::{METHOD_PATH, REQUEST_LIMIT, RESPONSE_LIMIT};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::Grpc;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::hub::Hub;
use super::relay::{self, Relays, Role};
use super::stream::{self, Ending, Responses};
use crate::clock;
use crate::identity::endpoint::BindError;
use crate::identity::rate::{Place, Places, Rate};
use crate::identity::{Authority, DataPlaneIdentity, Identity, Peer};

/// Open connections after their handshake.
const CONNECTIONS: usize = 8192;
/// Handshakes at a time.
const HANDSHAKES: usize = 256;
/// Those of one address: many pods may stand behind one address of a node.
const HANDSHAKES_EACH: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a stream for as long as this, or twice, is closed.
const IDLE: Duration = Duration::from_secs(30);
/// After the end was said, how long a connection may take to say it.
const LINGER: Duration = Duration::from_secs(1);
/// A connection outlives its certificate by some seconds, so that the renewed one is there when it comes back.
const AFTER_EXPIRY: std::ops::Range<u64> = 3..15;

const STREAMS: u32 = 4;
const HEADER_LIST: u32 = 16 * 1024;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
const SEND_BUFFER: usize = 256 * 1024;
const RESETS: usize = 16;
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// The port, bound.
pub(super) struct Port {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    authority: Arc<Authority>,
    hub: Arc<Hub>,
    role: watch::Receiver<Role>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

/// One connection whose peer is known.
struct Connection {
    identity: Identity,
    ending: watch::Sender<Option<Ending>>,
    streams: AtomicUsize,
}

impl Port {
    pub(super) async fn bind(
        address: SocketAddr,
        authority: Arc<Authority>,
        hub: Arc<Hub>,
        role: watch::Receiver<Role>,
    ) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await.map_err(|error| BindError::Bind { address, error })?;
        let (connections, handshakes) = (Semaphore::new(CONNECTIONS).into(), Semaphore::new(HANDSHAKES).into());
        Ok(Self { listener, shared: Arc::new(Shared { authority, hub, role, connections, handshakes }) })
    }

    pub(super) fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the drain begins; then streams are told to go elsewhere.
    pub(super) async fn serve(self, drain: DrainWatch) {
        let mut rate = Rate::of_connections();
        let places = Places::new(HANDSHAKES_EACH);
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.draining() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let place = places.take(peer.ip());
                    match place.filter(|_| rate.allows(peer.ip(), Instant::now())) {
                        Some(place) => self.shared.clone().spawn(stream, place, drain.clone()),
                        None => self.shared.reject("rate"),
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    // Out of descriptors or memory: they come back with time only.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

impl Shared {
    fn reject(&self, reason: &str) {
        self.hub.metrics.rejected.with([reason]).add_shared(1);
    }

    fn spawn(self: Arc<Self>, stream: TcpStream, place: Place, drain: DrainWatch) {
        let (Ok(seat), Ok(turn)) =
            (self.connections.clone().try_acquire_owned(), self.handshakes.clone().try_acquire_owned())
        else {
            return self.reject("limit");
        };
        let guard = drain.guard(Kind::Connection);
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.handshake(stream)).await;
            drop((turn, place));
            match shaken.unwrap_or(Err("handshake")) {
                Ok((stream, peer)) => serve(stream, peer, self, drain).await,
                Err(reason) => self.reject(reason),
            }
            drop((seat, guard));
        });
    }

    async fn handshake(&self, stream: TcpStream) -> Result<(TlsStream<TcpStream>, Peer), &'static str> {
        let _ = stream.set_nodelay(true);
        // Without an authority nobody can be trusted; the data plane comes again.
        let current = self.authority.current().ok_or("not_ready")?;
        let stream = TlsAcceptor::from(current.stream.clone()).accept(stream).await.map_err(|_| "handshake")?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first).ok_or("identity")?;
        let peer = Peer::of_certificate(certificate).map_err(|_| "identity")?;
        if session.alpn_protocol() == Some(b"h2") { Ok((stream, peer)) } else { Err("protocol") }
    }

    /// Who may call what.
    async fn answer(self: Arc<Self>, connection: Arc<Connection>, request: Request<Incoming>) -> Response<Body> {
        match (request.uri().path(), &connection.identity) {
            (METHOD_PATH, Identity::DataPlane(identity)) => {
                let service = ConfigStream { identity: identity.clone(), hub: self.hub.clone(), connection };
                let codec = ProstCodec::<DeltaDiscoveryResponse, DeltaDiscoveryRequest>::default();
                let mut grpc =
                    Grpc::new(codec).max_decoding_message_size(REQUEST_LIMIT).max_encoding_message_size(RESPONSE_LIMIT);
                grpc.streaming(service, request).await
            }
            (relay::METHOD_PATH, Identity::Controller { pod }) => {
                let ending = connection.ending.subscribe();
                let open = Open::new(connection.clone());
                let relays =
                    Relays { replica: pod.clone(), picture: self.hub.picture.clone(), role: self.role.clone(), ending };
                let codec = ProstCodec::<relay::RelayEnd, relay::RelayMessage>::default();
                let mut grpc = Grpc::new(codec).max_decoding_message_size(REQUEST_LIMIT);
                let response = grpc.client_streaming(relays, request).await;
                drop(open);
                response
            }
            (METHOD_PATH | relay::METHOD_PATH, _) => {
                Status::permission_denied("this certificate is not for this method").into_http()
            }
            _ => Status::unimplemented("there is no such method").into_http(),
        }
    }
}

async fn serve(stream: TlsStream<TcpStream>, peer: Peer, shared: Arc<Shared>, drain: DrainWatch) {
    let left = u64::try_from(peer.not_after - clock::unix()).unwrap_or(0);
    let expiry = Duration::from_secs(left.saturating_add(fastrand::u64(AFTER_EXPIRY)));
    let connection = Arc::new(Connection {
        identity: peer.identity,
        ending: watch::Sender::new(None),
        streams: AtomicUsize::new(0),
    });
    let service = service_fn(|request| {
        let answer = shared.clone().answer(connection.clone(), request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut http = pin!(builder().serve_connection(TokioIo::new(stream), service));
    let mut ending = connection.ending.subscribe();
    tokio::select! {
        // A connection that broke has nobody to be told.
        _ = http.as_mut() => return,
        _ = ending.wait_for(Option::is_some) => {}
        () = tokio::time::sleep(expiry) => connection.end(Ending::Expired),
        () = drain.draining() => connection.end(Ending::Draining),
        () = connection.idle() => {}
    }
    http.as_mut().graceful_shutdown();
    // Whatever is still in buffers after that is not sent any more.
    let _ = tokio::time::timeout(LINGER, http).await;
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

impl Connection {
    fn end(&self, ending: Ending) {
        self.ending.send_replace(Some(ending));
    }

    /// Waits until there has been no stream for a while.
    async fn idle(&self) {
        let mut was_idle = false;
        loop {
            tokio::time::sleep(IDLE).await;
            let is_idle = self.streams.load(Ordering::Relaxed) == 0;
            if was_idle && is_idle {
                return;
            }
            was_idle = is_idle;
        }
    }
}

/// Counts a stream of a connection while it is open.
struct Open(Arc<Connection>);

impl Open {
    fn new(connection: Arc<Connection>) -> Self {
        connection.streams.fetch_add(1, Ordering::Relaxed);
        Self(connection)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The one method for data planes.
struct ConfigStream {
    identity: DataPlaneIdentity,
    hub: Arc<Hub>,
    connection: Arc<Connection>,
}

impl Service<tonic::Request<Streaming<DeltaDiscoveryRequest>>> for ConfigStream {
    type Response = tonic::Response<Counted>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let seat = match self.hub.enter(self.identity.clone()) {
            Ok(seat) => seat,
            Err(ending) => {
                self.hub.metrics.ended.with([ending.label()]).add_shared(1);
                return std::future::ready(Err(ending.status()));
            }
        };
        // A data plane that lost its right loses the connection too, however slowly it reads.
        let (mut lost, connection) = (seat.line.ending.subscribe(), Arc::downgrade(&self.connection));
        tokio::spawn(async move {
            if lost.wait_for(|ending| *ending == Some(Ending::Revoked)).await.is_ok()
                && let Some(connection) = connection.upgrade()
            {
                connection.end(Ending::Revoked);
            }
        });
        let ending = self.connection.ending.subscribe();
        let responses = stream::begin(self.hub.clone(), seat, request.into_inner(), ending);
        let counted = Counted { responses, _open: Open::new(self.connection.clone()) };
        std::future::ready(Ok(tonic::Response::new(counted)))
    }
}

/// The responses of a stream that its connection counts as open.
struct Counted {
    responses: Responses,
    _open: Open,
}

impl tokio_stream::Stream for Counted {
    type Item = Result<DeltaDiscoveryResponse, Status>;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        std::pin::Pin::new(&mut self.responses).poll_next(context)
    }
}
