//! Gateway (`gateway.networking.k8s.io/v1`, also served as `v1beta1`): listeners and addresses. [`Listener`] is also an
//! entry of a [`ListenerSet`](crate::listener_set::ListenerSet).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, Condition, KindName, LabelSelector, ObjectMeta};
use crate::shared::{
    GatewayDefaultScope, Hostname, HttpExternalAuthFilter, LocalObjectReference, ObjectReference, RouteGroupKind,
    SecretObjectReference, is_zero,
};
use crate::text::text_enum;

/// A place where traffic enters.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: GatewaySpec,
    /// What exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<GatewayStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a Gateway asks for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// The GatewayClass.
    pub gateway_class_name: String,
    /// Ports, protocols and hostnames; names are unique.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// Addresses asked for; empty leaves the choice to the implementation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<GatewaySpecAddress>,
    /// Labels, annotations and parameters for what is created for this Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infrastructure: Option<Box<GatewayInfrastructure>>,
    /// Which ListenerSets may add listeners (GEP-1713); absent means none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_listeners: Option<Box<AllowedListeners>>,
    /// TLS settings for all listeners and all backends (GEP-91, GEP-3155).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<GatewayTlsConfig>>,
    /// Whether routes without a parentRef attach here (GEP-3793).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_scope: Option<GatewayDefaultScope>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What exists of a Gateway.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Addresses in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<GatewayStatusAddress>,
    /// Accepted, Programmed, ResolvedRefs and others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// One entry for each listener of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerStatus>,
    /// How many ListenerSets were accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_listener_sets: Option<i32>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A port, a protocol and a hostname on which a Gateway accepts connections.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Unique in its Gateway or ListenerSet.
    pub name: String,
    /// Which names are served here; absent means all. Ignored for TCP and UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// 1 to 65535. Zero only where a `XListenerSet` of v1.4 leaves the choice to the implementation; never to be bound.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub port: i32,
    /// What is spoken here.
    pub protocol: ProtocolType,
    /// Certificates and mode, for HTTPS and TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Box<ListenerTlsConfig>>,
    /// Which routes may attach; absent means those of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<Box<AllowedRoutes>>,
    /// What runs before routes are matched (GEP-5224).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filters: Option<Box<ListenerFilters>>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The protocol of a listener. Names with a domain prefix are an implementation's own.
    pub enum ProtocolType {
        /// Cleartext HTTP/1.1 and HTTP/2.
        Http = "HTTP",
        /// HTTP over TLS that ends here.
        Https = "HTTPS",
        /// TLS, ended here or passed through.
        Tls = "TLS",
        /// TCP.
        Tcp = "TCP",
        /// UDP.
        Udp = "UDP",
    }
}

/// How a listener ends or passes through TLS.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTlsConfig {
    /// Default Terminate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<TlsModeType>,
    /// Certificates with their keys; needed for Terminate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificate_refs: Vec<SecretObjectReference>,
    /// Settings of an implementation, with domain-prefixed names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// Who ends TLS.
    pub enum TlsModeType {
        /// The Gateway.
        Terminate = "Terminate",
        /// The backend.
        Passthrough = "Passthrough",
    }
}

/// Which routes may attach to a listener.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowedRoutes {
    /// From where; absent means the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<RouteNamespaces>,
    /// Of which kinds; empty means those that fit the protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<RouteGroupKind>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// The namespaces from which something may attach.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteNamespaces {
    /// Default Same for routes, None for ListenerSets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<FromNamespaces>,
    /// Labels of the namespace, for `Selector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// How namespaces are chosen.
    pub enum FromNamespaces {
        /// Every namespace.
        All = "All",
        /// Those with the selector's labels.
        Selector = "Selector",
        /// The object's own.
        Same = "Same",
        /// No namespace.
        None = "None",
    }
}

/// Which ListenerSets may add listeners to a Gateway (GEP-1713).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowedListeners {
    /// From where; absent means from nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<RouteNamespaces>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What runs on a listener before routes are matched (GEP-5224, experimental).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerFilters {
    /// In this order, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<ListenerFilter>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One filter of a listener.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerFilter {
    /// Which of the members below is set.
    pub r#type: ListenerFilterType,
    /// Asks an authorization service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_auth: Option<Box<HttpExternalAuthFilter>>,
    /// A filter of an implementation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_ref: Option<LocalObjectReference>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The kind of a listener filter.
    pub enum ListenerFilterType {
        /// `externalAuth` is set.
        ExternalAuth = "ExternalAuth",
        /// `extensionRef` is set.
        ExtensionRef = "ExtensionRef",
    }
}

/// TLS settings of a whole Gateway.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayTlsConfig {
    /// Towards backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<GatewayBackendTls>,
    /// Towards clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frontend: Option<FrontendTlsConfig>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// TLS towards backends (GEP-3155).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayBackendTls {
    /// The certificate with which the Gateway presents itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretObjectReference>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Validation of client certificates (GEP-91).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTlsConfig {
    /// For every HTTPS port without an entry below.
    #[serde(default)]
    pub default: TlsConfig,
    /// Instead of the default, by port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_port: Vec<TlsPortConfig>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Client certificate settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsConfig {
    /// Absent: no client certificate is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<FrontendTlsValidation>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Client certificate settings of one port.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsPortConfig {
    /// The port of HTTPS listeners.
    pub port: i32,
    /// Replaces the default as a whole.
    #[serde(default)]
    pub tls: TlsConfig,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How client certificates are validated.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTlsValidation {
    /// ConfigMaps or ClusterTrustBundles with CA certificates.
    #[serde(default)]
    pub ca_certificate_refs: Vec<ObjectReference>,
    /// Default AllowValidOnly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<FrontendValidationModeType>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// What happens to clients without a valid certificate.
    pub enum FrontendValidationModeType {
        /// They are refused.
        AllowValidOnly = "AllowValidOnly",
        /// They are let in, and the Gateway says so in a condition.
        AllowInsecureFallback = "AllowInsecureFallback",
    }
}

/// An address that is asked for.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpecAddress {
    /// Default IPAddress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<AddressType>,
    /// Absent: any address of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// From where it must be reachable (GEP-5093, experimental).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routability: Option<AddressRoutability>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An address in use.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatusAddress {
    /// Default IPAddress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#type: Option<AddressType>,
    /// The address.
    pub value: String,
    /// From where it is reachable (GEP-5093, experimental).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routability: Option<AddressRoutability>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// The type of an address. Names with a domain prefix are an implementation's own.
    pub enum AddressType {
        /// An IPv4 or IPv6 address.
        IpAddress = "IPAddress",
        /// A DNS name.
        Hostname = "Hostname",
        /// A name that an implementation knows (deprecated).
        NamedAddress = "NamedAddress",
    }
}

text_enum! {
    /// From where an address is reachable (GEP-5093). Names with a domain prefix are an implementation's own.
    pub enum AddressRoutability {
        /// The implementation chooses.
        Default = "",
        /// From inside the cluster only.
        Cluster = "Cluster",
    }
}

/// What is put on the things that are created for a Gateway (GEP-1867).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayInfrastructure {
    /// Labels, at most 8.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, at most 8.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Settings of the implementation for this Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters_ref: Option<LocalObjectReference>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What exists of one listener.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: String,
    /// The port, in the status of a `XListenerSet` of v1.4 alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
    /// Kinds of routes that may attach. Present and empty means that none of the kinds asked for is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supported_kinds: Option<Vec<RouteGroupKind>>,
    /// How many accepted routes name this listener.
    #[serde(default)]
    pub attached_routes: i32,
    /// Accepted, Programmed, ResolvedRefs, Conflicted and others.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}
