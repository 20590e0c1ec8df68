//! Counters of requests and backends.
//!
//! In flow [`Record`](crate::record::Record)s and single events of one worker. Out flow the metrics of the process and lines
//! of the access log.
//!
//! The series of a route are looked up once per worker and kept with the linked pieces that they are about, so that a
//! request costs a few additions in cache lines of its own worker. Series are made when they are first used; beyond
//! [`TelemetryOptions::series`] a family counts under `other`.
//!
//! Cost: with W workers a counter takes 8·(W+1) bytes, the histogram of latencies 128·(W+1), and each series about 250 bytes
//! for its labels. A route in use on one listener has 1 histogram, 2 counters of bytes and a counter for each class of status
//! that occurred: about 2.3 KiB with 4 workers and three classes.

pub(crate) mod connections;

use crate::record::{Record, Settled};
use portcullis_decide::{LinkedListener, LinkedRoute, LinkedRule, RulePosition};
use portcullis_model::{BackendKey, ObjectName};
use portcullis_runtime::log::{AccessLogHandle, JsonLine};
use portcullis_runtime::metrics::{Buckets, Counter, Family, Gauge, Histogram, Label, MetricError, Registry, Shard};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// What is counted, and how finely.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// Most series of one metric that differ by listener and route.
    pub series: usize,
    /// Whether requests are counted by rule as well (`portcullis_rule_requests_total`).
    pub by_rule: bool,
    /// Whether the access log holds the query of requests, which may hold secrets.
    pub log_query: bool,
}

impl Default for TelemetryOptions {
    fn default() -> Self {
        Self { series: 10_000, by_rule: false, log_query: false }
    }
}

/// The metrics of a proxy. One for all workers.
pub(crate) struct Telemetry {
    options: TelemetryOptions,
    requests: Family<Counter, 4>,
    rule_requests: Option<Family<Counter, 4>>,
    duration: Family<Histogram, 3>,
    request_bytes: Family<Counter, 3>,
    response_bytes: Family<Counter, 3>,
    error_responses: Family<Counter, 3>,
    answers: Family<Counter, 2>,
    refused: Family<Counter, 2>,
    upstream_errors: Family<Counter, 2>,
    retries: Family<Counter, 1>,
    upstream_refused: Family<Counter, 1>,
    mirrors: Family<Counter, 1>,
    requests_active: Gauge,
    tunnels: Gauge,
    headers_dropped: Counter,
    upstream_connections: Gauge,
    upstream_connections_opened: Counter,
    upstream_connections_reused: Counter,
}

impl Telemetry {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When another proxy of this process has registered them.
    pub(crate) fn register(registry: &Registry, options: &TelemetryOptions) -> Result<Self, MetricError> {
        let (gateway, listener, route) = (Label::open("gateway"), Label::open("listener"), Label::open("route"));
        let class = Label::closed("code_class");
        let by_route = [gateway, listener, route];
        let by_class = [gateway, listener, route, class];
        let series = options.series;
        let requests = "Requests, by the class of their response's status; none when there was no response.";
        let rule_requests = "Requests by rule: its name, or its place in spec.rules.";
        let duration = "Time from the head of a request to the end of its response. Tunnels are left out.";
        let errors = "Responses with a status of 400 and above, whoever made them.";
        let answers = "Responses that the gateway made itself, by reason.";
        let refused = "Requests that were refused for the form of their head or body, by reason.";
        let upstream_errors = "Exchanges with a backend that failed, by reason.";
        let mirrors = "Copies of requests, by what became of them.";
        let opened = "Connections to backends that were opened or tried to.";
        let reused = "Requests sent on a connection that was open already.";
        let rules = options.by_rule.then(|| {
            let labels = [gateway, route, Label::open("rule"), class];
            registry.counters("portcullis_rule_requests_total", rule_requests, labels, series.saturating_mul(4))
        });
        let bytes_in = "Bytes of requests' bodies.";
        let bytes_out = "Bytes of responses' bodies.";
        Ok(Self {
            options: options.clone(),
            requests: registry.counters("portcullis_requests_total", requests, by_class, series.saturating_mul(4))?,
            rule_requests: rules.transpose()?,
            duration: registry.histograms(
                "portcullis_request_duration_seconds",
                duration,
                by_route,
                series,
                Buckets::LATENCY,
            )?,
            request_bytes: registry.counters("portcullis_request_bytes_total", bytes_in, by_route, series)?,
            response_bytes: registry.counters("portcullis_response_bytes_total", bytes_out, by_route, series)?,
            error_responses: registry.counters(
                "portcullis_error_responses_total",
                errors,
                [gateway, listener, Label::closed("code")],
                series,
            )?,
            answers: registry.counters(
                "portcullis_answers_total",
                answers,
                [gateway, Label::closed("reason")],
                series,
            )?,
            refused: registry.counters(
                "portcullis_requests_refused_total",
                refused,
                [gateway, Label::closed("reason")],
                series,
            )?,
            upstream_errors: registry.counters(
                "portcullis_upstream_errors_total",
                upstream_errors,
                [Label::open("backend"), Label::closed("reason")],
                series,
            )?,
            retries: registry.counters(
                "portcullis_retries_total",
                "Further tries of requests, by the reason of the try before.",
                [Label::closed("reason")],
                16,
            )?,
            upstream_refused: registry.counters(
                "portcullis_upstream_refused_total",
                "Connections to backends that were refused for the class of their address.",
                [Label::closed("class")],
                16,
            )?,
            mirrors: registry.counters("portcullis_mirrors_total", mirrors, [Label::closed("outcome")], 8)?,
            requests_active: registry
                .gauge("portcullis_requests_active", "Requests whose response is not complete.")?,
            tunnels: registry.gauge("portcullis_tunnels", "Upgraded connections that are open.")?,
            headers_dropped: registry.counter(
                "portcullis_headers_dropped_total",
                "Header fields of requests left out because their names hold an underscore.",
            )?,
            upstream_connections: registry
                .gauge("portcullis_upstream_connections", "Connections to backends that are open or being opened.")?,
            upstream_connections_opened: registry.counter("portcullis_upstream_connections_opened_total", opened)?,
            upstream_connections_reused: registry.counter("portcullis_upstream_connections_reused_total", reused)?,
        })
    }
}

