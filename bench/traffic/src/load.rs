//! Closed-loop load on one thread: each client does one unit after another.
//!
//! What flows in: a shape, and where the proxy listens. First everything is connected and does one unit; then `ready` is printed and a line on
//! standard input waited for, so that whoever measures the proxy can look at it in between. What flows out: a line of JSON about the units
//! that were begun in the given time. Connections stay until standard input ends.

mod http1;
mod http2;
mod shape;
mod tally;
mod tls;
mod websocket;

use clap::Args;
use shape::{Protocol, Shape};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::Tally;
use tls::Tls;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What to ask for, how, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What a unit of work is.
    #[arg(long)]
    shape: Shape,
    /// Connections at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    connections: usize,
    /// Streams at a time on each, where the protocol has streams.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    streams: usize,
    /// For how long units are begun.
    #[arg(long)]
    seconds: f64,
    /// Where the proxy listens.
    #[arg(long, value_name = "ADDRESS")]
    target: SocketAddr,
    /// What Host, :authority and the TLS server name say.
    #[arg(long, value_name = "NAME", default_value = "www.example.com")]
    server_name: String,
    /// The only certificate that is taken, in PEM. Needed for TLS.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// How many connections are opened at a time before the measurement.
const OPENED_AT_ONCE: usize = 64;
/// How long all of them may take, and how long units may go on after the time is over.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who does one unit after another.
trait Client: Send + 'static {
    /// A unit from begin to end, or what went wrong.
    fn unit(&mut self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Runs it.
pub(crate) async fn run(options: &Options) -> Result<(), String> {
    let work = options.shape.work();
    let target = Target { address: options.target, server_name: options.server_name.clone() };
    let tls = || Tls::new(options.ca.as_deref(), &options.server_name);
    match (work.protocol, work.tls) {
        (Protocol::Http1, false) => {
            let request = http1::request(&work, &options.server_name);
            measure(options, || http1::connect(target.clone(), None, request.clone(), work)).await
        }
        (Protocol::Http1, true) => {
            let (request, tls) = (http1::request(&work, &options.server_name), tls()?);
            measure(options, || http1::connect(target.clone(), Some(tls.clone()), request.clone(), work)).await
        }
        (Protocol::Http2 | Protocol::Grpc, encrypted) => {
            let tls = if encrypted { Some(tls()?.for_http2()) } else { None };
            measure(options, || http2::connect(target.clone(), tls.clone(), options.streams, work)).await
        }
        (Protocol::WebSocket, _) => measure(options, || websocket::connect(target.clone())).await,
        (Protocol::Connections { resumed }, _) => {
            let (request, tls) = (http1::request(&work, &options.server_name), tls()?);
            let connect =
                || http1::each_time(target.clone(), tls.with_sessions(resumed), resumed, request.clone(), work);
            measure(options, connect).await
        }
    }
}

/// Where connections lead.
#[derive(Debug, Clone)]
struct Target {
    address: SocketAddr,
    server_name: String,
}

impl Target {
    async fn open(&self) -> Result<TcpStream, String> {
        let failed = |error| format!("connecting to {}: {error}", self.address);
        let stream = TcpStream::connect(self.address).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(stream)
    }
}

async fn measure<C, F>(options: &Options, connect: impl Fn() -> F) -> Result<(), String>
where
    C: Client,
    F: Future<Output = Result<Vec<C>, String>> + Send + 'static,
{
    let clients = tokio::time::timeout(PATIENCE, connected(options.connections, connect));
    let clients = clients.await.map_err(|_| format!("no {} connections in {PATIENCE:?}", options.connections))??;
    let warm = clients.len();
    say("ready")?;
    // The runtime goes on, for connections may have to answer meanwhile.
    if line().await? == 0 {
        return Err("standard input ended before the load was to begin".to_owned());
    }
    let start = Instant::now();
    let until = start + Duration::from_secs_f64(options.seconds);
    let mut working = JoinSet::new();
    for client in clients {
        working.spawn(work(client, until));
    }
    let mut total = Tally::default();
    // Those that are done keep their connections open.
    let mut done = Vec::new();
    let last = tokio::time::Instant::from_std(until + PATIENCE);
    while !working.is_empty() {
        match tokio::time::timeout_at(last, working.join_next()).await {
            Ok(Some(Ok((client, tally)))) => {
                done.push(client);
                total.add(tally);
            }
            Ok(Some(Err(error))) => total.fail(format!("a client ended: {error}")),
            Ok(None) => {}
            Err(_) => {
                total.fail(format!("{} clients had no answer {PATIENCE:?} after the end", working.len()));
                working.shutdown().await;
            }
        }
    }
    say(&total.json(warm, start.elapsed()).to_string())?;
    line().await.map(drop)
}

/// Opens the connections and does a unit with each client.
async fn connected<C, F>(connections: usize, connect: impl Fn() -> F) -> Result<Vec<C>, String>
where
    C: Client,
    F: Future<Output = Result<Vec<C>, String>> + Send + 'static,
{
    let mut clients = Vec::new();
    let mut connecting = JoinSet::new();
    for number in 0..connections {
        let connection = connect();
        connecting.spawn(async move {
            let mut clients = connection.await?;
            for client in &mut clients {
                client.unit().await.map_err(|error| format!("the first unit of a connection: {error}"))?;
            }
            Ok::<_, String>(clients)
        });
        if connecting.len() == OPENED_AT_ONCE || number + 1 == connections {
            let rest = if number + 1 == connections { 0 } else { OPENED_AT_ONCE - 1 };
            while connecting.len() > rest {
                let Some(joined) = connecting.join_next().await else { break };
                clients.extend(joined.map_err(|error| format!("a client ended: {error}"))??);
            }
        }
    }
    Ok(clients)
}

/// No unit is begun after the time is over, and each that was is finished: what the proxy did is what is counted.
async fn work<C: Client>(mut client: C, until: Instant) -> (C, Tally) {
    let mut tally = Tally::default();
    let mut begin = Instant::now();
    while begin < until {
        match client.unit().await {
            Ok(()) => {
                let end = Instant::now();
                tally.done(end - begin);
                begin = end;
            }
            Err(problem) => {
                tally.fail(problem);
                break;
            }
        }
    }
    (client, tally)
}

fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))
}

/// Waits for a line, or the end, and gives its length.
async fn line() -> Result<usize, String> {
    let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    read.await.map_err(|error| error.to_string())?.map_err(|error| format!("standard input: {error}"))
}

/// What a client needs to encrypt its connections.
type Encryption = Option<Arc<Tls>>;
