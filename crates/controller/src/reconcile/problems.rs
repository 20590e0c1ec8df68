//! What cannot be read of the cluster. What was last read stays valid; this is how it is told.
//!
//! In flow the watch's word about kinds and objects. Out flow log lines, once for each problem, metrics, and a condition for the classes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use portcullis_api::meta::{Condition, ConditionStatus};
use portcullis_api::object::ObjectError;
use portcullis_api::{Change, Extra, ObjectKey};
use portcullis_cluster::{KindId, ReadError};
use portcullis_runtime::escape;
use portcullis_runtime::metrics::{Kind, MetricError, Registry};

/// The condition of a GatewayClass while a kind cannot be read.
const DEGRADED: &str = "portcullis.dev/Degraded";

/// The most objects that are remembered as unreadable; more are told in the log again and again.
const OBJECTS_LIMIT: usize = 10_000;

pub(super) struct Problems {
    kinds: BTreeMap<(KindId, Option<Arc<str>>), String>,
    objects: BTreeSet<ObjectKey>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default)]
struct Counts {
    kinds: Vec<KindId>,
    objects: usize,
}

impl Problems {
    pub(super) fn register(registry: &Registry) -> Result<Self, MetricError> {
        let counts = Arc::new(Mutex::new(Counts::default()));
        let (of_kinds, of_objects) = (counts.clone(), counts.clone());
        registry.collect(
            "portcullis_unreadable_kinds",
            "Kinds that cannot be read at the moment; what was last read of them stays valid.",
            Kind::Gauge,
            move |samples| {
                for kind in &lock(&of_kinds).kinds {
                    samples.add(&[("kind", kind.kind)], 1.0);
                }
            },
        )?;
        registry.collect(
            "portcullis_unreadable_objects",
            "Objects whose last version cannot be read; the version before it stays valid.",
            Kind::Gauge,
            move |samples| samples.add(&[], lock(&of_objects).objects as f64),
        )?;
        Ok(Self { kinds: BTreeMap::new(), objects: BTreeSet::new(), counts })
    }

    /// A kind cannot be read. Gives whether that is new.
    pub(super) fn unreadable(&mut self, kind: KindId, namespace: Option<Arc<str>>, error: &ReadError) -> bool {
        let message = error.to_string();
        let before = self.kinds.insert((kind, namespace), message.clone());
        if before.as_ref() == Some(&message) {
            return false;
        }
        tracing::warn!(%kind, error = %message, "a kind cannot be read; what was last read of it stays valid");
        self.count();
        before.is_none()
    }

    /// A kind can be read. Gives whether that is new.
    pub(super) fn listed(&mut self, kind: KindId) -> bool {
        let again = self.forget(kind);
        if again {
            tracing::info!(%kind, "the kind can be read again");
        }
        again
    }

    /// A kind is not served, so that there is nothing to read. Gives whether there was a problem with it.
    pub(super) fn absent(&mut self, kind: KindId) -> bool {
        tracing::info!(%kind, "the API server does not serve this kind");
        self.forget(kind)
    }

    /// An object cannot be read.
    pub(super) fn unparsable(&mut self, key: ObjectKey, error: &ObjectError) {
        tracing::warn!(object = %key, %error, "an object cannot be read; what was last read of it stays valid");
        if self.objects.len() < OBJECTS_LIMIT {
            self.objects.insert(key);
        }
        self.count();
    }

    /// Objects that came can be read, or are gone.
    pub(super) fn readable(&mut self, changes: &[Change]) {
        if self.objects.is_empty() {
            return;
        }
        for change in changes {
            match change {
                Change::Upsert(object) => self.objects.remove(&object.key()),
                Change::Delete(key) => self.objects.remove(key),
            };
        }
        self.count();
    }

    /// An object that is wanted lies where nothing may be read.
    pub(super) fn not_permitted(&self, key: &ObjectKey, error: &ReadError) {
        tracing::warn!(object = %key, %error, "an object that is referred to may not be read, and counts as absent");
    }

    /// What the classes say of this.
    pub(super) fn condition(&self, observed_generation: Option<i64>) -> Option<Condition> {
        let ((first, _), error) = self.kinds.first_key_value()?;
        let kinds: BTreeSet<_> = self.kinds.keys().map(|(kind, _)| kind).collect();
        let more = match kinds.len() {
            1 => String::new(),
            count => format!(", and {} more kinds", count - 1),
        };
        let error = escape::line(error);
        Some(Condition {
            r#type: DEGRADED.to_owned(),
            status: ConditionStatus::True,
            observed_generation,
            last_transition_time: None,
            reason: "KindUnreadable".to_owned(),
            message: format!("Changes are not seen of {first}{more}; what was last read stays valid. {error}"),
            extra: Extra::default(),
        })
    }

    fn forget(&mut self, kind: KindId) -> bool {
        let before = self.kinds.len();
        self.kinds.retain(|(known, _), _| *known != kind);
        self.count();
        self.kinds.len() != before
    }

    fn count(&self) {
        let kinds: BTreeSet<_> = self.kinds.keys().map(|(kind, _)| *kind).collect();
        let mut counts = lock(&self.counts);
        counts.kinds = kinds.into_iter().collect();
        counts.objects = self.objects.len();
    }
}

fn lock(counts: &Mutex<Counts>) -> std::sync::MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