/// One worker's counters, and its end of the access log.
pub(crate) struct WorkerTelemetry {
    /// What the worker counts with.
    pub(crate) shard: Shard,
    telemetry: Arc<Telemetry>,
    access_log: RefCell<Option<AccessLogHandle>>,
    routes: RefCell<HashMap<SeriesKey, RouteSeries, foldhash::fast::RandomState>>,
    by_reason: RefCell<HashMap<(ObjectName, &'static str), ReasonCounters, foldhash::fast::RandomState>>,
    by_backend: RefCell<HashMap<(BackendKey, &'static str), Counter, foldhash::fast::RandomState>>,
    retries: RefCell<HashMap<&'static str, Counter, foldhash::fast::RandomState>>,
    mirrors: [OnceCell<Counter>; 3],
}

/// The addresses of linked pieces; a [`RouteSeries`] keeps them from being used again.
#[derive(PartialEq, Eq, Hash)]
enum SeriesKey {
    Route(usize, usize),
    Listener(usize),
    Gateway(ObjectName),
}

#[derive(Default)]
struct ReasonCounters {
    answers: OnceCell<Counter>,
    refused: OnceCell<Counter>,
}

/// The series of a route on a listener.
struct RouteSeries {
    gateway: String,
    listener: String,
    route: String,
    pieces: (Option<Weak<LinkedListener>>, Option<Weak<LinkedRoute>>),
    classes: [OnceCell<Counter>; 6],
    duration: OnceCell<Histogram>,
    request_bytes: OnceCell<Counter>,
    response_bytes: OnceCell<Counter>,
    codes: RefCell<Vec<(u16, Counter)>>,
    rules: RefCell<Vec<(usize, usize, Counter)>>,
}

const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Most names that are kept at a time in a worker's look-up tables.
const KEPT: usize = 4096;

/// What became of a copy of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MirrorOutcome {
    /// A response came.
    Sent,
    /// The copy fell behind, or there were too many.
    Dropped,
    /// The backend could not be reached, or did not answer.
    Failed,
}

impl WorkerTelemetry {
    /// The counters of the worker that `shard` belongs to.
    pub(crate) fn new(telemetry: Arc<Telemetry>, shard: Shard, access_log: Option<AccessLogHandle>) -> Self {
        Self {
            shard,
            telemetry,
            access_log: RefCell::new(access_log),
            routes: RefCell::default(),
            by_reason: RefCell::default(),
            by_backend: RefCell::default(),
            retries: RefCell::default(),
            mirrors: Default::default(),
        }
    }

    /// Whether records are written.
    pub(crate) fn has_access_log(&self) -> bool {
        self.access_log.borrow().is_some()
    }

    /// Whether the access log holds queries.
    pub(crate) fn logs_query(&self) -> bool {
        self.telemetry.options.log_query
    }

