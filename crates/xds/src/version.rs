//! Versions: of one piece, a hash of its bytes; of a configuration, a sum over the pieces that can be kept up to date.

use aws_lc_rs::digest::{Context, SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The version of a whole configuration: the sum, modulo 2^256, of the SHA-256 hashes of each piece's name and version. The order
/// of the pieces does not matter, equal configurations have equal versions on every replica, and a change of one piece costs two
/// hashes. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigVersion([u64; 4]);

impl ConfigVersion {
    /// Puts a piece in.
    pub(crate) fn add(&mut self, name: &str, version: &str) {
        let mut carry = false;
        for (sum, part) in self.0.iter_mut().zip(parts(name, version)) {
            let (partial, over) = sum.overflowing_add(part);
            let (total, over_again) = partial.overflowing_add(u64::from(carry));
            *sum = total;
            carry = over || over_again;
        }
    }

    /// Takes a piece out that was put in.
    pub(crate) fn subtract(&mut self, name: &str, version: &str) {
        let mut borrow = false;
        for (sum, part) in self.0.iter_mut().zip(parts(name, version)) {
            let (partial, under) = sum.overflowing_sub(part);
            let (total, under_again) = partial.overflowing_sub(u64::from(borrow));
            *sum = total;
            borrow = under || under_again;
        }
    }
}

/// The hash of one piece, least significant part first.
fn parts(name: &str, version: &str) -> [u64; 4] {
    let mut context = Context::new(&SHA256);
    context.update(name.as_bytes());
    // Neither holds a zero byte.
    context.update(&[0]);
    context.update(version.as_bytes());
    let hash = context.finish();
    let mut parts = [0; 4];
    for (part, bytes) in parts.iter_mut().zip(hash.as_ref().as_chunks::<8>().0) {
        *part = u64::from_le_bytes(*bytes);
    }
    parts
}

impl fmt::Display for ConfigVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|part| write!(f, "{part:016x}"))
    }
}

impl fmt::Debug for ConfigVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not the version of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits")]
pub struct ConfigVersionError;

impl FromStr for ConfigVersion {
    type Err = ConfigVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ConfigVersionError);
        }
        let mut parts = [0; 4];
        for (index, part) in parts.iter_mut().rev().enumerate() {
            let digits = text.get(index * 16..index * 16 + 16).ok_or(ConfigVersionError)?;
            *part = u64::from_str_radix(digits, 16).map_err(|_| ConfigVersionError)?;
        }
        Ok(Self(parts))
    }
}

impl Serialize for ConfigVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConfigVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The version of one piece: half of the SHA-256 of its bytes. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceVersion(u128);

impl PieceVersion {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let hash = digest(&SHA256, bytes);
        Self(hash.as_ref().first_chunk().map_or(0, |half| u128::from_be_bytes(*half)))
    }
}

impl fmt::Display for PieceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_are_written_and_read() {
        let mut version = ConfigVersion::default();
        version.add("infra/web/gateway", "1");
        assert_eq!(version.to_string().parse(), Ok(version));
        assert_eq!(ConfigVersion::default().to_string(), "0".repeat(64));
        for wrong in ["", "0", &"g".repeat(64), &"+".repeat(64), &"0".repeat(65)] {
            assert_eq!(wrong.parse::<ConfigVersion>(), Err(ConfigVersionError), "{wrong}");
        }
    }

    /// Replicas of different releases have to agree on it.
    #[test]
    fn the_sum_stays_as_it_is() {
        let mut version = ConfigVersion::default();
        version.add("infra/web/gateway", "1");
        version.add("infra/web/listener/http", "2");
        assert_eq!(version.to_string(), "158959612f9bd53a64a45cc4d4c129713615fc94d7852b7b25b52bffbc9fb104");
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_what_is_taken_out_leaves_no_trace(
            pieces in prop::collection::btree_map("[a-z]{1,4}", "[0-9]{1,3}", 0..20), seed in any::<u64>(),
        ) {
            let (mut sorted, mut mixed) = (ConfigVersion::default(), ConfigVersion::default());
            pieces.iter().for_each(|(name, version)| sorted.add(name, version));
            let mut order: Vec<_> = pieces.iter().collect();
            order.sort_by_key(|(name, _)| PieceVersion::of(format!("{seed}{name}").as_bytes()).0);
            mixed.add("extra", "1");
            order.iter().for_each(|(name, version)| mixed.add(name, version));
            mixed.subtract("extra", "1");
            prop_assert_eq!(sorted, mixed);
            order.iter().for_each(|(name, version)| mixed.subtract(name, version));
            prop_assert_eq!(mixed, ConfigVersion::default());
        }
    }
}
