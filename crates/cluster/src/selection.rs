//! What is to be read of a cluster.

use std::collections::BTreeMap;

use portcullis_api::meta::LabelSelector;

use crate::kinds::Reach;

/// What to read.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// From where.
    pub scope: Scope,
    /// Whether also the Deployments and Pods that a controller made for its Gateways (`app.kubernetes.io/managed-by: portcullis`).
    pub owned: bool,
}

/// From which namespaces.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The namespaces of everything that lies in namespaces.
    pub namespaces: Namespaces,
    /// The namespaces of Secrets: of those above, these.
    pub secrets: SecretAccess,
}

/// Namespaces.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Namespaces {
    /// All: needs a ClusterRole.
    #[default]
    All,
    /// These: needs a Role in each, and a watch of each kind for each.
    Listed(Vec<String>),
}

/// Where Secrets may be read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum SecretAccess {
    /// In the whole cluster.
    #[default]
    Cluster,
    /// In these namespaces.
    Namespaces(Vec<String>),
    /// In namespaces whose labels are chosen by this selector, from when they have them until they lose them.
    LabelledNamespaces(LabelSelector),
}

impl Namespaces {
    /// Whether objects of a namespace are read.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed(listed) => listed.iter().any(|listed| listed == namespace),
        }
    }
}

/// The places to list and watch, each with a watch of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Places {
    /// One for the whole cluster.
    Cluster,
    /// One for each of these namespaces.
    Namespaces(Vec<String>),
    /// One for each namespace that is chosen by its labels.
    Labelled,
}

impl Scope {
    pub(crate) fn places(&self, reach: Reach) -> Places {
        match (reach, &self.namespaces) {
            (Reach::Cluster, _) => Places::Cluster,
            (Reach::Namespaces, Namespaces::All) => Places::Cluster,
            (Reach::Namespaces, Namespaces::Listed(listed)) => Places::Namespaces(sorted(listed)),
            (Reach::SecretNamespaces, namespaces) => match (&self.secrets, namespaces) {
                (SecretAccess::Cluster, Namespaces::All) => Places::Cluster,
                (SecretAccess::Cluster, Namespaces::Listed(listed)) => Places::Namespaces(sorted(listed)),
                (SecretAccess::Namespaces(listed), namespaces) => {
                    let mut listed = sorted(listed);
                    listed.retain(|namespace| namespaces.contains(namespace));
                    Places::Namespaces(listed)
                }
                (SecretAccess::LabelledNamespaces(_), _) => Places::Labelled,
            },
        }
    }

    /// Whether a namespace with these labels is one whose Secrets may be read. An invalid selector chooses nothing.
    pub(crate) fn chooses(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        self.namespaces.contains(namespace)
            && match &self.secrets {
                SecretAccess::LabelledNamespaces(selector) => selector.matches(labels).unwrap_or(false),
                _ => false,
            }
    }
}

fn sorted(listed: &[String]) -> Vec<String> {
    let mut sorted = listed.to_vec();
    sorted.sort();
    sorted.dedup();
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn secrets_are_read_where_both_the_namespaces_and_the_access_say_so() {
        let labelled = SecretAccess::LabelledNamespaces(LabelSelector::default());
        for (namespaces, secrets, expected) in [
            (Namespaces::All, SecretAccess::Cluster, Places::Cluster),
            (
                Namespaces::Listed(listed(&["b", "a", "b"])),
                SecretAccess::Cluster,
                Places::Namespaces(listed(&["a", "b"])),
            ),
            (Namespaces::All, SecretAccess::Namespaces(listed(&["c"])), Places::Namespaces(listed(&["c"]))),
            (
                Namespaces::Listed(listed(&["a", "b"])),
                SecretAccess::Namespaces(listed(&["c", "b"])),
                Places::Namespaces(listed(&["b"])),
            ),
            (Namespaces::All, labelled.clone(), Places::Labelled),
        ] {
            assert_eq!(Scope { namespaces, secrets }.places(Reach::SecretNamespaces), expected);
        }
        let scope = Scope { namespaces: Namespaces::Listed(listed(&["a"])), secrets: labelled };
        assert!(scope.chooses("a", &BTreeMap::new()));
        assert!(!scope.chooses("b", &BTreeMap::new()));
    }
}
