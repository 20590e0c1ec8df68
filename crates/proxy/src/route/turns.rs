//! Whose turn it is among the backends of a rule.
//!
//! In flows a rule; out flows the place of a backend in its list. Smooth weighted round robin: shares are exact over any run
//! of requests as long as the sum of the weights. Each worker counts by itself, from a phase drawn at random, and goes on
//! where it was when the configuration changes, unless the rule's backends or weights did.

use portcullis_decide::{LinkedRule, RuleId, WeightedRoundRobin};
use portcullis_model::{BackendKey, ObjectName};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// The turns of all rules with more than one backend that had a request on this worker. A route may be attached to several
/// Gateways, where its backends need not come to the same.
#[derive(Default)]
pub(crate) struct Turns {
    gateways: RefCell<HashMap<ObjectName, Rules, foldhash::fast::RandomState>>,
}

type Rules = HashMap<RuleId, Turn, foldhash::fast::RandomState>;

struct Turn {
    /// The rule that the backends below were read from; the same piece has the same ones.
    rule: Weak<LinkedRule>,
    backends: Box<[(u32, Option<BackendKey>)]>,
    robin: WeightedRoundRobin,
    is_kept: bool,
}

impl Turns {
    /// The next one's place; `None` when no backend has a weight.
    pub(crate) fn next(
        &self,
        gateway: &ObjectName,
        rule: &Arc<LinkedRule>,
        random: &RefCell<fastrand::Rng>,
    ) -> Option<usize> {
        match &*rule.backends {
            [] => return None,
            [only] => return (only.weight > 0).then_some(0),
            _ => {}
        }
        let mut gateways = self.gateways.borrow_mut();
        if let Some(turn) = gateways.get_mut(gateway).and_then(|rules| rules.get_mut(&rule.id)) {
            turn.follow(rule, random);
            return turn.robin.choose();
        }
        let rules = gateways.entry(gateway.clone()).or_default();
        let turn = rules.entry(rule.id.clone()).or_insert_with(|| Turn::new(rule, random));
        turn.robin.choose()
    }

    /// Forgets rules that no configuration has held since the last call.
    pub(crate) fn sweep(&self) {
        self.gateways.borrow_mut().retain(|_, rules| {
            rules.retain(|_, turn| {
                // A rule that was linked anew keeps its turn if a request comes before the next sweep.
                std::mem::replace(&mut turn.is_kept, turn.rule.strong_count() > 0) || turn.rule.strong_count() > 0
            });
            !rules.is_empty()
        });
    }
}

impl Turn {
    fn new(rule: &Arc<LinkedRule>, random: &RefCell<fastrand::Rng>) -> Self {
        Self {
            rule: Arc::downgrade(rule),
            backends: backends(rule).collect(),
            robin: WeightedRoundRobin::new(
                rule.backends.iter().map(|backend| backend.weight),
                random.borrow_mut().u64(..),
            ),
            is_kept: true,
        }
    }

    fn follow(&mut self, rule: &Arc<LinkedRule>, random: &RefCell<fastrand::Rng>) {
        if self.rule.as_ptr() == Arc::as_ptr(rule) {
            return;
        }
        if backends(rule).eq(self.backends.iter().cloned()) {
            self.rule = Arc::downgrade(rule);
        } else {
            *self = Self::new(rule, random);
        }
    }
}

fn backends(rule: &LinkedRule) -> impl Iterator<Item = (u32, Option<BackendKey>)> + '_ {
    rule.backends.iter().map(|backend| (backend.weight, backend.target.as_ref().ok().cloned()))
}
