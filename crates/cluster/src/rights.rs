//! What a ServiceAccount must be allowed to do so that a selection can be read: the one table from which roles are made
//! and against which they are tested.
//!
//! Beyond it only discovery is asked for (`/api`, `/apis` and below), which `system:discovery` grants to everyone who is
//! authenticated.

use portcullis_api::meta::LabelSelector;

use crate::kinds::{Content, Reach, WATCHED};
use crate::selection::{Namespaces, Places, Scope, SecretAccess, Selection};

/// One resource, what is done with it, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Right {
    /// The API group; empty is the core group.
    pub group: &'static str,
    /// The resource, as in `httproutes`.
    pub resource: &'static str,
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// In which places.
    pub place: Place,
    /// Whether only for [`Selection::owned`].
    pub owned: bool,
}

/// In which places a right is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// In the cluster: a ClusterRole and ClusterRoleBinding in every mode.
    Cluster,
    /// Where [`Scope::namespaces`] says.
    Namespaces,
    /// Where [`Scope::secrets`] says.
    SecretNamespaces,
}

/// Listed and watched, whole or only metadata: for rights that is the same.
const LIST_AND_WATCH: &[&str] = &["list", "watch"];
/// Metadata are listed and watched, and what is wanted is read by name.
const READ: &[&str] = &["get", "list", "watch"];

/// Every right, in the order of the kinds.
pub const RIGHTS: &[Right] = &{
    let mut rights =
        [Right { group: "", resource: "", verbs: &[], place: Place::Cluster, owned: false }; WATCHED.len()];
    let mut index = 0;
    while index < WATCHED.len() {
        let watched = &WATCHED[index];
        rights[index] = Right {
            group: watched.id.group,
            resource: watched.resource,
            verbs: match watched.content {
                Content::Bodies => READ,
                Content::Objects | Content::Owned(_) | Content::Definitions => LIST_AND_WATCH,
            },
            place: match watched.reach {
                Reach::Cluster => Place::Cluster,
                Reach::Namespaces => Place::Namespaces,
                Reach::SecretNamespaces => Place::SecretNamespaces,
            },
            owned: matches!(watched.content, Content::Owned(_)),
        };
        index += 1;
    }
    rights
};

/// A rule, as for a Role or ClusterRole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The API group; empty is the core group.
    pub group: &'static str,
    /// The resource, as in `httproutes`.
    pub resource: &'static str,
    /// The verbs.
    pub verbs: &'static [&'static str],
    /// Where it has to hold.
    pub namespaces: Where,
}

/// Where a rule has to hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Where {
    /// In the whole cluster: a ClusterRoleBinding.
    Cluster,
    /// In these namespaces: a RoleBinding in each.
    Namespaces(Vec<String>),
    /// In namespaces with these labels, and among these if there are any: a RoleBinding in each, made by whoever
    /// puts the label there.
    Labelled(LabelSelector, Namespaces),
}

/// What a selection needs: nothing more is ever asked for.
pub fn rights(selection: &Selection) -> Vec<Rule> {
    RIGHTS
        .iter()
        .filter(|right| selection.owned || !right.owned)
        .map(|right| Rule {
            group: right.group,
            resource: right.resource,
            verbs: right.verbs,
            namespaces: right.place.resolve(&selection.scope),
        })
        .collect()
}

impl Place {
    fn resolve(self, scope: &Scope) -> Where {
        let reach = match self {
            Self::Cluster => Reach::Cluster,
            Self::Namespaces => Reach::Namespaces,
            Self::SecretNamespaces => Reach::SecretNamespaces,
        };
        match (scope.places(reach), &scope.secrets) {
            (Places::Cluster, _) => Where::Cluster,
            (Places::Namespaces(listed), _) => Where::Namespaces(listed),
            (Places::Labelled, SecretAccess::LabelledNamespaces(selector)) => {
                Where::Labelled(selector.clone(), scope.namespaces.clone())
            }
            (Places::Labelled, _) => Where::Namespaces(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_secrets_and_config_maps_is_read_by_name() {
        let rules = rights(&Selection { owned: true, ..Selection::default() });
        let by_name: Vec<_> =
            rules.iter().filter(|rule| rule.verbs.contains(&"get")).map(|rule| rule.resource).collect();
        assert_eq!(by_name, ["secrets", "configmaps"]);
        assert!(rules.iter().all(|rule| rule.namespaces == Where::Cluster));
    }

    #[test]
    fn with_listed_namespaces_only_cluster_scoped_kinds_are_read_in_the_cluster() {
        let selection = Selection {
            scope: Scope {
                namespaces: Namespaces::Listed(vec!["a".to_owned()]),
                secrets: SecretAccess::LabelledNamespaces(LabelSelector::default()),
            },
            owned: false,
        };
        let rules = rights(&selection);
        let cluster: Vec<_> =
            rules.iter().filter(|rule| rule.namespaces == Where::Cluster).map(|rule| rule.resource).collect();
        assert_eq!(cluster, ["customresourcedefinitions", "gatewayclasses", "namespaces", "nodes"]);
        let secrets = rules.iter().find(|rule| rule.resource == "secrets").unwrap();
        let expected = Where::Labelled(LabelSelector::default(), Namespaces::Listed(vec!["a".to_owned()]));
        assert_eq!(secrets.namespaces, expected);
        assert!(!rules.iter().any(|rule| rule.resource == "pods"));
    }
}
