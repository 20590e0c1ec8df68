//! HTTP towards clients.
//!
//! In flows a connection's bytes; out flow requests for `route::handle`, and its `Reply` back to the client.
//! HTTP/1.1 is our own strict connection (`h1`), HTTP/2 is hyper behind frame budgets (`h2`).

pub mod h1;
pub(crate) mod h2;

pub(crate) use h1::Refusal;

use crate::body::Body;
use crate::connection::{Connection, Io};
use crate::telemetry::connections::PanicPlace;
use crate::worker::Worker;
use crate::{record, route};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Version};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;

/// What a request came to.
pub(crate) struct Reply {
    /// The response.
    pub(crate) response: Response<Body>,
    /// With status 101: what runs on the connection's bytes once the head was written. HTTP/1.1 only.
    pub(crate) upgrade: Option<Upgrade>,
}

/// A tunnel that takes over a client's connection.
pub(crate) type Upgrade = Box<dyn FnOnce(Box<dyn Io>) -> LocalBoxFuture<'static, ()>>;

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self { response, upgrade: None }
    }
}

/// Serves a connection without TLS: HTTP/2 by prior knowledge (RFC 9113 section 3.3), else HTTP/1.1.
pub(crate) async fn serve_cleartext(worker: &Rc<Worker>, connection: Rc<Connection>, io: TcpStream) {
    let last_chance = async {
        connection.drain.draining().await;
        tokio::time::sleep(worker.options.http1.idle_drain).await;
    };
    let sniffed = tokio::select! {
        sniffed = h1::sniff(io, worker.options.timeouts.request_headers) => sniffed,
        () = last_chance => return,
    };
    match sniffed {
        Ok((h1::Protocol::Http2, io)) => h2::serve(worker, connection, io).await,
        Ok((h1::Protocol::Http1, io)) => {
            if let Some(cut) = serve_http1(worker, connection, io).await {
                // A close would say that the response is complete. A socket on which this fails is gone already.
                let _ = socket2::SockRef::from(cut.inner()).set_linger(Some(Duration::ZERO));
            }
        }
        Err(_) => {}
    }
}

/// Serves a connection inside TLS, as ALPN decided.
pub(crate) async fn serve_tls<I: Io + 'static>(worker: &Rc<Worker>, connection: Rc<Connection>, io: I, http2: bool) {
    match http2 {
        true => h2::serve(worker, connection, io).await,
        // Dropped without a close notification, which says that something is missing.
        false => drop(serve_http1(worker, connection, io).await),
    }
}

/// Returns the transport if it was cut within a response.
async fn serve_http1<I: Io + 'static>(worker: &Rc<Worker>, connection: Rc<Connection>, io: I) -> Option<I> {
    let options = worker.http1_options(connection.tls.is_some());
    let drain = connection.drain.clone();
    let service = Http1Service { worker: worker.clone(), connection };
    h1::serve(io, options, &service, drain.draining()).await.io
}

/// Answers a request, whatever happens.
async fn respond(worker: &Rc<Worker>, connection: &Rc<Connection>, request: Request<Body>) -> Reply {
    match AssertUnwindSafe(route::handle(worker, connection, request)).catch_unwind().await {
        Ok(reply) => reply,
        Err(_) => {
            worker.connections.panicked(worker.shard(), PanicPlace::Request);
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response.into()
        }
    }
}

/// The requests of an HTTP/1.1 connection.
struct Http1Service {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
}

impl h1::Service for Http1Service {
    type Body = Body;

    async fn call(&self, request: Request<h1::RequestBody>) -> h1::Reply<Body> {
        let Reply { response, upgrade } = respond(&self.worker, &self.connection, request.map(Body::Http1)).await;
        let upgrade = upgrade.map(|upgrade| {
            let connection = self.connection.clone();
            let handler: h1::UpgradeHandler = Box::new(move |upgraded| {
                connection.become_tunnel();
                upgrade(Box::new(upgraded))
            });
            handler
        });
        h1::Reply { response, upgrade }
    }

    fn completed(&self, summary: &h1::RequestSummary) {
        // The head was good and has its record; what came behind it was not.
        if let h1::RequestEnd::Refused(refusal) = summary.end {
            self.worker.telemetry.refused(self.connection.gateway(), refusal.as_str());
        }
    }

    fn refused(&self, refused: &h1::Refused<'_>) {
        record::refused(&self.worker, &self.connection, Version::HTTP_11, refused.refusal);
    }
}

/// The scheme of a connection's requests.
pub(crate) fn scheme(tls: bool) -> Scheme {
    if tls { Scheme::HTTPS } else { Scheme::HTTP }
}
