//! The ClientHello, read before TLS begins: which server name a client asks for.
//!
//! In flow a connection's first bytes, in pieces of any size; out flows the [`ClientHello`], or why there is none. Pure,
//! without I/O. Records and the handshake message are put together here; nothing is answered, and the caller keeps the bytes
//! for whoever goes on with them: rustls when we terminate TLS, the backend when we don't.
//!
//! Only what RFC 8446 (sections 4.1.2, 5.1) and RFC 6066 (section 3) fix is asked for; values and extensions that are not
//! known (GREASE, RFC 8701) are passed over.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The largest ClientHello that is read. With post-quantum key shares they have about 2 KiB.
pub const MAX_HANDSHAKE: usize = 16 * 1024;
/// How many records one may be split into.
const MAX_RECORDS: usize = 256;
/// The largest plaintext record (RFC 8446 section 5.1).
const MAX_RECORD: usize = 16 * 1024;

const RECORD_HANDSHAKE: u8 = 22;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;

/// What of a ClientHello matters before TLS begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name of SNI, lower case. An IP address there (which RFC 6066 forbids) is no name.
    pub server_name: Option<String>,
    /// The protocols of ALPN, in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

/// Why bytes are not a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientHelloError {
    /// Not a TLS record with a handshake message.
    #[error("the client does not speak TLS")]
    NotTls,
    /// TLS, but the message breaks the rules.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// Larger than [`MAX_HANDSHAKE`], or in too many records.
    #[error("the ClientHello is larger than 16 KiB")]
    TooLong,
}

/// Puts a ClientHello together. Holds at most [`MAX_HANDSHAKE`] bytes.
#[derive(Debug, Default)]
pub struct ClientHelloReader {
    header: [u8; 5],
    header_length: usize,
    record_left: usize,
    records: usize,
    handshake: Vec<u8>,
}

impl ClientHelloReader {
    /// Takes the next bytes. `None` as long as more are needed; not to be called again after an answer.
    ///
    /// # Errors
    /// As soon as no further byte could make a ClientHello of it.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<Option<ClientHello>, ClientHelloError> {
        while !bytes.is_empty() {
            if self.record_left == 0 {
                bytes = self.push_header(bytes)?;
                continue;
            }
            let (part, rest) = bytes.split_at(self.record_left.min(bytes.len()));
            self.record_left -= part.len();
            bytes = rest;
            self.handshake.extend_from_slice(part);
            if let Some(message) = self.message()? {
                return parse(message).ok_or(ClientHelloError::Malformed).map(Some);
            }
        }
        Ok(None)
    }

    fn push_header<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], ClientHelloError> {
        let Some((byte, rest)) = bytes.split_first() else { return Ok(bytes) };
        self.header[self.header_length] = *byte;
        self.header_length += 1;
        match (self.header_length, byte) {
            (1, &RECORD_HANDSHAKE) | (2, 3) | (3, 0..=4) | (4, _) => {}
            (5, _) => {
                let length = usize::from(u16::from_be_bytes([self.header[3], self.header[4]]));
                if length == 0 || length > MAX_RECORD {
                    return Err(ClientHelloError::Malformed);
                }
                self.records += 1;
                if self.records > MAX_RECORDS {
                    return Err(ClientHelloError::TooLong);
                }
                self.record_left = length;
                self.header_length = 0;
            }
            // A later record of another type interrupts the message.
            _ if self.records > 0 => return Err(ClientHelloError::Malformed),
            _ => return Err(ClientHelloError::NotTls),
        }
        Ok(rest)
    }

    /// The whole message without its header, once it is there.
    fn message(&self) -> Result<Option<&[u8]>, ClientHelloError> {
        match *self.handshake.as_slice() {
            [kind, ..] if kind != HANDSHAKE_CLIENT_HELLO => Err(ClientHelloError::Malformed),
            [_, high, middle, low, ref body @ ..] => {
                let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                if length > MAX_HANDSHAKE {
                    return Err(ClientHelloError::TooLong);
                }
                Ok(body.get(..length))
            }
            _ => Ok(None),
        }
    }
}

/// What is left to read. `None` of any method: the message is malformed.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector with its length in one byte.
    fn short_vector(&mut self) -> Option<Reader<'a>> {
        let length = self.byte()?;
        self.take(length.into()).map(Reader)
    }

    /// A vector with its length in two bytes.
    fn vector(&mut self) -> Option<Reader<'a>> {
        let length = self.number()?;
        self.take(length.into()).map(Reader)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// RFC 8446 section 4.1.2; a ClientHello of TLS 1.2 may have no extensions.
