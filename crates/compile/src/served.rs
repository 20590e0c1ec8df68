//! What an API server serves of the Gateway API: which release and which channel each kind's definition comes from. Features that the served
//! schema cannot express are not declared, whatever is implemented.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portcullis_api::GATEWAY_GROUP;

/// The Gateway API's kinds that an API server serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// By API group and kind.
    pub definitions: BTreeMap<(Arc<str>, Arc<str>), Definition>,
}

/// What the CustomResourceDefinition of a kind says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// The annotation `gateway.networking.k8s.io/bundle-version`, as in `v1.7.0`.
    pub bundle_version: Option<Arc<str>>,
    /// The annotation `gateway.networking.k8s.io/channel`.
    pub channel: Option<Arc<str>>,
}

/// A release of the Gateway API, as in `(1, 7)` for v1.7.0: its schema is the same in all of its patches.
pub(crate) type Release = (u32, u32);

/// The releases that are supported.
pub(crate) const OLDEST: Release = (1, 4);
pub(crate) const NEWEST: Release = (1, 7);

impl Definition {
    /// The release, unless it is none, or a development version.
    pub(crate) fn release(&self) -> Option<Release> {
        let version = self.bundle_version.as_deref()?.strip_prefix('v')?;
        let mut parts = version.split('.');
        let mut number = || parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok();
        let (major, minor, _patch): (u32, u32, u32) = (number()?, number()?, number()?);
        parts.next().is_none().then_some((major, minor))
    }

    /// Whether the fields and values of the experimental channel exist; the API server prunes them otherwise.
    pub(crate) fn is_experimental(&self) -> bool {
        self.channel.as_deref() == Some("experimental")
    }
}

impl Served {
    /// Puts in what is known of a kind.
    pub fn insert(&mut self, group: &str, kind: &str, definition: Definition) {
        self.definitions.insert((group.into(), kind.into()), definition);
    }

    /// A kind of the Gateway API.
    pub(crate) fn kind(&self, kind: &str) -> Option<&Definition> {
        self.definitions.get(&(Arc::from(GATEWAY_GROUP), Arc::from(kind)))
    }

    /// The releases that the kinds come from.
    pub(crate) fn versions(&self) -> BTreeSet<&str> {
        let of_gateway_api = self.definitions.iter().filter(|((group, _), _)| **group == *GATEWAY_GROUP);
        of_gateway_api.filter_map(|(_, definition)| definition.bundle_version.as_deref()).collect()
    }

    /// The kinds whose definitions are of no supported release, each with what they say.
    pub(crate) fn unsupported(&self) -> Vec<(&str, Option<&str>)> {
        let of_gateway_api = self.definitions.iter().filter(|((group, _), _)| **group == *GATEWAY_GROUP);
        let foreign = of_gateway_api
            .filter(|(_, definition)| definition.release().is_none_or(|release| !(OLDEST..=NEWEST).contains(&release)));
        foreign.map(|((_, kind), definition)| (&**kind, definition.bundle_version.as_deref())).collect()
    }
}
