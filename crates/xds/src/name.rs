//! How types and resources are named on the stream.

use crate::ConfigVersion;
use portcullis_model::{ObjectName, ResourceKey, ResourceKeyError, ResourceKind};
use serde::{Deserialize, Serialize};

/// The path of the one method, for a request of gRPC.
pub const METHOD_PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// The type of [`Commit`].
pub const COMMIT_TYPE_URL: &str = "type.portcullis.dev/portcullis.model.v1.Commit";

/// What every type's URL begins with.
pub(crate) const TYPE_URL_PREFIX: &str = "type.portcullis.dev/portcullis.model.v1.";

/// The name of the Gateway's own piece, after `NAMESPACE/GATEWAY/`.
pub(crate) const GATEWAY: &str = "gateway";

/// The name of the commit, after `NAMESPACE/GATEWAY/`.
pub(crate) const COMMIT: &str = "commit";

/// The URL of a kind's type.
pub fn type_url(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Gateway => "type.portcullis.dev/portcullis.model.v1.Gateway",
        ResourceKind::Listener => "type.portcullis.dev/portcullis.model.v1.Listener",
        ResourceKind::Route => "type.portcullis.dev/portcullis.model.v1.Route",
        ResourceKind::Backend => "type.portcullis.dev/portcullis.model.v1.Backend",
        ResourceKind::Endpoints => "type.portcullis.dev/portcullis.model.v1.Endpoints",
        ResourceKind::Certificate => "type.portcullis.dev/portcullis.model.v1.Certificate",
    }
}

/// The end of a generation: what was sent before it is to be served as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Commit {
    /// The version of all that the client then holds.
    pub version: ConfigVersion,
    /// The `metadata.generation` of the Gateway that this was made of.
    pub gateway_generation: i64,
    /// How many resources the client then holds, the commit not counted.
    pub resources: usize,
}

/// A piece of one Gateway's configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PieceKey {
    /// The Gateway itself.
    Gateway,
    /// Everything else.
    Keyed(ResourceKey),
}

impl PieceKey {
    pub(crate) fn kind(&self) -> ResourceKind {
        match self {
            Self::Gateway => ResourceKind::Gateway,
            Self::Keyed(key) => key.kind(),
        }
    }

    /// The name on the stream.
    pub(crate) fn name(&self, gateway: &ObjectName) -> String {
        match self {
            Self::Gateway => format!("{gateway}/{GATEWAY}"),
            Self::Keyed(key) => format!("{gateway}/{key}"),
        }
    }

    /// Reads the part of a name after `NAMESPACE/GATEWAY/`.
    pub(crate) fn parse(text: &str) -> Result<Self, ResourceKeyError> {
        if text == GATEWAY { Ok(Self::Gateway) } else { text.parse().map(Self::Keyed) }
    }
}

/// What all names of a Gateway's resources begin with.
pub(crate) fn prefix(gateway: &ObjectName) -> String {
    format!("{gateway}/")
}

/// The name that stands for all of a Gateway's resources.
pub(crate) fn wildcard(gateway: &ObjectName) -> String {
    format!("{gateway}/*")
}