fn parse(message: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(message);
    reader.take(2 + 32)?;
    let session_id = reader.short_vector()?;
    let cipher_suites = reader.vector()?;
    let compression_methods = reader.short_vector()?;
    if session_id.0.len() > 32 || cipher_suites.is_empty() || cipher_suites.0.len() % 2 != 0 {
        return None;
    }
    if compression_methods.is_empty() {
        return None;
    }
    let mut hello = ClientHello::default();
    if reader.is_empty() {
        return Some(hello);
    }
    let mut extensions = reader.vector()?;
    if !reader.is_empty() {
        return None;
    }
    let (mut seen_name, mut seen_alpn) = (false, false);
    while !extensions.is_empty() {
        let kind = extensions.number()?;
        let mut content = extensions.vector()?;
        match kind {
            EXTENSION_SERVER_NAME if !std::mem::replace(&mut seen_name, true) => {
                hello.server_name = server_name(&mut content)?;
            }
            EXTENSION_ALPN if !std::mem::replace(&mut seen_alpn, true) => hello.alpn = alpn(&mut content)?,
            EXTENSION_SERVER_NAME | EXTENSION_ALPN => return None,
            _ => continue,
        }
        if !content.is_empty() {
            return None;
        }
    }
    Some(hello)
}

/// RFC 6066 section 3: a list with at most one name of each type, of which only host names exist.
fn server_name(content: &mut Reader<'_>) -> Option<Option<String>> {
    let mut names = content.vector()?;
    if names.is_empty() {
        return None;
    }
    let mut found = None;
    while !names.is_empty() {
        let kind = names.byte()?;
        let name = names.vector()?;
        if kind != 0 {
            continue;
        }
        if found.is_some() {
            return None;
        }
        found = Some(host_name(name.0)?);
    }
    Some(found.flatten())
}

