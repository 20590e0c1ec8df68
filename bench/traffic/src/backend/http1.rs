//! The backend over HTTP/1.1.
//!
//! What flows in: a connection. What flows out: an answer to each request when its body was read to the end; after /ws, each message again.

use super::Answers;
use crate::message::{Body, Heads, Target, request};
use crate::{scratch, websocket};
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

/// Serves a connection until it ends.
pub(super) async fn serve(mut stream: TcpStream, answers: Answers) -> Result<(), String> {
    let mut connection = Connection { answers, heads: Heads::default(), request: None, tunnel: None };
    let mut out = Vec::new();
    loop {
        // A proxy may end an idle connection in any way.
        let Ok(read) = scratch::read(&mut stream, |bytes| connection.take(bytes, &mut out)).await else {
            return Ok(());
        };
        if read? == 0 {
            return Ok(());
        }
        for answer in out.drain(..) {
            if stream.write_all(&answer).await.is_err() {
                return Ok(());
            }
        }
    }
}

struct Connection {
    answers: Answers,
    heads: Heads,
    /// Whose body is being read.
    request: Option<(Target, Body)>,
    /// What of a frame was read, once this is a WebSocket.
    tunnel: Option<Vec<u8>>,
}

impl Connection {
    /// Takes all of the bytes, gives their number, and adds what is to be answered.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<Bytes>) -> Result<usize, String> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if let Some(tunnel) = &mut self.tunnel {
                tunnel.extend_from_slice(rest);
                echo(tunnel, out)?;
                break;
            }
            let (target, mut body) = match self.request.take() {
                Some(request) => request,
                None => {
                    let Some((length, head)) = self.heads.take(rest, request)? else { break };
                    rest = &rest[length..];
                    (head.target, head.body)
                }
            };
            let taken = body.take(rest)?;
            rest = &rest[taken..];
            match body.is_done() {
                true => out.push(self.answer(target)),
                false => self.request = Some((target, body)),
            }
        }
        Ok(bytes.len())
    }

    fn answer(&mut self, target: Target) -> Bytes {
        let not_found = Bytes::from_static(NOT_FOUND);
        match target {
            Target::Bytes(length) => self.answers.of(length).map_or(not_found, |(_, answer)| answer),
            Target::WebSocket(key) => {
                self.tunnel = Some(Vec::new());
                let accept = websocket::accept(&key);
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                     sec-websocket-accept: {accept}\r\n\r\n"
                )
                .into()
            }
            Target::Unknown => not_found,
        }
    }
}

fn echo(tunnel: &mut Vec<u8>, out: &mut Vec<Bytes>) -> Result<(), String> {
    while let Some((length, payload)) = websocket::payload(tunnel)? {
        tunnel.drain(..length);
        out.push(websocket::frame(&payload, None).into());
    }
    Ok(())
}
