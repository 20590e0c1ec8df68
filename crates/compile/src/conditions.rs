//! Conditions: one constructor each, so that type, status and reason are always a combination of the specification.
//!
//! The reasons are those of `apis/v1/*_types.go`; which ones a constructor takes is an enumeration. Messages say what to change.
//! `lastTransitionTime` is the writer's: it changes only when the status of the stored condition does.

use portcullis_api::Extra;
use portcullis_api::meta::{Condition, ConditionStatus};

/// The generation of the object that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed(pub(crate) Option<i64>);

impl Observed {
    fn yes(self, r#type: &str, reason: &str, message: impl Into<String>) -> Condition {
        self.condition(r#type, ConditionStatus::True, reason, message)
    }

    fn no(self, r#type: &str, reason: &str, message: impl Into<String>) -> Condition {
        self.condition(r#type, ConditionStatus::False, reason, message)
    }

    fn condition(self, r#type: &str, status: ConditionStatus, reason: &str, message: impl Into<String>) -> Condition {
        Condition {
            r#type: r#type.to_owned(),
            status,
            observed_generation: self.0,
            last_transition_time: None,
            reason: reason.to_owned(),
            message: cut(message.into()),
            extra: Extra::default(),
        }
    }
}

/// Characters of a message: an API server refuses a longer one, and with it the whole status (apimachinery `Condition`).
const LONGEST_MESSAGE: usize = 32_768;

fn cut(message: String) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        None => message,
        Some(_) => message.chars().take(LONGEST_MESSAGE - 1).chain(['\u{2026}']).collect(),
    }
}

/// Conditions of a GatewayClass.
pub(crate) mod gateway_class {
    use super::{Condition, Observed};

    pub(crate) fn accepted(observed: Observed) -> Condition {
        observed.yes("Accepted", "Accepted", "Gateways of this class are served")
    }

    pub(crate) fn invalid_parameters(observed: Observed, message: &str) -> Condition {
        observed.no("Accepted", "InvalidParameters", message)
    }

    pub(crate) fn supported_version(observed: Observed, message: &str) -> Condition {
        observed.yes("SupportedVersion", "SupportedVersion", message)
    }

    pub(crate) fn unsupported_version(observed: Observed, message: String) -> Condition {
        observed.no("SupportedVersion", "UnsupportedVersion", message)
    }
}

/// Conditions of a Gateway.
pub(crate) mod gateway {
    use super::{Condition, Observed};

    /// Why a Gateway is not accepted.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum NotAccepted {
        InvalidParameters,
        UnsupportedAddress,
        ListenersNotValid,
    }

    /// Why a Gateway is not programmed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum NotProgrammed {
        Invalid,
        AddressNotAssigned,
        AddressNotUsable,
    }

    pub(crate) fn accepted(observed: Observed) -> Condition {
        observed.yes("Accepted", "Accepted", "The Gateway is accepted")
    }

    /// Accepted, although some listeners are not.
    pub(crate) fn accepted_in_part(observed: Observed, message: String) -> Condition {
        observed.yes("Accepted", "ListenersNotValid", message)
    }

    pub(crate) fn not_accepted(observed: Observed, reason: NotAccepted, message: String) -> Condition {
        let reason = match reason {
            NotAccepted::InvalidParameters => "InvalidParameters",
            NotAccepted::UnsupportedAddress => "UnsupportedAddress",
            NotAccepted::ListenersNotValid => "ListenersNotValid",
        };
        observed.no("Accepted", reason, message)
    }

    pub(crate) fn programmed(observed: Observed) -> Condition {
        observed.yes("Programmed", "Programmed", "The Gateway is configured in its data plane")
    }

    pub(crate) fn not_programmed(observed: Observed, reason: NotProgrammed, message: String) -> Condition {
        let reason = match reason {
            NotProgrammed::Invalid => "Invalid",
            NotProgrammed::AddressNotAssigned => "AddressNotAssigned",
            NotProgrammed::AddressNotUsable => "AddressNotUsable",
        };
        observed.no("Programmed", reason, message)
    }

    pub(crate) fn resolved_refs(observed: Observed) -> Condition {
        observed.yes("ResolvedRefs", "ResolvedRefs", "All references are resolved")
    }

    pub(crate) fn listeners_not_resolved(observed: Observed, message: String) -> Condition {
        observed.no("ResolvedRefs", "ListenersNotResolved", message)
    }

    /// Fields of it have no effect; absent where all have.
    pub(crate) fn fields_ignored(observed: Observed, message: String) -> Condition {
        observed.yes("portcullis.dev/FieldsIgnored", "NotAllowedByClass", message)
    }
}

/// Conditions of a listener.
pub(crate) mod listener {
    use super::{Condition, Observed};