/// `Some(None)` for an IP address.
fn host_name(bytes: &[u8]) -> Option<Option<String>> {
    let text = std::str::from_utf8(bytes).ok()?;
    if text.parse::<Ipv4Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok() {
        return Some(None);
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (text.len() <= 253 && text.split('.').all(is_label)).then(|| Some(text.to_ascii_lowercase()))
}

/// RFC 7301 section 3.1.
fn alpn(content: &mut Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut names = content.vector()?;
    let mut found = Vec::new();
    while !names.is_empty() {
        let name = names.short_vector()?;
        if name.is_empty() {
            return None;
        }
        found.push(name.0.to_vec());
    }
    (!found.is_empty()).then_some(found)
}

/// What must hold for any bytes, for fuzzing: no panic, and the same answer however the bytes are cut.
///
/// # Panics
/// With the bytes at fault, when it does not hold.
pub fn fuzz(data: &[u8]) {
    let whole = ClientHelloReader::default().push(data);
    for step in [1, 3, 100] {
        let mut reader = ClientHelloReader::default();
        let mut pieces = Ok(None);
        for piece in data.chunks(step) {
            pieces = reader.push(piece);
            if !matches!(pieces, Ok(None)) {
                break;
            }
        }
        assert_eq!(pieces, whole, "cut into pieces of {step}: {}", data.escape_ascii());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![22, 3, 1];
        bytes.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn vector(content: &[u8]) -> Vec<u8> {
        [&(content.len() as u16).to_be_bytes(), content].concat()
    }

    fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(content)].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        extension(0, &vector(&[&[0][..], &vector(name)].concat()))
    }

    fn handshake(extensions: Option<&[u8]>) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.push(0);
        body.extend_from_slice(&vector(&[0x1a, 0x1a, 0x13, 0x01]));
        body.extend_from_slice(&[1, 0]);
        if let Some(extensions) = extensions {
            body.extend_from_slice(&vector(extensions));
        }
        let mut message = vec![1, 0];
        message.extend_from_slice(&(body.len() as u16).to_be_bytes());
        message.extend_from_slice(&body);
        message
    }

    fn read(bytes: &[u8]) -> Result<Option<ClientHello>, ClientHelloError> {
        ClientHelloReader::default().push(bytes)
    }

    fn named(name: &str) -> ClientHello {
        ClientHello { server_name: Some(name.to_owned()), alpn: Vec::new() }
    }

    #[test]
    fn reads_names_protocols_and_passes_over_the_rest() {
        let grease = extension(0x2a2a, &[0]);
        let alpn = extension(16, &vector(b"\x02h2\x08http/1.1"));
        let all = [grease.as_slice(), &sni(b"WWW.Example.com"), &alpn].concat();
        let hello = read(&record(&handshake(Some(&all)))).unwrap().unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("www.example.com"));
        assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert_eq!(read(&record(&handshake(None))), Ok(Some(ClientHello::default())));
        assert_eq!(read(&record(&handshake(Some(&[])))), Ok(Some(ClientHello::default())));
        assert_eq!(read(&record(&handshake(Some(&sni(b"a.example."))))), Ok(Some(named("a.example"))));
    }

    #[test]
    fn an_address_is_no_name() {
        for name in ["192.0.2.1", "2001:db8::1"] {
            assert_eq!(read(&record(&handshake(Some(&sni(name.as_bytes()))))), Ok(Some(ClientHello::default())));
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let twice = [sni(b"a.example"), sni(b"a.example")].concat();
        let two_names = [&[0][..], &vector(b"a"), &[0], &vector(b"b")].concat();
        let mut long = handshake(None);
        long[3] += 1;
        long.push(0);
        for (what, extensions) in [
            ("the same extension twice", twice),
            ("no name in the list", extension(0, &vector(&[]))),
            ("two names", extension(0, &vector(&two_names))),
            ("an empty name", sni(b"")),
            ("a control character", sni(b"a\nb")),
            ("a name that is not ASCII", sni("é.example".as_bytes())),
            ("an empty label", sni(b"a..example")),
            ("bytes after the list", extension(0, &[vector(&[]), vec![0]].concat())),
            ("an empty protocol", extension(16, &vector(&[0]))),
            ("no protocol", extension(16, &vector(&[]))),
            ("an extension cut short", vec![0, 0, 0, 9, 1]),
        ] {
            assert_eq!(read(&record(&handshake(Some(&extensions)))), Err(ClientHelloError::Malformed), "{what}");
        }
        assert_eq!(read(&record(&long)), Err(ClientHelloError::Malformed), "bytes after the extensions");
        assert_eq!(read(&record(&[2, 0, 0, 0])), Err(ClientHelloError::Malformed), "a ServerHello");
        assert_eq!(read(&[22, 3, 1, 0, 0]), Err(ClientHelloError::Malformed), "an empty record");
        let interrupted = [record(&handshake(None)[..9]), vec![21]].concat();
        assert_eq!(read(&interrupted), Err(ClientHelloError::Malformed), "an alert inside the message");
    }

    #[test]
    fn other_protocols_are_known_by_their_first_bytes() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0", b"\x16\x02", b"\x80\x2e\x01", b"\x15\x03", b"\0"] {
            assert_eq!(read(bytes), Err(ClientHelloError::NotTls));
        }
    }

    #[test]
    fn nothing_grows_without_bound() {
        assert_eq!(read(&record(&[1, 1, 0, 0])), Err(ClientHelloError::TooLong));
        let mut reader = ClientHelloReader::default();
        let mut bytes = record(&[1]);
        for byte in [0, 0x3f, 0xff].into_iter().chain(std::iter::repeat_n(7, MAX_RECORDS)) {
            bytes.extend_from_slice(&record(&[byte]));
        }
        assert_eq!(reader.push(&bytes), Err(ClientHelloError::TooLong));
    }

    #[test]
    fn the_corpus_reads_as_its_clients_meant_it() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/client_hello");
        for entry in std::fs::read_dir(folder).unwrap() {
            fuzz(&std::fs::read(entry.unwrap().path()).unwrap());
        }
        let read = |name: &str| read(&std::fs::read(format!("{folder}/{name}")).unwrap()).unwrap().unwrap();
        let protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        for name in ["openssl_tls13", "fragmented"] {
            let expected = ClientHello { alpn: protocols.clone(), ..named("www.example.com") };
            assert_eq!(read(name), expected, "{name}");
        }
        assert_eq!(read("openssl_tls12"), named("a.example"));
        assert_eq!(read("openssl_no_name"), ClientHello::default());
        assert_eq!(read("curl"), ClientHello { alpn: protocols, ..named("localhost") });
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            name in "[a-zA-Z0-9]{1,10}(\\.[a-z0-9_-]{1,10}){0,3}",
            padding in 0usize..3000,
            record_sizes in prop::collection::vec(1usize..600, 1..20),
            piece_sizes in prop::collection::vec(1usize..400, 1..20),
        ) {
            let extensions = [extension(21, &vec![0; padding]), sni(name.as_bytes())].concat();
            let message = handshake(Some(&extensions));
            let mut bytes = Vec::new();
            let (mut rest, mut sizes) = (message.as_slice(), record_sizes.iter().cycle());
            while !rest.is_empty() {
                // At least 20 bytes, so that the number of records is not what is tried here.
                let (part, next) = rest.split_at(sizes.next().unwrap().max(&20).min(&rest.len()).to_owned());
                bytes.extend_from_slice(&record(part));
                rest = next;
            }
            let whole = read(&bytes).unwrap().unwrap();
            prop_assert_eq!(whole.server_name.as_deref(), Some(&*name.to_ascii_lowercase()));

            let mut reader = ClientHelloReader::default();
            let (mut rest, mut sizes, mut got) = (bytes.as_slice(), piece_sizes.iter().cycle(), None);
            while !rest.is_empty() {
                prop_assert!(got.is_none());
                let (part, next) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                got = reader.push(part).unwrap();
                rest = next;
            }
            prop_assert_eq!(got, Some(whole));
        }

        #[test]
        fn damaged_bytes_never_panic_and_split_alike(
            damage in prop::collection::vec((0usize..120, any::<u8>()), 0..6),
            cut in 0usize..120,
        ) {
            let mut bytes = record(&handshake(Some(&[sni(b"a.example"), extension(16, &vector(b"\x02h2"))].concat())));
            for (at, byte) in damage {
                let length = bytes.len();
                bytes[at % length] = byte;
            }
            let whole = read(&bytes);
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut reader = ClientHelloReader::default();
            let pieces = match reader.push(first) {
                Ok(None) => reader.push(second),
                done => done,
            };
            prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&record(&[&[1, 0, 0, 200][..], &bytes].concat()));
        }
    }
}
