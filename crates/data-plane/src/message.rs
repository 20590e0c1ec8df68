//! Messages of gRPC: five bytes before each (a flag, the length), trailers with the outcome at the end.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Body;
use portcullis_runtime::escape;
use prost::Message;
use zeroize::Zeroizing;

const HEAD: usize = 5;

/// Longest message of a status that is kept.
const STATUS_LIMIT: usize = 512;

/// Why there are no more messages.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the controller ended the stream")]
    Ended,
    #[error("the controller ended the stream with status {code} of gRPC: {message}")]
    Status { code: i32, message: String },
    #[error("the controller sent what is not a message: {0}")]
    Malformed(&'static str),
}

/// A message with its head.
pub(crate) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(HEAD + length);
    out.put_u8(0);
    // Requests are cut into pieces of a megabyte.
    out.put_u32(length as u32);
    message.encode_raw(&mut out);
    out.freeze()
}

/// Reads the messages of a body. What is not complete yet is kept, so that [`Messages::next`] may be given up and called again.
pub(crate) struct Messages<B> {
    body: B,
    limit: usize,
    rest: Bytes,
    head: Vec<u8>,
    /// The message that is being received. It may hold private keys.
    message: Option<Zeroizing<Vec<u8>>>,
    length: usize,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B>
where
    B::Error: std::fmt::Display,
{
    /// Messages of at most `limit` bytes.
    pub(crate) fn new(body: B, limit: usize) -> Self {
        Self { body, limit, rest: Bytes::new(), head: Vec::with_capacity(HEAD), message: None, length: 0 }
    }

    /// The next message, zeroed when it is dropped.
    pub(crate) async fn next(&mut self) -> Result<Bytes, MessageError> {
        loop {
            if let Some(message) = self.advance()? {
                return Ok(message);
            }
            match self.body.frame().await {
                None => return Err(self.ended(MessageError::Ended)),
                Some(Err(error)) => return Err(MessageError::Broken(error.to_string())),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => {
                        let trailers = frame.into_trailers().unwrap_or_default();
                        return Err(self.ended(status(&trailers).unwrap_or(MessageError::Ended)));
                    }
                },
            }
        }
    }

    /// Takes what is there; a whole message, if there is one.
    fn advance(&mut self) -> Result<Option<Bytes>, MessageError> {
        while self.message.is_none() && self.rest.has_remaining() {
            let taken = self.rest.split_to(self.rest.len().min(HEAD - self.head.len()));
            self.head.extend_from_slice(&taken);
            let [flag, length @ ..] = &*self.head else { continue };
            let Some(length) = length.first_chunk::<4>() else { continue };
            if *flag != 0 {
                return Err(MessageError::Malformed("compressed, although nobody asked for it"));
            }
            self.length = u32::from_be_bytes(*length) as usize;
            if self.length > self.limit {
                return Err(MessageError::Malformed("larger than allowed"));
            }
            self.message = Some(Zeroizing::new(Vec::with_capacity(self.length)));
            self.head.clear();
        }
        let Some(message) = &mut self.message else { return Ok(None) };
        let taken = self.rest.split_to(self.rest.len().min(self.length - message.len()));
        message.extend_from_slice(&taken);
        if message.len() < self.length {
            return Ok(None);
        }
        Ok(self.message.take().map(Bytes::from_owner))
    }

    fn ended(&self, end: MessageError) -> MessageError {
        let is_inside = self.message.is_some() || !self.head.is_empty();
        if is_inside { MessageError::Malformed("cut off inside of a message") } else { end }
    }
}

/// The outcome in trailers, or in the head of a response that has nothing else. `None` for success.
pub(crate) fn status(headers: &HeaderMap) -> Option<MessageError> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok()).unwrap_or(2);
    let message = headers.get("grpc-message").map(|message| percent_decoded(message.as_bytes())).unwrap_or_default();
    let message = escape::line(&message).chars().take(STATUS_LIMIT).collect();
    (code != 0).then_some(MessageError::Status { code, message })
}

fn percent_decoded(mut text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    while let [first, rest @ ..] = text {
        let pair = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match pair.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                text = &rest[2..];
            }
            None => {
                out.push(*first);
                text = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;
    use portcullis_xds::proto::Status;
    use std::convert::Infallible;

    fn read(frames: Vec<Frame<Bytes>>) -> (Vec<Bytes>, MessageError) {
        let body = StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, Infallible>)));
        let mut messages = Messages::new(body, 1000);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut read = Vec::new();
            loop {
                match messages.next().await {
                    Ok(message) => read.push(message),
                    Err(error) => return (read, error),
                }
            }
        })
    }

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let status = |code| Status { code, message: "x".repeat(code as usize) };
        let sent: Vec<_> = [0, 5, 300].map(status).to_vec();
        let bytes: Vec<u8> = sent.iter().flat_map(|message| encode(message).to_vec()).collect();
        for size in [1, 2, 4, 5, 6, 7, 100, bytes.len()] {
            let (read, end) = read(bytes.chunks(size).map(|part| Frame::data(Bytes::copy_from_slice(part))).collect());
            let read: Vec<_> = read.iter().map(|message| Status::decode(&**message).unwrap()).collect();
            assert_eq!(read, sent, "{size}");
            assert!(matches!(end, MessageError::Ended));
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let data = |bytes: &[u8]| Frame::data(Bytes::copy_from_slice(bytes));
        let trailers = |code: &str, message: &str| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", code.parse().unwrap());
            trailers.insert("grpc-message", message.parse().unwrap());
            Frame::trailers(trailers)
        };
        for (frames, expected) in [
            (vec![data(&[1, 0, 0, 0, 0])], "compressed"),
            (vec![data(&[0, 0, 0, 4, 0])], "larger"),
            (vec![data(&[0, 0])], "cut off"),
            (vec![data(&[0, 0, 0, 0, 2, 1])], "cut off"),
            (vec![trailers("7", "not%20yours%0A%zz")], r"status 7 of gRPC: not yours\n%zz"),
            (vec![trailers("0", "")], "ended the stream"),
        ] {
            let (read, end) = read(frames);
            assert!(read.is_empty() && end.to_string().contains(expected), "{end}");
        }
    }
}
