//! Smooth weighted round robin.

/// Chooses among weighted backends so that any run of choices as long as the sum of the weights (divided by their
/// greatest common divisor) has exact shares, spread evenly.
///
/// Each choice adds to every backend its weight, takes the one with the most, and takes the sum of weights from it.
#[derive(Clone, Debug)]
pub struct WeightedRoundRobin {
    /// Weight and what has been gathered, per backend.
    backends: Box<[(i64, i64)]>,
    total: i64,
}

/// The phase is found by choosing; more than this many choices make no better start.
const MAX_PHASE: u64 = 1024;

impl WeightedRoundRobin {
    /// Starts at a phase: any number, so that many proxies do not begin with the same backend.
    pub fn new(weights: impl IntoIterator<Item = u32>, phase: u64) -> Self {
        let weights: Vec<u32> = weights.into_iter().collect();
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
        let backends: Box<[_]> = weights.iter().map(|weight| (i64::from(weight / divisor), 0)).collect();
        let total = backends.iter().map(|(weight, _)| weight).sum();
        let mut choices = Self { backends, total };
        let period = u64::try_from(total).unwrap_or(1).clamp(1, MAX_PHASE);
        for _ in 0..phase % period {
            choices.choose();
        }
        choices
    }

    /// The next choice, an index; `None` when no weight is above zero.
    pub fn choose(&mut self) -> Option<usize> {
        let mut best: Option<(usize, i64)> = None;
        for (at, (weight, gathered)) in self.backends.iter_mut().enumerate().filter(|(_, (weight, _))| *weight > 0) {
            *gathered += *weight;
            if best.is_none_or(|(_, most)| *gathered > most) {
                best = Some((at, *gathered));
            }
        }
        let (at, _) = best?;
        self.backends[at].1 -= self.total;
        Some(at)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    match b {
        0 => a,
        _ => greatest_common_divisor(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::WeightedRoundRobin;
    use proptest::prelude::*;

    #[test]
    fn choices_are_spread_evenly() {
        let mut choices = WeightedRoundRobin::new([5, 1, 1], 0);
        assert_eq!((0..7).filter_map(|_| choices.choose()).collect::<Vec<_>>(), [0, 0, 1, 0, 2, 0, 0]);
        let mut halves = WeightedRoundRobin::new([50, 50], 1);
        assert_eq!((0..4).filter_map(|_| halves.choose()).collect::<Vec<_>>(), [1, 0, 1, 0]);
    }

    #[test]
    fn zero_weights_are_never_chosen() {
        let mut choices = WeightedRoundRobin::new([0, 1, 0], 7);
        assert_eq!((0..3).map(|_| choices.choose()).collect::<Vec<_>>(), [Some(1); 3]);
        assert_eq!(WeightedRoundRobin::new([0, 0], 3).choose(), None);
        assert_eq!(WeightedRoundRobin::new([], 3).choose(), None);
    }

    #[test]
    fn large_weights_do_not_overflow() {
        let mut choices = WeightedRoundRobin::new([u32::MAX; 64].into_iter().chain([u32::MAX - 1]), u64::MAX);
        assert!((0..1000).all(|_| choices.choose().is_some()));
    }

    proptest! {
        #[test]
        fn shares_are_exact(weights in prop::collection::vec(0u32..12, 1..6), phase: u64) {
            let total: u32 = weights.iter().sum();
            let mut choices = WeightedRoundRobin::new(weights.iter().copied(), phase);
            for _ in 0..3 {
                let mut counts = vec![0; weights.len()];
                for _ in 0..total {
                    counts[choices.choose().unwrap()] += 1;
                }
                prop_assert_eq!(&counts, &weights);
            }
        }
    }
}
