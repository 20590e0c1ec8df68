//! HTTP/2, with and without TLS: requests, and streams as gRPC has them.
//!
//! What flows in: how to connect. What flows out: as many clients for a connection as it is to have streams at a time.

use super::http1::Stream;
use super::shape::{Protocol, Work};
use super::{Client, Encryption, Target};
use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::{Request, Response};

/// Messages of a gRPC stream.
const MESSAGES: usize = 10;
/// A message's length, after the five bytes before it.
const MESSAGE: usize = 128;

pub(super) async fn connect(
    target: Target,
    tls: Encryption,
    streams: usize,
    work: Work,
) -> Result<Vec<Exchange>, String> {
    let stream = target.open().await?;
    let (stream, scheme) = match tls {
        Some(tls) => (Stream::Tls(Box::new(tls.open(stream).await?)), "https"),
        None => (Stream::Plain(stream), "http"),
    };
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(16 << 20).enable_push(false);
    let (sender, connection) = builder.handshake(stream).await.map_err(|error| format!("HTTP/2 preface: {error}"))?;
    // How a connection ends is seen by its streams.
    tokio::spawn(async move { drop(connection.await) });
    let request = request(&target.server_name, scheme, &work)?;
    let (body, grpc) = match work.protocol {
        Protocol::Grpc => (message(), true),
        _ => (Bytes::from(vec![b'x'; work.sent]), false),
    };
    let client = || Exchange {
        sender: sender.clone(),
        request: request.clone(),
        body: body.clone(),
        received: work.received,
        grpc,
    };
    Ok((0..streams).map(|_| client()).collect())
}

fn request(server_name: &str, scheme: &str, work: &Work) -> Result<Request<()>, String> {
    let path = match work.protocol {
        Protocol::Grpc => "/grpc".to_owned(),
        _ => format!("/bytes/{}", work.received),
    };
    let request = Request::builder().uri(format!("{scheme}://{server_name}{path}"));
    let request = match (work.protocol, work.sent) {
        (Protocol::Grpc, _) => {
            request.method("POST").header("content-type", "application/grpc").header("te", "trailers")
        }
        (_, 0) => request.method("GET"),
        (_, sent) => request.method("POST").header("content-length", sent),
    };
    request.body(()).map_err(|error| format!("--server-name: {error}"))
}

/// A gRPC message with the bytes before it: not compressed, and its length.
fn message() -> Bytes {
    [&[0][..], &(MESSAGE as u32).to_be_bytes(), &[b'x'; MESSAGE]].concat().into()
}

/// A client: one stream after another on a connection that it shares.
pub(super) struct Exchange {
    sender: SendRequest<Bytes>,
    request: Request<()>,
    body: Bytes,
    received: usize,
    grpc: bool,
}

impl Client for Exchange {
    async fn unit(&mut self) -> Result<(), String> {
        let done = match self.grpc {
            true => self.stream().await,
            false => self.exchange().await,
        };
        done.map_err(|error| match error {
            Problem::Http2(error) => format!("HTTP/2: {error}"),
            Problem::Other(error) => error,
        })
    }
}

enum Problem {
    Http2(h2::Error),
    Other(String),
}

impl From<h2::Error> for Problem {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
    }
}

impl Exchange {
    async fn exchange(&mut self) -> Result<(), Problem> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(self.request.clone(), self.body.is_empty())?;
        if !self.body.is_empty() {
            stream.send_data(self.body.clone(), true)?;
        }
        let mut body = checked(response.await?)?;
        let mut received = 0;
        while let Some(data) = data(&mut body).await? {
            received += data.len();
        }
        match received == self.received {
            true => Ok(()),
            false => Err(Problem::Other(format!("a body of {received} bytes instead of {}", self.received))),
        }
    }

    async fn stream(&mut self) -> Result<(), Problem> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(self.request.clone(), false)?;
        stream.send_data(self.body.clone(), false)?;
        let mut body = checked(response.await?)?;
        for number in 1..=MESSAGES {
            let mut received = 0;
            while received < self.body.len() {
                let data = data(&mut body).await?;
                received += data.ok_or_else(|| Problem::Other("a stream that ended early".to_owned()))?.len();
            }
            if number < MESSAGES {
                stream.send_data(self.body.clone(), number + 1 == MESSAGES)?;
            }
        }
        if data(&mut body).await?.is_some_and(|data| !data.is_empty()) {
            return Err(Problem::Other("a stream with more than was sent".to_owned()));
        }
        let trailers = body.trailers().await?;
        match trailers.as_ref().and_then(|trailers| trailers.get("grpc-status")) {
            Some(status) if status == "0" => Ok(()),
            status => Err(Problem::Other(format!("grpc-status {status:?}"))),
        }
    }
}

fn checked(response: Response<RecvStream>) -> Result<RecvStream, Problem> {
    match response.status().as_u16() {
        200 => Ok(response.into_body()),
        status => Err(Problem::Other(format!("status {status}"))),
    }
}

async fn data(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let Some(data) = body.data().await.transpose()? else { return Ok(None) };
    body.flow_control().release_capacity(data.len())?;
    Ok(Some(data))
}
