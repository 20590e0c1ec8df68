//! One stream of configurations, over HTTP/2.

use crate::connection::{self, ConnectError};
use crate::identity::Identity;
use crate::message::{self, MessageError, Messages};
use crate::options::Options;
use futures_util::stream;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_xds::proto::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use portcullis_xds::{METHOD_PATH, RESPONSE_LIMIT};
use prost::Message;
use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A controller that is dead, or behind a network that is, is noticed within the sum of both.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// From the request to the head of the response.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of responses under way.
const WINDOW: u32 = 1 << 20;

/// Why there is no stream, or no longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection broke: {0}")]
    Http(#[from] hyper::Error),
    #[error("the controller's address cannot stand in a request: {0}")]
    Address(#[from] http::Error),
    #[error("the controller does not answer in time")]
    Timeout,
    #[error("the controller answers with {0}; is it the address of the config stream?")]
    Head(StatusCode),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("the controller sent what is not a response: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// An open stream. Dropping it closes the connection.
pub(crate) struct Stream {
    // Not bounded by itself: there are as many requests as the protocol has, one for each commit.
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    responses: Messages<Incoming>,
    _connection: Task,
}

impl Stream {
    /// Opens a stream, and sends the first requests.
    pub(crate) async fn open(
        options: &Options,
        identity: &Identity,
        first: Vec<DeltaDiscoveryRequest>,
    ) -> Result<Self, StreamError> {
        let tls = connection::open(&options.controller, &options.ca_file, Some(identity), b"h2").await?;
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        let (mut sender, connection) = builder.handshake(TokioIo::new(tls)).await?;
        let connection = Task(tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the controller ended");
            }
        }));
        let (requests, queue) = mpsc::unbounded_channel();
        first.into_iter().for_each(|request| drop(requests.send(request)));
        let body = stream::unfold(queue, |mut queue| async move {
            let request = queue.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(message::encode(&request))), queue))
        });
        let mut request = Request::new(StreamBody::new(Box::pin(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri(options)?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let response =
            timeout(HEAD_TIMEOUT, sender.send_request(request)).await.map_err(|_| StreamError::Timeout)??;
        if let Some(status) = message::status(response.headers()) {
            return Err(status.into());
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_grpc = content_type.is_some_and(|content_type| content_type.starts_with(b"application/grpc"));
        if response.status() != StatusCode::OK || !is_grpc {
            return Err(StreamError::Head(response.status()));
        }
        let responses = Messages::new(response.into_body(), RESPONSE_LIMIT);
        Ok(Self { requests, responses, _connection: connection })
    }

    /// Sends a request; a broken connection shows at [`Stream::next`].
    pub(crate) fn send(&self, request: DeltaDiscoveryRequest) {
        let _ = self.requests.send(request);
    }

    /// The next response. May be given up and called again.
    pub(crate) async fn next(&mut self) -> Result<DeltaDiscoveryResponse, StreamError> {
        Ok(DeltaDiscoveryResponse::decode(self.responses.next().await?)?)
    }
}

/// A task that ends with its handle.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn uri(options: &Options) -> Result<Uri, http::Error> {
    Uri::builder().scheme("https").authority(options.controller.to_string()).path_and_query(METHOD_PATH).build()
}

/// Everything towards the controller runs on the control thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
