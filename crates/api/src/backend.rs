//! XBackend (`gateway.networking.x-k8s.io/v1alpha1`, experimental): a destination with its protocol and TLS settings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backend_tls_policy::BackendTlsPolicyValidation;
use crate::extra::Extra;
use crate::meta::{ApiVersion, Condition, KindName, ObjectMeta};
use crate::shared::{Hostname, ParentReference, SecretObjectReference, SessionPersistence};
use crate::text::text_enum;

/// A destination.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct XBackend {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// What it is.
    pub spec: BackendSpec,
    /// What became of it, per ancestor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<BackendStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a backend is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendSpec {
    /// Which of the members below is set.
    pub r#type: BackendType,
    /// The port of every endpoint.
    pub port: BackendPort,
    /// For `ExternalHostname`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_hostname: Option<ExternalHostnameBackend>,
    /// For `EndpointSelector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_selector: Option<EndpointSelectorBackend>,
    /// Which requests go to the same endpoint (GEP-1619).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<Box<SessionPersistence>>,
    /// What is spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<BackendProtocol>,
    /// TLS towards it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The kind of a backend.
    pub enum BackendType {
        /// A host name outside of the cluster.
        ExternalHostname = "ExternalHostname",
        /// Pods with certain labels.
        EndpointSelector = "EndpointSelector",
    }
}

/// The port of a backend.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendPort {
    /// 1 to 65535; required by the CRD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A host elsewhere.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalHostnameBackend {
    /// Its name, never a wildcard.
    pub hostname: Hostname,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Pods of the same namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSelectorBackend {
    /// All of these labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// What a backend speaks.
    pub enum BackendProtocol {
        /// TCP without more.
        Tcp = "TCP",
        /// HTTP of any version.
        Http = "HTTP",
        /// HTTP/2.
        Http2 = "HTTP2",
        /// HTTP/1.1.
        Http11 = "HTTP11",
        /// HTTP/2 in cleartext.
        H2c = "H2C",
        /// Model Context Protocol.
        Mcp = "MCP",
        /// gRPC.
        Grpc = "GRPC",
        /// WebSocket over TLS.
        Wss = "WSS",
    }
}

/// TLS towards a backend.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// Who presents a certificate.
    pub mode: BackendTlsMode,
    /// The Gateway's own certificate, for `ClientAndServer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretObjectReference>,
    /// Which certificates are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<BackendTlsPolicyValidation>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// Who presents a certificate.
    pub enum BackendTlsMode {
        /// Nobody: cleartext.
        None = "None",
        /// The backend.
        ServerOnly = "ServerOnly",
        /// Both sides.
        ClientAndServer = "ClientAndServer",
    }
}

/// What became of a backend.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// One entry for each ancestor and controller.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<BackendAncestorStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What one controller made of a backend below one ancestor.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendAncestorStatus {
    /// Usually a Gateway.
    pub ancestor_ref: ParentReference,
    /// Who wrote this entry.
    pub controller_name: String,
    /// Accepted and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
