//! Where Secrets may be read. What lies elsewhere is to this program as if it did not exist, but whoever refers to it is told so.

use std::collections::BTreeSet;

use portcullis_api::Foreign;
use portcullis_api::meta::LabelSelector;

use crate::snapshot::Snapshot;

/// The namespaces whose Secrets may be read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum SecretNamespaces {
    /// All.
    #[default]
    All,
    /// These.
    Listed(BTreeSet<String>),
    /// Those that are chosen by their labels, for as long as they are.
    Labelled(LabelSelector),
}

impl SecretNamespaces {
    /// Why no Secret of a namespace may be read, and what to do, if that is so.
    pub(crate) fn refusal(&self, snapshot: &Snapshot, namespace: &str) -> Option<String> {
        let shown = Foreign(namespace);
        match self {
            Self::All => None,
            Self::Listed(listed) if listed.contains(namespace) => None,
            Self::Listed(_) => Some(format!(
                "Secrets of the namespace {shown} are not read; add it to secretAccess.namespaces of the chart, or move the Secret \
                 to a namespace that is listed there",
            )),
            Self::Labelled(selector) => {
                let (labels, _) = snapshot.namespace_labels(namespace);
                if selector.matches(&labels).unwrap_or(false) {
                    return None;
                }
                let wanted: Vec<_> = selector
                    .match_labels
                    .iter()
                    .map(|(key, value)| format!("{}={}", Foreign(key), Foreign(value)))
                    .collect();
                Some(format!(
                    "Secrets of the namespace {shown} are not read; bind the ClusterRole portcullis-secret-reader to the controller \
                     there, and give the namespace the label {}",
                    wanted.join(","),
                ))
            }
        }
    }

    /// Whether the labels of a namespace decide it.
    pub(crate) const fn follow_labels(&self) -> bool {
        matches!(self, Self::Labelled(_))
    }
}
