//! BackendTLSPolicy (`gateway.networking.k8s.io/v1`, also served as `v1alpha3`, GEP-1897): TLS towards a Service. The
//! shape of `v1alpha2` (release 1.0) differs and has a type of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, KindName, ObjectMeta};
use crate::shared::{Hostname, LocalObjectReference, PolicyStatus, PolicyTargetReference};
use crate::text::text_enum;

/// How a Gateway validates the certificate of a Service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicy {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: BackendTlsPolicySpec,
    /// What became of it, per Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PolicyStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a BackendTLSPolicy asks for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicySpec {
    /// Services of the same namespace, or ports of them, at most 16.
    #[serde(default)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// Which certificates are accepted.
    pub validation: BackendTlsPolicyValidation,
    /// Settings of an implementation, with domain-prefixed names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Which certificates of a backend are accepted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicyValidation {
    /// ConfigMaps or ClusterTrustBundles with CA certificates. Not together with `wellKnownCACertificates`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ca_certificate_refs: Vec<LocalObjectReference>,
    /// CA certificates that the implementation brings.
    #[serde(rename = "wellKnownCACertificates", skip_serializing_if = "Option::is_none")]
    pub well_known_ca_certificates: Option<WellKnownCaCertificatesType>,
    /// The server name that is sent, never a wildcard; also the name in the certificate when there are no
    /// `subjectAltNames`.
    pub hostname: Hostname,
    /// One of these must be in the certificate, instead of `hostname`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<SubjectAltName>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// CA certificates that an implementation brings.
    pub enum WellKnownCaCertificatesType {
        /// Those of the system.
        System = "System",
    }
}

/// A name in a certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubjectAltName {
    /// Which of the members below is set.
    pub r#type: SubjectAltNameType,
    /// A DNS name, perhaps with a wildcard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// A URI with a scheme, as of a SPIFFE identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The kind of a name in a certificate.
    pub enum SubjectAltNameType {
        /// `hostname` is set.
        Hostname = "Hostname",
        /// `uri` is set.
        Uri = "URI",
    }
}

/// A BackendTLSPolicy as release 1.0 had it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicyV1Alpha2 {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: BackendTlsPolicySpecV1Alpha2,
    /// What became of it, per Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PolicyStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a BackendTLSPolicy of release 1.0 asks for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicySpecV1Alpha2 {
    /// The Service.
    pub target_ref: PolicyTargetReferenceV1Alpha2,
    /// Which certificates are accepted.
    pub tls: BackendTlsPolicyConfigV1Alpha2,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a policy of release 1.0 covers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetReferenceV1Alpha2 {
    /// API group; empty is the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Default: the policy's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A port of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Which certificates of a backend are accepted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicyConfigV1Alpha2 {
    /// ConfigMaps with CA certificates. Not together with `wellKnownCACerts`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ca_cert_refs: Vec<CaCertReferenceV1Alpha2>,
    /// CA certificates that the implementation brings.
    #[serde(rename = "wellKnownCACerts", skip_serializing_if = "Option::is_none")]
    pub well_known_ca_certs: Option<WellKnownCaCertificatesType>,
    /// The server name that is sent, and the name in the certificate.
    pub hostname: Hostname,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// CA certificates of the same namespace. The CRD of release 1.0 wants a group, but manifests without one are about.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaCertReferenceV1Alpha2 {
    /// API group; empty or absent is the core group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
