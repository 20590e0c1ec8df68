//! ClusterTrustBundle (`certificates.k8s.io/v1beta1`, also served as `v1alpha1`): CA certificates for a whole cluster.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, KindName, ObjectMeta};

/// CA certificates, cluster scoped.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterTrustBundle {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// The certificates.
    pub spec: ClusterTrustBundleSpec,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// CA certificates and who signs with them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterTrustBundleSpec {
    /// The signer; absent for certificates of no signer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer_name: Option<String>,
    /// Certificates in PEM.
    pub trust_bundle: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
