//! What answers a connection's requests, and what it is told about them.

use std::marker::PhantomData;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;

use super::body::RequestBody;
use super::refusal::Refusal;
use super::upgrade::UpgradeHandler;

/// What answers a connection's requests. One request at a time: `call`, then `completed`, then the next.
pub trait Service {
    /// The body of the responses.
    type Body: Body<Data = Bytes>;

    /// Answers a request. Dropped before its end when the client goes away or its body is refused.
    ///
    /// The URI is absolute: the options' scheme, the authority of the Host field, path and query as sent. The fields are
    /// the end-to-end ones: Connection and what it names, Keep-Alive, Transfer-Encoding and Expect ended here. Upgrade is
    /// there only when the client asks for that protocol in a way that can be granted, and TE only as `trailers`.
    fn call(&self, request: Request<RequestBody>) -> impl Future<Output = Reply<Self::Body>>;

    /// A request that `call` got is over, in whichever way. Called exactly once for each.
    fn completed(&self, _summary: &RequestSummary) {}

    /// A head was refused, and `call` never saw it.
    fn refused(&self, _refused: &Refused<'_>) {}
}

/// A response, and what is to run on the connection if it is a 101.
pub struct Reply<B> {
    /// The response. Status 101 needs `upgrade` and a request that asked for it; other informational ones are not for here.
    pub response: Response<B>,
    /// What takes the connection over after the head of a 101.
    pub upgrade: Option<UpgradeHandler>,
}

impl<B> From<Response<B>> for Reply<B> {
    fn from(response: Response<B>) -> Self {
        Self { response, upgrade: None }
    }
}

/// A request that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSummary {
    /// The status that was sent, if any was.
    pub status: Option<StatusCode>,
    /// Bytes of the head and of what was read of the body, framing included; after an upgrade, what followed too.
    pub received: u64,
    /// Bytes of the response, head and framing included; after an upgrade, what followed too.
    pub sent: u64,
    /// How it ended.
    pub end: RequestEnd,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestEnd {
    /// The response was written to its end; an upgraded connection came to its end.
    Complete,
    /// The body was refused. With a status, the client was told; without, the response had begun and was cut.
    Refused(Refusal),
    /// The client closed, or the connection failed.
    ClientGone,
    /// The client stopped taking the response.
    WriteStalled,
    /// The response's body failed, or was not as long as its Content-Length: the connection was cut.
    ResponseFailed,
    /// The response could not be written truthfully, and the client got a 502.
    InvalidResponse,
    /// The connection was dropped.
    Cut,
}

/// A head that was refused.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Why.
    pub refusal: Refusal,
    /// What was received of the request. Foreign bytes: to be cut and escaped before they are shown to anyone.
    pub received: &'a [u8],
}

/// How many header fields were left out of a request because their names have an underscore. In the request's extensions,
/// if there were any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DroppedFields(pub u32);

/// A service of a function alone.
pub fn service_fn<F, B>(function: F) -> ServiceFn<F, B>
where
    F: AsyncFn(Request<RequestBody>) -> Reply<B>,
    B: Body<Data = Bytes>,
{
    ServiceFn { function, body: PhantomData }
}

/// A service of a function alone; see [`service_fn`].
#[derive(Debug)]
pub struct ServiceFn<F, B> {
    function: F,
    body: PhantomData<fn() -> B>,
}

impl<F, B> Service for ServiceFn<F, B>
where
    F: AsyncFn(Request<RequestBody>) -> Reply<B>,
    B: Body<Data = Bytes>,
{
    type Body = B;

    async fn call(&self, request: Request<RequestBody>) -> Reply<B> {
        (self.function)(request).await
    }
}
