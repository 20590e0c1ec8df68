//! Text form of certificates and keys (RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const LINE: usize = 64;

/// The PEM of some DER. Zeroed when dropped, since it may be a key's.
pub(super) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // Its whole length at once: growing would leave copies behind.
    let mut pem = Zeroizing::new(String::with_capacity(base64.len() + base64.len() / LINE + 2 * label.len() + LINE));
    let mut push = |parts: [&str; 3]| parts.iter().for_each(|part| pem.push_str(part));
    push(["-----BEGIN ", label, "-----\n"]);
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        push([line, "\n", ""]);
        rest = after;
    }
    push(["-----END ", label, "-----\n"]);
    pem
}
