//! The backends of all proxies.
//!
//! What flows in: requests over HTTP/1.1 and HTTP/2 without TLS. What flows out: as many bytes as were asked for, or an echo. A connection
//! that breaks the rules is closed; the load sees that as an error of the proxy, and the reason is on standard error.

mod http1;
mod http2;

use bytes::Bytes;
use clap::Args;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{TcpListener, TcpStream};

/// Where to listen.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// For HTTP/1.1.
    #[arg(long, value_name = "ADDRESS")]
    http1: SocketAddr,
    /// For HTTP/2 with prior knowledge.
    #[arg(long, value_name = "ADDRESS")]
    http2: SocketAddr,
}

/// Serves until the process is ended.
pub(crate) async fn run(options: &Options) -> Result<(), String> {
    let http1 = listen(options.http1)?;
    let http2 = listen(options.http2)?;
    let answers = Answers::default();
    let of_http1 = answers.clone();
    tokio::spawn(async move { accept(&http1, |stream| http1::serve(stream, of_http1.clone())).await });
    accept(&http2, |stream| http2::serve(stream, answers.clone())).await;
    Ok(())
}

/// With a backlog for all connections that a proxy may open at once.
fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let listen = || {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(4096)
    };
    listen().map_err(|error| format!("{address} cannot be listened on: {error}"))
}

async fn accept<F>(listener: &TcpListener, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = stream.set_nodelay(true).map(|()| serve(stream));
                tokio::spawn(async move {
                    match served {
                        Ok(served) => told(served.await),
                        Err(error) => told(Err(error.to_string())),
                    }
                });
            }
            Err(error) => {
                told(Err(format!("a connection cannot be accepted: {error}")));
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

fn told(served: Result<(), String>) {
    if let Err(problem) = served {
        // Nobody may be listening.
        let _ = writeln!(std::io::stderr(), "portcullis-traffic backend: {problem}");
    }
}

/// The longest answer.
const LONGEST: usize = 1 << 20;

/// Answers that were made already: a head of HTTP/1.1 with its body.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<BTreeMap<usize, (usize, Bytes)>>>);

impl Answers {
    /// Head and body in one piece, and where the body begins; nothing if so much is not given.
    fn of(&self, length: usize) -> Option<(usize, Bytes)> {
        if length > LONGEST {
            return None;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (head, answer) = known.entry(length).or_insert_with(|| {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n"
            );
            (head.len(), [head.into_bytes(), vec![b'x'; length]].concat().into())
        });
        Some((*head, answer.clone()))
    }
}