    /// A request began.
    pub(crate) fn request_began(&self) {
        self.telemetry.requests_active.add(&self.shard, 1);
    }

    /// A request ended: counts it and writes its line.
    pub(crate) fn request_ended(&self, record: &Record, settled: &Settled) {
        self.telemetry.requests_active.add(&self.shard, -1);
        let key = match (record.listener(), record.route()) {
            (Some(listener), Some(route)) => SeriesKey::Route(address(listener), address(route)),
            (Some(listener), None) => SeriesKey::Listener(address(listener)),
            (None, _) => SeriesKey::Gateway(record.gateway().clone()),
        };
        let mut routes = self.routes.borrow_mut();
        let series = routes.entry(key).or_insert_with(|| RouteSeries::new(record));
        series.count(&self.telemetry, &self.shard, record, settled);
        self.log(|line| record.write(settled, series.labels(), line));
    }

    /// Writes one line of the access log, if there is one.
    pub(crate) fn log(&self, fields: impl FnOnce(&mut JsonLine<'_>)) {
        if let Some(log) = self.access_log.borrow_mut().as_mut() {
            log.write(|out| JsonLine::write(out, fields));
        }
    }

    /// The gateway answered by itself.
    pub(crate) fn answered(&self, gateway: &ObjectName, reason: &'static str) {
        self.with_reason(gateway, reason, |counters| {
            let counter = || self.telemetry.answers.with([&gateway.to_string(), reason]);
            counters.answers.get_or_init(counter).increment(&self.shard);
        });
    }

    /// A request was refused before it had a head.
    pub(crate) fn refused(&self, gateway: &ObjectName, reason: &'static str) {
        self.with_reason(gateway, reason, |counters| {
            let counter = || self.telemetry.refused.with([&gateway.to_string(), reason]);
            counters.refused.get_or_init(counter).increment(&self.shard);
        });
    }

    fn with_reason(&self, gateway: &ObjectName, reason: &'static str, count: impl FnOnce(&ReasonCounters)) {
        let mut by_reason = self.by_reason.borrow_mut();
        count(by_reason.entry((gateway.clone(), reason)).or_default());
    }

    /// An exchange with a backend failed.
    pub(crate) fn upstream_failed(&self, backend: &BackendKey, reason: &'static str) {
        let mut by_backend = self.by_backend.borrow_mut();
        let counter = by_backend
            .entry((backend.clone(), reason))
            .or_insert_with(|| self.telemetry.upstream_errors.with([&backend.to_string(), reason]));
        counter.increment(&self.shard);
    }

    /// A request is tried again.
    pub(crate) fn retried(&self, reason: &'static str) {
        let mut retries = self.retries.borrow_mut();
        retries.entry(reason).or_insert_with(|| self.telemetry.retries.with([reason])).increment(&self.shard);
    }

    /// An endpoint is not connected to. Rare, and slow on purpose: nothing is kept for it.
    pub(crate) fn upstream_refused(&self, class: &'static str) {
        self.telemetry.upstream_refused.with([class]).increment(&self.shard);
    }

    /// A copy of a request ended.
    pub(crate) fn mirrored(&self, outcome: MirrorOutcome) {
        let (place, name) = match outcome {
            MirrorOutcome::Sent => (0, "sent"),
            MirrorOutcome::Dropped => (1, "dropped"),
            MirrorOutcome::Failed => (2, "failed"),
        };
        self.mirrors[place].get_or_init(|| self.telemetry.mirrors.with([name])).increment(&self.shard);
    }

    /// Header fields were left out.
    pub(crate) fn headers_dropped(&self, count: u64) {
        self.telemetry.headers_dropped.add(&self.shard, count);
    }

    /// A tunnel began.
    pub(crate) fn tunnel_opened(&self) {
        self.telemetry.tunnels.add(&self.shard, 1);
    }

    /// A tunnel ended.
    pub(crate) fn tunnel_closed(&self) {
        self.telemetry.tunnels.add(&self.shard, -1);
    }

    /// A connection to a backend is being opened.
    pub(crate) fn upstream_connection_opened(&self) {
        self.telemetry.upstream_connections.add(&self.shard, 1);
        self.telemetry.upstream_connections_opened.increment(&self.shard);
    }

    /// A connection to a backend is closed.
    pub(crate) fn upstream_connection_closed(&self) {
        self.telemetry.upstream_connections.add(&self.shard, -1);
    }

    /// A connection to a backend carries another request.
    pub(crate) fn upstream_connection_reused(&self) {
        self.telemetry.upstream_connections_reused.increment(&self.shard);
    }

    /// Forgets the series of pieces that no configuration holds any more.
    pub(crate) fn sweep(&self) {
        self.routes.borrow_mut().retain(|_, series| series.is_alive());
        let mut by_backend = self.by_backend.borrow_mut();
        if by_backend.len() > KEPT {
            by_backend.clear();
        }
        let mut by_reason = self.by_reason.borrow_mut();
        if by_reason.len() > KEPT {
            by_reason.clear();
        }
    }
}

fn address<T>(piece: &Arc<T>) -> usize {
    Arc::as_ptr(piece).addr()
}

impl RouteSeries {
    fn new(record: &Record) -> Self {
        Self {
            gateway: record.gateway().to_string(),
            listener: record.listener().map(|listener| listener.key.to_string()).unwrap_or_default(),
            route: record.route().map(|route| route.key.to_string()).unwrap_or_default(),
            pieces: (record.listener().map(Arc::downgrade), record.route().map(Arc::downgrade)),
            classes: Default::default(),
            duration: OnceCell::new(),
            request_bytes: OnceCell::new(),
            response_bytes: OnceCell::new(),
            codes: RefCell::default(),
            rules: RefCell::default(),
        }
    }

