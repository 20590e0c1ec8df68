//! Which endpoint gets a request: the one with fewer open requests of two drawn at random.
//!
//! In flow a backend's endpoints, the addresses that this request tried already, and randomness. Out flows an endpoint, or
//! none when there is none. Endpoints that refused a connection a moment ago, and those tried already, are taken only when
//! nothing else is left. Counts are this worker's own, so with few connections the view is coarse.

use super::endpoints::Endpoint;
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How an endpoint is chosen.
pub(crate) struct Picker<'a> {
    /// Tried already by this request.
    pub(crate) tried: &'a [SocketAddr],
    /// How long an endpoint that could not be reached is avoided.
    pub(crate) failure_memory: Duration,
}

impl Picker<'_> {
    /// Chooses; `None` only if there are no endpoints.
    pub(crate) fn pick<'e>(
        &self,
        endpoints: &'e [Rc<Endpoint>],
        random: &mut fastrand::Rng,
    ) -> Option<&'e Rc<Endpoint>> {
        match endpoints {
            [] => None,
            [only] => Some(only),
            _ => {
                let chosen = less_loaded(endpoints, random)?;
                if self.is_good(chosen) { Some(chosen) } else { self.pick_carefully(endpoints, random) }
            }
        }
    }

    /// Whether an endpoint is left that this request has not tried.
    pub(crate) fn has_untried(&self, endpoints: &[Rc<Endpoint>]) -> bool {
        endpoints.iter().any(|endpoint| !self.tried.contains(&endpoint.address))
    }

    fn pick_carefully<'e>(
        &self,
        endpoints: &'e [Rc<Endpoint>],
        random: &mut fastrand::Rng,
    ) -> Option<&'e Rc<Endpoint>> {
        let matching = |wanted: &dyn Fn(&Endpoint) -> bool| -> SmallVec<[&'e Rc<Endpoint>; 16]> {
            endpoints.iter().filter(|endpoint| wanted(endpoint)).collect()
        };
        let mut candidates = matching(&|endpoint| self.is_good(endpoint));
        if candidates.is_empty() {
            candidates = matching(&|endpoint| !self.tried.contains(&endpoint.address));
        }
        if candidates.is_empty() {
            candidates = endpoints.iter().collect();
        }
        let (one, other) = (random.usize(..candidates.len()), random.usize(..candidates.len()));
        let (one, other) = (*candidates.get(one)?, *candidates.get(other)?);
        Some(if other.open_requests() < one.open_requests() { other } else { one })
    }

    fn is_good(&self, endpoint: &Endpoint) -> bool {
        let failed = endpoint.failed_at().is_some_and(|at| Instant::now().duration_since(at) < self.failure_memory);
        !failed && !endpoint.is_refused() && !self.tried.contains(&endpoint.address)
    }
}

/// Draws two different ones.
fn less_loaded<'e>(endpoints: &'e [Rc<Endpoint>], random: &mut fastrand::Rng) -> Option<&'e Rc<Endpoint>> {
    let one = random.usize(..endpoints.len());
    let step = random.usize(1..endpoints.len());
    let one = (endpoints.get(one)?, endpoints.get((one + step) % endpoints.len())?);
    Some(if one.1.open_requests() < one.0.open_requests() { one.1 } else { one.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::endpoints::{Known, OpenRequest};
    use portcullis_model::BackendProtocol;

    const MEMORY: Duration = Duration::from_secs(3600);

    fn endpoints(count: u16) -> Vec<Rc<Endpoint>> {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        (1..=count)
            .map(|port| Rc::new(Endpoint::new(address(port), BackendProtocol::Http1, false, Known::default())))
            .collect()
    }

    fn picked(picker: &Picker<'_>, endpoints: &[Rc<Endpoint>], times: usize) -> Vec<usize> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; endpoints.len()];
        for _ in 0..times {
            let chosen = picker.pick(endpoints, &mut random).unwrap();
            counts[usize::from(chosen.address.port()) - 1] += 1;
        }
        counts
    }

    #[test]
    fn nothing_to_choose_from() {
        let picker = Picker { tried: &[], failure_memory: MEMORY };
        assert!(picker.pick(&[], &mut fastrand::Rng::with_seed(1)).is_none());
        assert_eq!(picked(&picker, &endpoints(1), 3), [3]);
    }

    #[test]
    fn equal_load_is_shared_and_the_busiest_gets_nothing() {
        let endpoints = endpoints(4);
        let picker = Picker { tried: &[], failure_memory: MEMORY };
        assert!(picked(&picker, &endpoints, 4000).iter().all(|count| (800..1200).contains(count)));
        let _open = OpenRequest::new(endpoints[2].clone());
        let counts = picked(&picker, &endpoints, 4000);
        assert_eq!(counts[2], 0, "of any two, it is the busier one");
    }

    #[test]
    fn tried_and_unreachable_ones_come_last() {
        let endpoints = endpoints(3);
        let tried = [endpoints[0].address];
        let picker = Picker { tried: &tried, failure_memory: MEMORY };
        endpoints[1].mark_failed();
        assert_eq!(picked(&picker, &endpoints, 50), [0, 0, 50]);
        endpoints[2].mark_failed();
        let counts = picked(&picker, &endpoints, 50);
        assert_eq!(counts[0], 0, "an unreachable one rather than one tried already");
        let all: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
        let picker = Picker { tried: &all, failure_memory: MEMORY };
        assert_eq!(picked(&picker, &endpoints, 50).iter().sum::<usize>(), 50);
        assert!(!picker.has_untried(&endpoints));
    }

    #[test]
    fn a_failure_is_forgotten() {
        let endpoints = endpoints(2);
        endpoints[0].mark_failed();
        let picker = Picker { tried: &[], failure_memory: Duration::ZERO };
        assert!(picked(&picker, &endpoints, 50).iter().all(|count| *count > 0));
        endpoints[0].mark_reached();
        assert_eq!(endpoints[0].failed_at(), None);
    }
}
