//! What is to be told about which object, and when. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use portcullis_api::{Change, EXPERIMENTAL_GATEWAY_GROUP, GATEWAY_GROUP, ObjectKey};
use portcullis_compile::{Finding, FindingCode, FindingsChange};
use tokio::time::Instant;

/// What goes away sooner is not told: objects that belong together seldom come together.
pub(super) const SETTLE: Duration = Duration::from_secs(10);

/// Most findings about one object, and about the objects of one namespace, that are told.
const OF_OBJECT: usize = 8;
const OF_NAMESPACE: usize = 200;

/// Most findings in all.
const ALL: usize = 10_000;

pub(super) struct Table {
    settle: Duration,
    /// The objects that may have findings.
    objects: BTreeMap<ObjectKey, Identity>,
    findings: BTreeMap<ObjectKey, Vec<Item>>,
    /// The same, in the order of their time.
    due: BTreeSet<(Instant, Arc<Finding>)>,
    /// How many of them are about objects of a namespace, and about all.
    of_namespace: BTreeMap<Box<str>, usize>,
    all: usize,
    leading: bool,
}

/// Which object it is, as an Event names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    api_version: Box<str>,
    uid: Box<str>,
}

struct Item {
    finding: Arc<Finding>,
    /// Nothing while it is being told.
    due: Option<Instant>,
}

/// Something to be told now.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) finding: Arc<Finding>,
    pub(super) api_version: Box<str>,
    pub(super) uid: Box<str>,
}

impl Table {
    pub(super) fn new(settle: Duration) -> Self {
        Self {
            settle,
            objects: BTreeMap::new(),
            findings: BTreeMap::new(),
            due: BTreeSet::new(),
            of_namespace: BTreeMap::new(),
            all: 0,
            leading: false,
        }
    }

    pub(super) fn lead(&mut self, leading: bool) {
        self.leading = leading;
    }

    /// An object changed. One that was made anew under its name is another one, about which nothing has been told.
    pub(super) fn object(&mut self, change: &Change, now: Instant) {
        let object = match change {
            Change::Upsert(object) => object,
            Change::Delete(key) => return drop(self.objects.remove(key)),
        };
        let key = object.key();
        if !may_have_findings(&key) {
            return;
        }
        let uid = object.metadata().uid.as_deref().unwrap_or_default();
        let identity = Identity { api_version: object.api_version().into(), uid: uid.into() };
        let is_other = self.objects.get(&key).is_none_or(|known| known.uid != identity.uid);
        self.objects.insert(key.clone(), identity);
        if is_other && let Some(items) = self.findings.get_mut(&key) {
            for item in items {
                item.set_due(&mut self.due, Some(now + self.settle));
            }
        }
    }

    /// Everything that is found about an object now. Gives how many findings there is no room for.
    pub(super) fn findings(&mut self, change: FindingsChange, now: Instant) -> usize {
        let FindingsChange { key, findings } = change;
        let mut before = self.findings.remove(&key).unwrap_or_default();
        let told: Vec<_> = findings.into_iter().filter(|finding| is_told(finding.code)).collect();
        if before.is_empty() && told.is_empty() {
            return 0;
        }
        let of_namespace = self.of_namespace.remove(key.namespace()).unwrap_or_default() - before.len();
        self.all -= before.len();
        let room = OF_OBJECT.min(OF_NAMESPACE.saturating_sub(of_namespace)).min(ALL.saturating_sub(self.all));
        let left_out = told.len().saturating_sub(room);

        let mut items = Vec::new();
        for finding in told.into_iter().take(room) {
            items.push(match before.iter().position(|item| *item.finding == finding) {
                Some(index) => before.swap_remove(index),
                None => {
                    let mut item = Item { finding: Arc::new(finding), due: None };
                    item.set_due(&mut self.due, Some(now + self.settle));
                    item
                }
            });
        }
        before.iter_mut().for_each(|gone| gone.set_due(&mut self.due, None));
        self.all += items.len();
        if of_namespace + items.len() > 0 {
            self.of_namespace.insert(key.namespace().into(), of_namespace + items.len());
        }
        if !items.is_empty() {
            self.findings.insert(key, items);
        }
        left_out
    }

    /// What is to be told now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Job> {
        while self.leading && self.due.first().is_some_and(|(due, _)| *due <= now) {
            let (_, finding) = self.due.pop_first()?;
            let Some(item) = self.item(&finding) else { continue };
            item.due = None;
            match self.objects.get(&finding.object) {
                Some(Identity { api_version, uid }) if !uid.is_empty() => {
                    return Some(Job { api_version: api_version.clone(), uid: uid.clone(), finding });
                }
                _ => {}
            }
        }
        None
    }

    /// It was told, or not: when it is to be told again.
    pub(super) fn done(&mut self, job: &Job, again: Instant) {
        let mut due = std::mem::take(&mut self.due);
        // One that is due has become another object's while it was told, or was away in between.
        if let Some(item) = self.item(&job.finding).filter(|item| item.due.is_none()) {
            item.set_due(&mut due, Some(again));
        }
        self.due = due;
    }

    /// When something is to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.first().filter(|_| self.leading).map(|(due, _)| *due)
    }

    fn item(&mut self, finding: &Arc<Finding>) -> Option<&mut Item> {
        self.findings.get_mut(&finding.object)?.iter_mut().find(|item| item.finding == *finding)
    }
}

impl Item {
    fn set_due(&mut self, all: &mut BTreeSet<(Instant, Arc<Finding>)>, due: Option<Instant>) {
        if let Some(before) = std::mem::replace(&mut self.due, due) {
            all.remove(&(before, self.finding.clone()));
        }
        if let Some(due) = due {
            all.insert((due, self.finding.clone()));
        }
    }
}

/// Kinds about which something is told; all of them are in namespaces.
fn may_have_findings(key: &ObjectKey) -> bool {
    let group = [GATEWAY_GROUP, EXPERIMENTAL_GATEWAY_GROUP].contains(&key.group()) || key.group().is_empty();
    group && !key.namespace().is_empty() && !["Secret", "ConfigMap", "ReferenceGrant", "Pod"].contains(&key.kind())
}

/// Whether a finding becomes an Event. A condition says that a hostname is shared. Whether a Gateway of another namespace exists, and what
/// the objects there refer to, is not for everyone who can write a route or a grant. The others are about folders.
fn is_told(code: FindingCode) -> bool {
    match code {
        FindingCode::CertificateExpired
        | FindingCode::CertificateExpiresSoon
        | FindingCode::CertificateNotYetValid
        | FindingCode::HostnameNotCovered
        | FindingCode::HostnameNotServed
        | FindingCode::NoEndpoints
        | FindingCode::DuplicateIgnored
        | FindingCode::NotSupported => true,
        FindingCode::HostnameShared
        | FindingCode::ParentNotFound
        | FindingCode::ReferenceGrantUnused
        | FindingCode::EndpointIgnored
        | FindingCode::GatewayClassAssumed
        | FindingCode::GatewayClassForeign
        | FindingCode::NamespaceUndeclared
        | FindingCode::FieldIgnored => false,
    }
}
