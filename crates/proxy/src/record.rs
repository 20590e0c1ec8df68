//! The one record of a request.
//!
//! In flow the facts of a request, as they become known: its head, its route, its backend, its response. Out flow, once and
//! when the last byte was handed over or the request was given up, the counters and the line of the access log. Whoever drops
//! a record ends it, so no path can forget to, and none can count twice.

use crate::connection::Connection;
use crate::http::Refusal;
use crate::upstream::endpoints::Endpoint;
use crate::worker::Worker;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, StatusCode, Uri, Version};
use portcullis_decide::{LinkedListener, LinkedRoute, LinkedRule, Matched};
use portcullis_model::{BackendKey, ObjectName};
use portcullis_runtime::log::JsonLine;
use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident)*) => {
        /// What happened to a request beside its status: a closed set, shown in the access log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Flag {
            $($(#[$doc])* $name,)*
        }

        impl Flag {
            const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable text.
            pub(crate) fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

flags! {
    /// The gateway answered by itself; `reason` says why.
    GatewayAnswer
    /// The backend has no endpoints.
    NoEndpoints
    /// No connection to an endpoint could be made.
    UpstreamConnectFailure
    /// The limit of connections to an endpoint is reached.
    UpstreamOverflow
    /// The backend closed or broke the rules before its response was complete.
    UpstreamFailure
    /// One try took longer than `timeouts.backendRequest`.
    UpstreamTimeout
    /// The whole took longer than `timeouts.request`.
    RequestTimeout
    /// The client closed or reset before its response was complete.
    ClientGone
    /// The client's body broke the rules or came too slowly.
    ClientBodyFailure
    /// It was tried more than once.
    Retried
    /// The last try would have been followed by another, had the route allowed more.
    RetryLimitReached
    /// The body was larger than what is kept for another try.
    RetryBufferExceeded
    /// Header fields whose names hold an underscore were left out.
    HeadersDropped
    /// The connection became a tunnel.
    Tunnel
    /// A drain cut it.
    Drained
}

/// A request on its way. Ended by being dropped.
pub(crate) struct Record(Box<Facts>);

struct Facts {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    began: Instant,
    method: Method,
    version: Version,
    uri: Uri,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    client: IpAddr,
    request_id: RequestId,
    /// The normal form, once there is one.
    path: Option<Box<str>>,
    listener: Option<Arc<LinkedListener>>,
    matched: Option<Matched>,
    backend: Option<BackendKey>,
    endpoint: Option<Rc<Endpoint>>,
    tries: u32,
    status: Option<StatusCode>,
    reason: Option<&'static str>,
    flags: u32,
    upstream_duration: Option<Duration>,
    request_bytes: u64,
    response_bytes: u64,
}

/// What a record came to, when it has ended.
pub(crate) struct Settled {
    /// 0 when there was no response.
    pub(crate) status: u16,
    /// From the request's head to now.
    pub(crate) duration: Duration,
    /// Of the request's body.
    pub(crate) request_bytes: u64,
    /// Of the response's body.
    pub(crate) response_bytes: u64,
    /// The duration is that of a tunnel.
    pub(crate) is_tunnel: bool,
}

/// 128 random bits in hexadecimal.
#[derive(Clone, Copy)]
pub(crate) struct RequestId([u8; 32]);

impl RequestId {
    /// A new one. Unique, not secret.
    pub(crate) fn new(random: &mut fastrand::Rng) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut bits = random.u128(..);
        let mut text = [b'0'; 32];
        for digit in &mut text {
            *digit = HEX[(bits & 15) as usize];
            bits >>= 4;
        }
        Self(text)
    }

    /// For the header.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Record {
    /// Begins at the head of a request, as received. `client` is the peer, or who a trusted peer says it is.
    pub(crate) fn begin(
        worker: &Rc<Worker>,
        connection: &Rc<Connection>,
        head: &http::request::Parts,
        client: IpAddr,
    ) -> Self {
        let logged = worker.telemetry.has_access_log();
        let field = |name| if logged { head.headers.get(name).cloned() } else { None };
        worker.telemetry.request_began();
        Self(Box::new(Facts {
            worker: worker.clone(),
            connection: connection.clone(),
            began: Instant::now(),
            method: head.method.clone(),
            version: head.version,
            uri: head.uri.clone(),
            host: field(HOST),
            user_agent: field(USER_AGENT),
            client,
            request_id: RequestId::new(&mut worker.upstreams.random.borrow_mut()),
            path: None,
            listener: None,
            matched: None,
            backend: None,
            endpoint: None,
            tries: 0,
            status: None,
            reason: None,
            flags: 0,
            upstream_duration: None,
            request_bytes: 0,
            response_bytes: 0,
        }))
    }

    /// The worker.
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.0.worker
    }

    /// The Gateway.
    pub(crate) fn gateway(&self) -> &ObjectName {
        self.0.connection.gateway()
    }

    /// The listener that took the request, if one did.
    pub(crate) fn listener(&self) -> Option<&Arc<LinkedListener>> {
        self.0.matched.as_ref().map(|matched| &matched.listener).or(self.0.listener.as_ref())
    }

    /// The route that took it, if one did.
    pub(crate) fn route(&self) -> Option<&Arc<LinkedRoute>> {
        self.0.matched.as_ref().map(|matched| &matched.route)
    }

    /// The rule that took it, if one did.
    pub(crate) fn rule(&self) -> Option<&LinkedRule> {
        self.0.matched.as_ref().map(|matched| &*matched.rule)
    }

    /// When it began.
    pub(crate) fn began(&self) -> Instant {
        self.0.began
    }

    /// For X-Request-ID.
    pub(crate) fn request_id(&self) -> RequestId {
        self.0.request_id
    }

    /// A listener took it.
    pub(crate) fn set_listener(&mut self, listener: Option<Arc<LinkedListener>>) {
        self.0.listener = listener;
    }

    /// A rule took it.
    pub(crate) fn set_matched(&mut self, matched: Matched) {
        self.0.matched = Some(matched);
    }

    /// The path in normal form: what was matched.
    pub(crate) fn set_path(&mut self, path: &str) {
        if self.0.uri.path() != path && self.0.worker.telemetry.has_access_log() {
            self.0.path = Some(path.into());
        }
    }

    /// A backend was chosen.
    pub(crate) fn set_backend(&mut self, backend: &BackendKey) {
        self.0.backend = Some(backend.clone());
    }

    /// A try begins.
    pub(crate) fn set_endpoint(&mut self, endpoint: &Rc<Endpoint>) {
        self.0.endpoint = Some(endpoint.clone());
        self.0.tries += 1;
    }

    /// The backend's response began.
    pub(crate) fn set_upstream_answered(&mut self) {
        self.0.upstream_duration = Some(self.0.began.elapsed());
    }

    /// The status of the response.
    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.0.status = Some(status);
    }

    /// Why the gateway answers by itself.
    pub(crate) fn set_reason(&mut self, reason: &'static str) {
        self.0.reason = Some(reason);
        self.flag(Flag::GatewayAnswer);
        self.0.worker.telemetry.answered(self.0.connection.gateway(), reason);
    }

    /// Something happened.
    pub(crate) fn flag(&mut self, flag: Flag) {
        self.0.flags |= 1 << flag as u32;
    }

    /// Nobody waits for the response any more: the client is gone, or a drain has cut its connection.
    pub(crate) fn flag_gone(&mut self) {
        let is_cut = self.0.connection.drain.is_forced();
        self.flag(if is_cut { Flag::Drained } else { Flag::ClientGone });
    }

    /// Whether it happened.
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.0.flags & 1 << flag as u32 != 0
    }

    /// Bytes of the request's body, so far.
    pub(crate) fn set_request_bytes(&mut self, bytes: u64) {
        self.0.request_bytes = bytes;
    }

    /// More bytes of the response's body.
    pub(crate) fn add_response_bytes(&mut self, bytes: u64) {
        self.0.response_bytes += bytes;
    }

    /// Writes the fields of the access log. Gateway, listener and route are as they are counted, empty where there is none.
    pub(crate) fn write(&self, settled: &Settled, [gateway, listener, route]: [&str; 3], line: &mut JsonLine<'_>) {
        let facts = &*self.0;
        write_connection(&facts.connection, gateway, line);
        match facts.client == facts.connection.client() {
            true => line.text("client", facts.connection.client_text()),
            false => line.text("client", facts.client.to_string()),
        };
        line.text("request_id", facts.request_id.as_bytes());
        line.text("protocol", version(facts.version)).text("method", facts.method.as_str());
        line.optional_text("host", facts.host.as_ref()).text("path", facts.path.as_deref().unwrap_or(facts.uri.path()));
        if facts.worker.telemetry.logs_query() {
            line.optional_text("query", facts.uri.query());
        }
        line.number("status", settled.status).optional_text("reason", facts.reason);
        let flags = Flag::ALL.iter().filter(|flag| self.has(**flag));
        line.texts("flags", flags.map(|flag| flag.as_str()));
        line.optional_text("listener", Some(listener).filter(|listener| !listener.is_empty()));
        line.optional_text("route", Some(route).filter(|route| !route.is_empty()));
        if let Some(rule) = self.rule() {
            line.number("rule", rule.index).optional_text("rule_name", rule.name.as_deref());
        }
        line.optional_text("backend", facts.backend.as_ref().map(ToString::to_string));
        line.optional_text("endpoint", facts.endpoint.as_ref().map(|endpoint| &*endpoint.text));
        if facts.tries > 0 {
            line.number("tries", facts.tries);
        }
        line.seconds("duration", settled.duration);
        if let Some(upstream) = facts.upstream_duration {
            line.seconds("upstream_duration", upstream);
        }
        line.number("request_bytes", settled.request_bytes).number("response_bytes", settled.response_bytes);
        line.optional_text("user_agent", facts.user_agent.as_ref());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.0.status.is_none() {
            self.flag_gone();
        }
        let settled = Settled {
            status: self.0.status.map_or(0, |status| status.as_u16()),
            duration: self.0.began.elapsed(),
            request_bytes: self.0.request_bytes,
            response_bytes: self.0.response_bytes,
            is_tunnel: self.has(Flag::Tunnel),
        };
        self.0.worker.telemetry.request_ended(self, &settled);
    }
}

