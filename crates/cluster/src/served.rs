//! What an API server serves of the kinds that come from CustomResourceDefinitions.

use portcullis_api::{EXPERIMENTAL_GATEWAY_GROUP, GATEWAY_GROUP};

use crate::kinds::KindId;

/// The kinds of the Gateway API and our own that are served, whether they are read here or not. Equal if nothing changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServedSchema {
    /// In the order of group and kind.
    pub kinds: Vec<ServedKind>,
}

/// A kind that is served.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServedKind {
    /// The API group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The resource, as in `httproutes`.
    pub resource: String,
    /// The versions, the highest first.
    pub versions: Vec<String>,
    /// From where it comes.
    pub definition: Definition,
}

/// What the CustomResourceDefinition of a kind says about itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Definition {
    /// It may not be read, or has not been seen yet.
    Unknown,
    /// It is there.
    Known {
        /// The annotation `gateway.networking.k8s.io/bundle-version`, as in `v1.7.0`.
        bundle_version: Option<String>,
        /// The annotation `gateway.networking.k8s.io/channel`: `standard` or `experimental`.
        channel: Option<String>,
    },
}

impl ServedSchema {
    /// A kind, if it is served.
    pub fn kind(&self, group: &str, kind: &str) -> Option<&ServedKind> {
        self.kinds.iter().find(|served| served.group == group && served.kind == kind)
    }

    /// Whether a kind is served in a version.
    pub fn serves(&self, group: &str, kind: &str, version: &str) -> bool {
        self.kind(group, kind).is_some_and(|served| served.versions.iter().any(|served| served == version))
    }

    /// Whether a kind of ours to read is served.
    pub fn serves_kind(&self, kind: KindId) -> bool {
        self.kind(kind.group, kind.kind).is_some()
    }

    /// The kinds of the Gateway API, those of the experimental group included.
    pub fn gateway_api(&self) -> impl Iterator<Item = &ServedKind> {
        self.kinds.iter().filter(|kind| kind.group == GATEWAY_GROUP || kind.group == EXPERIMENTAL_GATEWAY_GROUP)
    }
}

impl ServedKind {
    /// Whether fields and values of the experimental channel exist: without a word about the channel they don't, for the
    /// API server prunes what its schema does not know.
    pub fn is_experimental(&self) -> bool {
        matches!(&self.definition, Definition::Known { channel: Some(channel), .. } if channel == "experimental")
    }

    /// The release of the Gateway API from which the definition comes, as in `v1.7.0`.
    pub fn bundle_version(&self) -> Option<&str> {
        match &self.definition {
            Definition::Known { bundle_version, .. } => bundle_version.as_deref(),
            Definition::Unknown => None,
        }
    }
}