    /// Why a listener is not accepted.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum NotAccepted {
        PortUnavailable,
        UnsupportedProtocol,
        UnsupportedValue,
        Conflicted(Conflict),
    }

    /// What a listener has in common with another that it must not.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Conflict {
        Hostname,
        Protocol,
    }

    /// Why references of a listener are not resolved.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Unresolved {
        InvalidCertificateRef,
        InvalidRouteKinds,
        RefNotPermitted,
    }

    impl Conflict {
        fn as_str(self) -> &'static str {
            match self {
                Self::Hostname => "HostnameConflict",
                Self::Protocol => "ProtocolConflict",
            }
        }
    }

    impl Unresolved {
        pub(crate) fn as_str(self) -> &'static str {
            match self {
                Self::InvalidCertificateRef => "InvalidCertificateRef",
                Self::InvalidRouteKinds => "InvalidRouteKinds",
                Self::RefNotPermitted => "RefNotPermitted",
            }
        }
    }

    impl NotAccepted {
        pub(crate) fn as_str(self) -> &'static str {
            match self {
                Self::PortUnavailable => "PortUnavailable",
                Self::UnsupportedProtocol => "UnsupportedProtocol",
                Self::UnsupportedValue => "UnsupportedValue",
                Self::Conflicted(conflict) => conflict.as_str(),
            }
        }
    }

    pub(crate) fn accepted(observed: Observed) -> Condition {
        observed.yes("Accepted", "Accepted", "The listener is accepted")
    }

    pub(crate) fn not_accepted(observed: Observed, reason: NotAccepted, message: &str) -> Condition {
        observed.no("Accepted", reason.as_str(), message)
    }

    pub(crate) fn no_conflicts(observed: Observed) -> Condition {
        observed.no("Conflicted", "NoConflicts", "The listener is distinct")
    }

    pub(crate) fn conflicted(observed: Observed, conflict: Conflict, message: &str) -> Condition {
        observed.yes("Conflicted", conflict.as_str(), message)
    }

    pub(crate) fn resolved_refs(observed: Observed) -> Condition {
        observed.yes("ResolvedRefs", "ResolvedRefs", "All references are resolved")
    }

    pub(crate) fn unresolved_refs(observed: Observed, reason: Unresolved, message: String) -> Condition {
        observed.no("ResolvedRefs", reason.as_str(), message)
    }

    pub(crate) fn programmed(observed: Observed) -> Condition {
        observed.yes("Programmed", "Programmed", "The listener is configured in the data plane")
    }

    pub(crate) fn not_programmed(observed: Observed, message: &str) -> Condition {
        observed.no("Programmed", "Invalid", message)
    }

    /// Negative polarity: never written when false.
    pub(crate) fn overlapping_hostnames(observed: Observed, message: String) -> Condition {
        observed.yes("OverlappingTLSConfig", "OverlappingHostnames", message)
    }
}

/// Conditions of a route at one parent.
pub(crate) mod route {
    use super::{Condition, Observed};

    /// Why a route is not accepted by a parent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum NotAccepted {
        NotAllowedByListeners,
        NoMatchingListenerHostname,
        NoMatchingParent,
        UnsupportedValue,
        IncompatibleFilters,
    }

    /// Why references of a route are not resolved.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Unresolved {
        RefNotPermitted,
        InvalidKind,
        BackendNotFound,
        UnsupportedProtocol,
    }

    pub(crate) fn accepted(observed: Observed) -> Condition {
        observed.yes("Accepted", "Accepted", "The route is accepted")
    }

    pub(crate) fn not_accepted(observed: Observed, reason: NotAccepted, message: &str) -> Condition {
        let reason = match reason {
            NotAccepted::NotAllowedByListeners => "NotAllowedByListeners",
            NotAccepted::NoMatchingListenerHostname => "NoMatchingListenerHostname",
            NotAccepted::NoMatchingParent => "NoMatchingParent",
            NotAccepted::UnsupportedValue => "UnsupportedValue",
            NotAccepted::IncompatibleFilters => "IncompatibleFilters",
        };
        observed.no("Accepted", reason, message)
    }

    pub(crate) fn resolved_refs(observed: Observed) -> Condition {
        observed.yes("ResolvedRefs", "ResolvedRefs", "All references are resolved")
    }

    pub(crate) fn unresolved_refs(observed: Observed, reason: Unresolved, message: &str) -> Condition {
        let reason = match reason {
            Unresolved::RefNotPermitted => "RefNotPermitted",
            Unresolved::InvalidKind => "InvalidKind",
            Unresolved::BackendNotFound => "BackendNotFound",
            Unresolved::UnsupportedProtocol => "UnsupportedProtocol",
        };
        observed.no("ResolvedRefs", reason, message)
    }

    /// Exists only as true. The message begins with "Dropped Rule", as the specification asks.
    pub(crate) fn partially_invalid(observed: Observed, rules: &str, problems: &str) -> Condition {
        let message = format!("Dropped Rule {rules}: requests that match are answered with 500. {problems}");
        observed.yes("PartiallyInvalid", "UnsupportedValue", message)
    }

    /// Ours: the same hostname is served from other namespaces, too. Absent where it is not.
    pub(crate) fn hostname_shared(observed: Observed, message: String) -> Condition {
        observed.yes("portcullis.dev/HostnameShared", "HostnameShared", message)
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_MESSAGE, Observed, gateway_class};

    #[test]
    fn messages_are_cut_where_an_api_server_would_refuse_them() {
        let message =
            |length: usize| gateway_class::invalid_parameters(Observed(None), &"\u{e9}".repeat(length)).message;
        assert_eq!(message(LONGEST_MESSAGE).chars().count(), LONGEST_MESSAGE);
        assert!(!message(LONGEST_MESSAGE).ends_with('\u{2026}'));
        assert_eq!(message(LONGEST_MESSAGE + 1).chars().count(), LONGEST_MESSAGE);
        assert!(message(LONGEST_MESSAGE + 1).ends_with('\u{2026}'));
    }
}
