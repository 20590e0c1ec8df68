//! The telemetry server: metrics and probes, on an address that others may reach.
//!
//! In flow scrapes and probes. Out flow `/metrics`, `/healthz` (this process lives) and `/readyz` (it may get traffic). Nothing
//! here changes anything, and nothing shows configuration: that is the [`admin`](crate::admin) server's, on another trust.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use http::{StatusCode, header};
use tokio::net::TcpListener;

use crate::metrics::{Format, Kind, MetricError, Registry};
use crate::readiness::Readiness;
use crate::server::{self, Limits, Listener, Reply, Routes, ServerCounts};

/// The paths of this server. `alive` says why this process should be restarted, if it should.
pub fn routes(
    registry: Registry,
    readiness: Readiness,
    alive: impl Fn() -> Result<(), String> + Send + Sync + 'static,
) -> Routes {
    Routes::new()
        .get("/metrics", "metrics as OpenMetrics, or as Prometheus text for Accept: text/plain", move |request| {
            let accept = request.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            let format = Format::negotiate(accept);
            Reply::new(StatusCode::OK, format.content_type(), registry.render(format))
        })
        .get("/healthz", "200 while this process works, 503 when it should be restarted", move |_| match alive() {
            Ok(()) => Reply::text(StatusCode::OK, "ok\n"),
            Err(reason) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", crate::escape::line(&reason))),
        })
        .get(
            "/readyz",
            "200 when this process may get traffic, 503 with the reasons when not",
            move |_| match readiness.check() {
                Ok(()) => Reply::text(StatusCode::OK, "ok\n"),
                Err(reasons) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n"),
            },
        )
}

/// A bound telemetry server.
#[derive(Debug)]
pub struct TelemetryServer {
    listener: TcpListener,
    routes: Routes,
    limits: Limits,
    counts: ServerCounts,
}

impl TelemetryServer {
    /// Binds the address; port 0 takes any free one.
    ///
    /// # Errors
    /// When the address is taken or not of this machine.
    pub async fn bind(address: SocketAddr, routes: Routes, limits: Limits) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, routes, limits, counts: ServerCounts::default() })
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Registers `portcullis_telemetry_refused_connections_total`.
    ///
    /// # Errors
    /// When another telemetry server was registered.
    pub fn register(&self, registry: &Registry) -> Result<(), MetricError> {
        let refused = self.counts.refused.clone();
        registry.collect(
            "portcullis_telemetry_refused_connections_total",
            "Connections to the telemetry server that were closed because of a limit.",
            Kind::Counter,
            move |samples| samples.add(&[], refused.load(Ordering::Relaxed) as f64),
        )
    }

    /// Serves until `stop` is done. Keep it serving while the process drains: `/readyz` says so.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        server::serve(Listener::Tcp(self.listener), self.routes, self.limits, self.counts, stop).await;
    }
}
