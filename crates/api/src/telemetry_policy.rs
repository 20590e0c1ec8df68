//! XTelemetryPolicy (`gateway.networking.x-k8s.io/v1alpha1`, experimental): traces of the traffic of a Gateway.

use serde::{Deserialize, Serialize};

use crate::extra::Extra;
use crate::meta::{ApiVersion, KindName, ObjectMeta};
use crate::shared::{BackendObjectReference, Fraction, HttpHeader, PolicyStatus, PolicyTargetReference};
use crate::text::text_enum;

/// What is traced, and where traces go.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct XTelemetryPolicy {
    /// The API version that the object was read from.
    pub api_version: ApiVersion,
    /// The kind, as the object spells it.
    pub kind: KindName,
    /// Name, namespace, labels and what else all objects have.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: TelemetryPolicySpec,
    /// What became of it, per ancestor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PolicyStatus>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What an XTelemetryPolicy asks for.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TelemetryPolicySpec {
    /// Gateways of the same namespace.
    #[serde(default)]
    pub target_refs: Vec<PolicyTargetReference>,
    /// Traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Box<TracingConfig>>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Traces.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TracingConfig {
    /// Default ImplementationDefault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<TelemetryMode>,
    /// Where they go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<TracingProvider>,
    /// Share of requests that are traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_rate: Option<Fraction>,
    /// Whether the caller's decision about a trace counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_based_sampling: Option<ParentBasedSampling>,
    /// Name of the service in spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// Name of spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_name: Option<String>,
    /// What is added to spans.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<TelemetryAttribute>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// Whether something is done.
    pub enum TelemetryMode {
        /// It is.
        Enabled = "Enabled",
        /// It is not.
        Disabled = "Disabled",
        /// The implementation chooses.
        ImplementationDefault = "ImplementationDefault",
    }
}

/// Where traces go.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TracingProvider {
    /// A collector that speaks OTLP.
    pub backend_ref: BackendObjectReference,
    /// Sent along with traces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HttpHeader>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Whether the caller's decision about a trace counts.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentBasedSampling {
    /// Default ImplementationDefault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<TelemetryMode>,
    /// Share of those requests whose caller decided for a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_rate: Option<Fraction>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// An attribute of a span.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TelemetryAttribute {
    /// Its name.
    pub name: String,
    /// Which of the members below is set.
    pub source_type: AttributeSourceType,
    /// The request header with the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_name: Option<String>,
    /// The value itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub literal_value: Option<String>,
    /// A known attribute with the value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute_key: Option<String>,
    /// Fields that these types do not know.
    #[serde(flatten)]
    pub extra: Extra,
}

text_enum! {
    /// Where the value of an attribute comes from.
    pub enum AttributeSourceType {
        /// `headerName` is set.
        Header = "Header",
        /// `literalValue` is set.
        Literal = "Literal",
        /// `attributeKey` is set.
        Attribute = "Attribute",
    }
}
