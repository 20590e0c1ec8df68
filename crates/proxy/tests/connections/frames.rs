//! An HTTP/2 client that sends any frames.

use crate::client::LONG;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// `GET http://a.example/` in HPACK.
pub const GET: &[u8] = b"\x82\x86\x84\x01\x09a.example";
/// The same with POST.
pub const POST: &[u8] = b"\x83\x86\x84\x01\x09a.example";

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub struct Sender(OwnedWriteHalf);
pub struct Receiver(OwnedReadHalf);

/// Connects and sends the preface with these settings.
pub async fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> (Sender, Receiver) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (read, mut write) = stream.into_split();
    let mut payload = Vec::new();
    for (identifier, value) in settings {
        payload.extend_from_slice(&identifier.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    write.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    write.write_all(&frame(SETTINGS, 0, 0, &payload)).await.unwrap();
    (Sender(write), Receiver(read))
}

impl Sender {
    /// False when the other side has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    pub async fn request(&mut self, stream: u32) -> bool {
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, GET)).await
    }
}

impl Receiver {
    /// The next frame, or `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(LONG, self.read()).await.expect("the connection stays open")
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, _, d, e, f, g] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, stream: u32::from_be_bytes([d, e, f, g]), payload })
    }

    /// The next frame of a kind, the others passed over.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// The errors of all GOAWAY frames until the end.
    pub async fn go_aways(&mut self) -> Vec<u32> {
        let mut errors = Vec::new();
        while let Some(frame) = self.next_of(GOAWAY).await {
            errors.push(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
        }
        errors
    }
}
