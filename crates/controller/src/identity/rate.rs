//! What one address may have, so that the others have theirs: connections, questions to the API server, and lines of the log for all together.
//!
//! In flow addresses of accepted connections; out flows whether a handshake or a question may begin, or when. The tables are bounded; when
//! one is full of addresses that are all at their limit, new ones wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Addresses that are remembered.
const ADDRESSES: usize = 4096;

/// What may happen by address and time. Many pods may stand behind one address of a node.
pub(crate) struct Rate {
    /// What is left of the burst, and when that was reckoned.
    left: HashMap<IpAddr, (f64, Instant)>,
    /// At once.
    burst: f64,
    /// And after that.
    per_second: f64,
}

impl Rate {
    /// New connections.
    pub(crate) fn of_connections() -> Self {
        Self { left: HashMap::new(), burst: 256.0, per_second: 64.0 }
    }

    /// Questions to the API server: a pod has one every half hour when all is well.
    pub(crate) fn of_questions() -> Self {
        Self { left: HashMap::new(), burst: 128.0, per_second: 4.0 }
    }

    /// True when it may happen now for this address, which counts.
    pub(crate) fn allows(&mut self, address: IpAddr, now: Instant) -> bool {
        let (burst, per_second) = (self.burst, self.per_second);
        let refilled = |(left, at): (f64, Instant)| {
            (left + now.saturating_duration_since(at).as_secs_f64() * per_second).min(burst)
        };
        if self.left.len() >= ADDRESSES && !self.left.contains_key(&address) {
            self.left.retain(|_, state| refilled(*state) < burst);
            if self.left.len() >= ADDRESSES {
                return false;
            }
        }
        let state = self.left.entry(address).or_insert((burst, now));
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

/// Turns at something of which there is little. An address has some of them at most, those that it waits for included, so that whoever comes
/// from elsewhere never waits behind more than these.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    /// Of addresses that have or want a turn, and some more. As large as what waits at most.
    by_address: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
    each: usize,
}

/// A turn, until this is dropped.
pub(crate) struct Turn {
    _of_address: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Turns {
    /// This many at a time in all, and for one address.
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), by_address: Mutex::default(), each }
    }

    /// Waits for a turn. `None` never comes: the semaphores are not closed.
    pub(crate) async fn take(&self, address: IpAddr) -> Option<Turn> {
        let of_address = self.of(address).acquire_owned().await.ok()?;
        let of_all = self.all.clone().acquire_owned().await.ok()?;
        Some(Turn { _of_address: of_address, _of_all: of_all })
    }

    fn of(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has or wants a turn holds it, too.
        by_address.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        by_address.entry(address).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

/// Lines that may be written at once, and per second after that.
const LINES: f64 = 32.0;
const LINES_PER_SECOND: f64 = 1.0;

/// Lines of the log about what others can make happen as often as they like. What is left out is counted in the next line.
#[derive(Default)]
pub(crate) struct Lines(Mutex<Pace>);

impl Lines {
    /// How many lines were left out since the last one, if there may be one now, which counts.
    pub(crate) fn next(&self) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next(Instant::now())
    }
}

struct Pace {
    left: f64,
    at: Option<Instant>,
    left_out: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { left: LINES, at: None, left_out: 0 }
    }
}

impl Pace {
    fn next(&mut self, now: Instant) -> Option<u64> {
        let passed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.left = (self.left + passed * LINES_PER_SECOND).min(LINES);
        if self.left < 1.0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1.0;
        Some(std::mem::take(&mut self.left_out))
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
        let mut told = |seconds| {
            let at = now + Duration::from_secs(seconds);
            let lines: Vec<_> = (0..10_000).filter_map(|_| pace.next(at)).collect();
            (lines.len(), lines.iter().sum::<u64>())
        };
        assert_eq!(told(0), (LINES as usize, 0));
        assert_eq!(told(3), (3, 10_000 - LINES as u64));
        assert_eq!(told(3600), (LINES as usize, 10_000 - 3));
    }

    #[tokio::test]
    async fn who_takes_all_turns_keeps_nobody_else_waiting() {
        let turns = Arc::new(Turns::new(4, 2));
        let [noisy, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move {
                    let _turn = turns.take(noisy).await;
                    std::future::pending::<()>().await;
                })
            })
            .collect();
        tokio::task::yield_now().await;
        let first = tokio::time::timeout(Duration::from_secs(30), turns.take(other)).await.expect("a turn");
        let second = tokio::time::timeout(Duration::from_secs(30), turns.take(other)).await.expect("a turn");
        assert!(first.is_some() && second.is_some());
        assert!(tokio::time::timeout(Duration::from_millis(10), turns.take(other)).await.is_err(), "it has its own");
        drop((first, second));
        for task in waiting {
            task.abort();
            let _ = task.await;
        }
        drop(turns.take(other).await);
        assert_eq!(turns.by_address.lock().unwrap().len(), 1, "who wants nothing is forgotten");
    }

    #[test]
    fn an_address_has_its_own_rate_and_the_table_is_bounded() {
        let mut rate = Rate::of_connections();
        let now = Instant::now();
        let [one, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let allowed = (0..1000).filter(|_| rate.allows(one, now)).count();
        assert_eq!(allowed, 256);
        assert!(rate.allows(other, now));
        let allowed = (0..1000).filter(|_| rate.allows(one, now + Duration::from_secs(1))).count();
        assert_eq!(allowed, 64);

        for index in 0..2 * ADDRESSES as u32 {
            rate.allows(IpAddr::from((index + 1_000_000).to_be_bytes()), now);
        }
        assert_eq!(rate.left.len(), ADDRESSES);
        let later = now + Duration::from_secs(60);
        assert!(rate.allows(IpAddr::from([9, 9, 9, 9]), later));
        assert_eq!(rate.left.len(), 1);
    }
}