    fn count(&self, telemetry: &Telemetry, shard: &Shard, record: &Record, settled: &Settled) {
        let class = usize::from(settled.status / 100).min(5);
        self.class(telemetry, class).increment(shard);
        if !settled.is_tunnel {
            self.duration(telemetry).observe(shard, settled.duration);
        }
        if settled.request_bytes > 0 {
            self.request_bytes(telemetry).add(shard, settled.request_bytes);
        }
        if settled.response_bytes > 0 {
            self.response_bytes(telemetry).add(shard, settled.response_bytes);
        }
        if settled.status >= 400 {
            self.count_code(telemetry, shard, settled.status);
        }
        if let (Some(family), Some(rule)) = (&telemetry.rule_requests, record.rule()) {
            self.count_rule(family, shard, rule, class);
        }
    }

    fn is_alive(&self) -> bool {
        self.pieces.0.as_ref().is_none_or(|piece| piece.strong_count() > 0)
            && self.pieces.1.as_ref().is_none_or(|piece| piece.strong_count() > 0)
    }

    /// Gateway, listener and route; empty where there is none.
    fn labels(&self) -> [&str; 3] {
        [&self.gateway, &self.listener, &self.route]
    }

    fn class(&self, telemetry: &Telemetry, class: usize) -> &Counter {
        let [gateway, listener, route] = self.labels();
        self.classes[class].get_or_init(|| telemetry.requests.with([gateway, listener, route, CLASSES[class]]))
    }

    fn duration(&self, telemetry: &Telemetry) -> &Histogram {
        self.duration.get_or_init(|| telemetry.duration.with(self.labels()))
    }

    fn request_bytes(&self, telemetry: &Telemetry) -> &Counter {
        self.request_bytes.get_or_init(|| telemetry.request_bytes.with(self.labels()))
    }

    fn response_bytes(&self, telemetry: &Telemetry) -> &Counter {
        self.response_bytes.get_or_init(|| telemetry.response_bytes.with(self.labels()))
    }

    fn count_code(&self, telemetry: &Telemetry, shard: &Shard, status: u16) {
        let mut codes = self.codes.borrow_mut();
        if let Some((_, counter)) = codes.iter().find(|(code, _)| *code == status) {
            counter.increment(shard);
            return;
        }
        let mut text = itoa::Buffer::new();
        // Backends may send any number: what has no meaning in HTTP counts as one.
        let code = if status < 600 { text.format(status) } else { "other" };
        let counter = telemetry.error_responses.with([&self.gateway, &self.listener, code]);
        counter.increment(shard);
        codes.push((status, counter));
    }

    fn count_rule(&self, family: &Family<Counter, 4>, shard: &Shard, rule: &LinkedRule, class: usize) {
        let mut rules = self.rules.borrow_mut();
        if let Some((_, _, counter)) = rules.iter().find(|known| known.0 == rule.index && known.1 == class) {
            counter.increment(shard);
            return;
        }
        let name = match &rule.id.rule {
            RulePosition::Name(name) => name.to_string(),
            RulePosition::Index(index) => index.to_string(),
        };
        let counter = family.with([&self.gateway, &self.route, &name, CLASSES[class]]);
        counter.increment(shard);
        rules.push((rule.index, class, counter));
    }
}