/// Counts a request that was refused before it had a head that could be routed, and writes its line.
pub(crate) fn refused(worker: &Worker, connection: &Connection, protocol: Version, refusal: Refusal) {
    let reason = refusal.as_str();
    worker.telemetry.refused(connection.gateway(), reason);
    worker.telemetry.log(|line| {
        write_connection(connection, &connection.gateway().to_string(), line);
        line.text("client", connection.peer.ip().to_string()).text("protocol", version(protocol));
        line.number("status", refusal.status().as_u16()).text("reason", reason).texts("flags", ["Refused"]);
    });
}

fn write_connection(connection: &Connection, gateway: &str, line: &mut JsonLine<'_>) {
    line.text("time", timestamp(SystemTime::now())).text("gateway", gateway);
    line.number("port", connection.port.number).number("connection", connection.id);
    line.text("peer", connection.peer_text());
    if let Some(tls) = &connection.tls {
        line.text("tls", tls.version).optional_text("server_name", tls.server_name.as_deref());
    }
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

/// `2026-11-23T18:16:29.000001Z`.
type Timestamp = [u8; 27];

thread_local! {
    /// The timestamp that was made last, and its second: only the microseconds differ until the next one.
    static LAST: RefCell<(u64, Timestamp)> = const { RefCell::new((0, *b"1970-01-01T00:00:00.000000Z")) };
}

/// RFC 3339 in UTC with microseconds.
fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != since.as_secs() {
            *second = since.as_secs();
            let whole = seconds_text(*second);
            text.iter_mut().zip(whole.bytes()).for_each(|(byte, new)| *byte = new);
        }
        let mut micros = since.subsec_micros();
        for digit in text[20..26].iter_mut().rev() {
            *digit = b'0' + (micros % 10) as u8;
            micros /= 10;
        }
        *text
    })
}

/// `2026-11-23T18:16:29`.
fn seconds_text(seconds: u64) -> String {
    let (days, seconds) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the Gregorian calendar, in eras of 400 years that begin on the first of March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399, "2000-02-28T23:59:59.000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000Z"),
            (951_868_800, "2000-03-01T00:00:00.000000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000000Z"),
            (1_767_225_599, "2025-12-31T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text.as_bytes());
        }
        for (micros, text) in [(7, "00:00:01.000007Z"), (999_999, "00:00:01.999999Z"), (1_000_000, "00:00:02.000000Z")]
        {
            let made = timestamp(UNIX_EPOCH + Duration::from_secs(1) + Duration::from_micros(micros));
            assert!(made.ends_with(text.as_bytes()), "{}", made.escape_ascii());
        }
    }

    #[test]
    fn flags_fit_and_request_ids_are_hexadecimal() {
        assert!(Flag::ALL.len() <= 32);
        let mut random = fastrand::Rng::with_seed(1);
        let (one, other) = (RequestId::new(&mut random), RequestId::new(&mut random));
        assert_ne!(one.0, other.0);
        assert!(one.0.iter().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit)));
    }
}
