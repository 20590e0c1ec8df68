//! Findings: what a user should know and no condition of the specification says.
//!
//! A finding names the object, the field, what is the matter and the remedy. Its code is stable and may be filtered for.

use std::fmt;

use portcullis_api::ObjectKey;
use serde::Serialize;

/// One thing that a user should know about an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// What kind of thing.
    pub code: FindingCode,
    /// How much it matters.
    pub severity: Severity,
    /// About which object.
    #[serde(serialize_with = "object_text")]
    pub object: ObjectKey,
    /// About which field, as in `spec.rules[0].filters[1]`; empty for the object as a whole.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What is the matter.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

fn object_text<S: serde::Serializer>(key: &ObjectKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Severity {
    /// Something does not do what its author will expect.
    Error,
    /// Something probably does not do what its author expects.
    Warning,
    /// Good to know.
    Info,
}

impl Severity {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "Error",
            Self::Warning => "Warning",
            Self::Info => "Info",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FindingCode {
    /// A GatewayClass that is named but absent was taken as ours, because a folder is not a cluster.
    GatewayClassAssumed,
    /// The Gateway's class belongs to another controller.
    GatewayClassForeign,
    /// A certificate's validity has ended; it is still served.
    CertificateExpired,
    /// A certificate's validity ends within 14 days.
    CertificateExpiresSoon,
    /// A certificate's validity has not begun.
    CertificateNotYetValid,
    /// No certificate of a listener covers the listener's hostname.
    HostnameNotCovered,
    /// A selector refuses a namespace whose labels nobody declared.
    NamespaceUndeclared,
    /// A parentRef names what does not exist.
    ParentNotFound,
    /// A hostname of a route is covered by no listener that the route is attached to.
    HostnameNotServed,
    /// A hostname of a route is served from other namespaces, too, by the same listener.
    HostnameShared,
    /// A ReferenceGrant permits nothing that any object refers to.
    ReferenceGrantUnused,
    /// A Service that routes name has no endpoint that takes requests.
    NoEndpoints,
    /// An endpoint that cannot be used.
    EndpointIgnored,
    /// A field that is ignored because something before it says the same.
    DuplicateIgnored,
    /// A field that has no effect here.
    FieldIgnored,
    /// A field or kind that is not supported yet.
    NotSupported,
}

impl FindingCode {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GatewayClassAssumed => "GatewayClassAssumed",
            Self::GatewayClassForeign => "GatewayClassForeign",
            Self::CertificateExpired => "CertificateExpired",
            Self::CertificateExpiresSoon => "CertificateExpiresSoon",
            Self::CertificateNotYetValid => "CertificateNotYetValid",
            Self::HostnameNotCovered => "HostnameNotCovered",
            Self::NamespaceUndeclared => "NamespaceUndeclared",
            Self::ParentNotFound => "ParentNotFound",
            Self::HostnameNotServed => "HostnameNotServed",
            Self::HostnameShared => "HostnameShared",
            Self::ReferenceGrantUnused => "ReferenceGrantUnused",
            Self::NoEndpoints => "NoEndpoints",
            Self::EndpointIgnored => "EndpointIgnored",
            Self::DuplicateIgnored => "DuplicateIgnored",
            Self::FieldIgnored => "FieldIgnored",
            Self::NotSupported => "NotSupported",
        }
    }

    /// How much findings of this code matter.
    pub fn severity(self) -> Severity {
        match self {
            Self::CertificateExpired | Self::NotSupported => Severity::Error,
            Self::GatewayClassAssumed | Self::FieldIgnored | Self::HostnameShared => Severity::Info,
            _ => Severity::Warning,
        }
    }
}

impl fmt::Display for FindingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Finding {
    pub(crate) fn new(
        code: FindingCode,
        object: ObjectKey,
        field: impl Into<String>,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity: code.severity(),
            object,
            field: field.into(),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}
