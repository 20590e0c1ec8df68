//! How often one address may connect: a handshake costs more than a packet.
//!
//! In flow addresses of accepted connections; out flows whether a handshake may begin. The table is bounded; when it is full of
//! addresses that are all at their limit, new ones wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// New connections that one address may make at once: many pods may stand behind one address of a node.
const BURST: f64 = 256.0;
/// And per second after that.
const PER_SECOND: f64 = 64.0;
/// Addresses that are remembered.
const ADDRESSES: usize = 4096;

/// New connections by address.
#[derive(Default)]
pub(crate) struct Rate {
    /// What is left of the burst, and when that was reckoned.
    left: HashMap<IpAddr, (f64, Instant)>,
}

impl Rate {
    /// True when this address may connect now, which counts as a connection.
    pub(crate) fn allows(&mut self, address: IpAddr, now: Instant) -> bool {
        let refilled = |(left, at): (f64, Instant)| {
            (left + now.saturating_duration_since(at).as_secs_f64() * PER_SECOND).min(BURST)
        };
        if self.left.len() >= ADDRESSES && !self.left.contains_key(&address) {
            self.left.retain(|_, state| refilled(*state) < BURST);
            if self.left.len() >= ADDRESSES {
                return false;
            }
        }
        let state = self.left.entry(address).or_insert((BURST, now));
        let left = refilled(*state);
        let allowed = left >= 1.0;
        *state = (if allowed { left - 1.0 } else { left }, now);
        allowed
    }
}

/// Places that one address may have only some of at a time, so that the others find one, too. As large as the addresses that have any.
#[derive(Clone)]
pub(crate) struct Places {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    each: usize,
}

/// A place that an address has until this is dropped.
pub(crate) struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    /// At most `each` for one address.
    pub(crate) fn new(each: usize) -> Self {
        Self { taken: Arc::default(), each }
    }

    /// A place; `None` when the address has all that it may have.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.entry(address).or_default();
        if *of_address >= self.each {
            return None;
        }
        *of_address += 1;
        Some(Place { places: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = taken.get_mut(&self.address).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            taken.remove(&self.address);
        }
    }
}

/// Lines about refusals that may be written at once, and per second after that.
const LINES: f64 = 32.0;
const LINES_PER_SECOND: f64 = 1.0;

/// How often something is told that others can make happen as often as they like.
pub(crate) struct Pace {
    left: f64,
    at: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { left: LINES, at: None }
    }
}

impl Pace {
    /// True when it may be told now, which counts.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        let passed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.left = (self.left + passed * LINES_PER_SECOND).min(LINES);
        let allowed = self.left >= 1.0;
        if allowed {
            self.left -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_address_has_some_of_the_places() {
        let places = Places::new(2);
        let [one, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let first = places.take(one);
        let held = [places.take(one), places.take(other)];
        assert!(held.iter().all(Option::is_some) && places.take(one).is_none());
        drop(first);
        assert!(places.take(one).is_some() && places.take(one).is_some());
        drop(held);
        assert!(places.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn who_is_refused_often_fills_no_log() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let allowed = |pace: &mut Pace, seconds| {
            let at = now + Duration::from_secs(seconds);
            (0..10_000).filter(|_| pace.allows(at)).count()
        };
        assert_eq!(allowed(&mut pace, 0), LINES as usize);
        assert_eq!(allowed(&mut pace, 3), 3);
        assert_eq!(allowed(&mut pace, 3600), LINES as usize);
    }

    #[test]
    fn an_address_has_its_own_rate_and_the_table_is_bounded() {
        let mut rate = Rate::default();
        let now = Instant::now();
        let [one, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let allowed = (0..1000).filter(|_| rate.allows(one, now)).count();
        assert_eq!(allowed, BURST as usize);
        assert!(rate.allows(other, now));
        let allowed = (0..1000).filter(|_| rate.allows(one, now + Duration::from_secs(1))).count();
        assert_eq!(allowed, PER_SECOND as usize);

        for index in 0..2 * ADDRESSES as u32 {
            rate.allows(IpAddr::from((index + 1_000_000).to_be_bytes()), now);
        }
        assert_eq!(rate.left.len(), ADDRESSES);
        let later = now + Duration::from_secs(60);
        assert!(rate.allows(IpAddr::from([9, 9, 9, 9]), later));
        assert_eq!(rate.left.len(), 1);
    }
}
