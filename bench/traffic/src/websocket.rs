//! WebSocket frames (RFC 6455), as far as both ends of the bench need them: whole messages in one frame.
//!
//! What flows in: bytes of a tunnel. What flows out: payloads and frames.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A final frame with binary data (section 5.2).
const BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;
const LONGEST: u64 = 1 << 20;

/// The Sec-WebSocket-Accept of a Sec-WebSocket-Key (section 4.2.2).
pub(crate) fn accept(key: &[u8]) -> String {
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

/// A message, masked as a client's must be if there is a mask.
pub(crate) fn frame(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { MASKED } else { 0 };
    let mut frame = vec![BINARY];
    match payload.len() {
        length @ ..126 => frame.push(masked | length as u8),
        length @ 126..=0xffff => {
            frame.push(masked | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(masked | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    match mask {
        Some(mask) => {
            frame.extend(mask);
            frame.extend(unmasked(payload, mask));
        }
        None => frame.extend(payload),
    }
    frame
}

/// The payload of the first frame, and the frame's length; nothing while it is incomplete.
pub(crate) fn payload(bytes: &[u8]) -> Result<Option<(usize, Vec<u8>)>, String> {
    let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
    if first != BINARY {
        return Err(format!("a WebSocket frame begins with {first:#x}"));
    }
    let (length, rest) = match second & !MASKED {
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        length => (u64::from(length), rest),
    };
    if length > LONGEST {
        return Err(format!("a WebSocket frame of {length} bytes"));
    }
    let (mask, rest) = match second & MASKED {
        0 => (None, rest),
        _ => match rest.split_first_chunk() {
            Some((mask, rest)) => (Some(*mask), rest),
            None => return Ok(None),
        },
    };
    let Some((payload, rest)) = rest.split_at_checked(length as usize) else { return Ok(None) };
    let payload = mask.map_or_else(|| payload.to_vec(), |mask| unmasked(payload, mask).collect());
    Ok(Some((bytes.len() - rest.len(), payload)))
}

fn unmasked(payload: &[u8], mask: [u8; 4]) -> impl Iterator<Item = u8> {
    payload.iter().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask)
}

#[cfg(test)]
mod tests {
    use super::{accept, frame, payload};

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_was_framed_is_read_again() {
        for length in [0, 1, 125, 126, 1024, 0xffff, 0x1_0000] {
            let sent: Vec<u8> = (0..length).map(|number| number as u8).collect();
            for mask in [None, Some([1, 2, 3, 4])] {
                let frame = frame(&sent, mask);
                assert_eq!(payload(&frame).unwrap(), Some((frame.len(), sent.clone())));
                assert_eq!(payload(&frame[..frame.len() - 1]).unwrap(), None);
            }
        }
        assert!(payload(&[0x88, 0]).is_err());
    }
}
