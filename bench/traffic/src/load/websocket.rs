//! WebSocket messages that come back.
//!
//! What flows in: a connection, which becomes a WebSocket at once. What flows out: a message's echo for each unit, compared byte for byte.

use super::{Client, Target};
use crate::message::{Heads, response};
use crate::{scratch, websocket};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const LENGTH: usize = 1024;
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
/// That of RFC 6455, section 1.2. It need not be random: nothing in between caches.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub(super) async fn connect(target: Target) -> Result<Vec<Echo>, String> {
    let mut stream = target.open().await?;
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: {KEY}\r\n\r\n",
        target.server_name
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| format!("sending an upgrade: {error}"))?;
    let mut heads = Heads::default();
    loop {
        let head = scratch::read(&mut stream, |bytes| match bytes {
            [] => Err("the connection was closed instead of upgraded".to_owned()),
            bytes => heads.take(bytes, response),
        });
        match head.await.map_err(|error| format!("reading the answer to an upgrade: {error}"))?? {
            Some((_, head)) if head.status == 101 => break,
            Some((_, head)) => return Err(format!("status {} for an upgrade", head.status)),
            None => {}
        }
    }
    let payload = vec![b'x'; LENGTH];
    let (sent, expected) = (websocket::frame(&payload, Some(MASK)), websocket::frame(&payload, None));
    Ok(vec![Echo { stream, sent, expected }])
}

/// A client with one WebSocket.
pub(super) struct Echo {
    stream: TcpStream,
    sent: Vec<u8>,
    expected: Vec<u8>,
}

impl Client for Echo {
    async fn unit(&mut self) -> Result<(), String> {
        let Self { stream, sent, expected } = self;
        stream.write_all(sent).await.map_err(|error| format!("sending a message: {error}"))?;
        let mut rest = &expected[..];
        while !rest.is_empty() {
            let read = scratch::read(stream, |bytes| match rest.strip_prefix(bytes) {
                _ if bytes.is_empty() => Err("the WebSocket was closed"),
                Some(left) => {
                    rest = left;
                    Ok(())
                }
                None => Err("a message that is not the one that was sent"),
            });
            read.await.map_err(|error| format!("reading a message: {error}"))??;
        }
        Ok(())
    }
}
