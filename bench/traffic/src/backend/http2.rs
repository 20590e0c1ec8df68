//! The backend over HTTP/2 without TLS.
//!
//! What flows in: a connection that begins with the preface. What flows out: as over HTTP/1.1; to /grpc each DATA frame again, and at the end
//! trailers with grpc-status.

use super::Answers;
use crate::message::bytes_asked;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::net::TcpStream;

/// Serves a connection until it ends.
pub(super) async fn serve(stream: TcpStream, answers: Answers) -> Result<(), String> {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(1000).initial_window_size(1 << 20).initial_connection_window_size(16 << 20);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return Ok(()) };
    // A connection that ends in the middle is the load's to tell.
    while let Some(Ok((request, respond))) = connection.accept().await {
        let answers = answers.clone();
        tokio::spawn(async move { answer(request, respond, &answers).await });
    }
    Ok(())
}

/// Streams that are reset end early: the load tells.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, answers: &Answers) -> Option<()> {
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    if path == "/grpc" {
        return echo(body, &mut respond).await;
    }
    while read(&mut body).await?.is_some() {}
    let known = bytes_asked(&path).and_then(|length| answers.of(length));
    let (head, answer) = known
        .map_or((StatusCode::NOT_FOUND, Bytes::new()), |(begin, mut answer)| (StatusCode::OK, answer.split_off(begin)));
    let mut response = Response::new(());
    *response.status_mut() = head;
    response.headers_mut().insert("content-length", HeaderValue::from(answer.len()));
    let mut stream = respond.send_response(response, answer.is_empty()).ok()?;
    if !answer.is_empty() {
        stream.send_data(answer, true).ok()?;
    }
    Some(())
}

async fn echo(mut body: RecvStream, respond: &mut SendResponse<Bytes>) -> Option<()> {
    let mut response = Response::new(());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut stream: SendStream<Bytes> = respond.send_response(response, false).ok()?;
    while let Some(data) = read(&mut body).await? {
        // The frame that ends a stream may be empty.
        if !data.is_empty() {
            stream.send_data(data, false).ok()?;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers).ok()
}

/// The next data of a body, `Some(None)` at its end, nothing if it was broken.
async fn read(body: &mut RecvStream) -> Option<Option<Bytes>> {
    match body.data().await {
        None => Some(None),
        Some(Ok(data)) => body.flow_control().release_capacity(data.len()).ok().map(|()| Some(data)),
        Some(Err(_)) => None,
    }
}
