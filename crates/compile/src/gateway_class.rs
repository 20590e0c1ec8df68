//! GatewayClass: which classes are ours, and their status.

use portcullis_api::Extra;
use portcullis_api::gateway_class::{GatewayClass, GatewayClassStatus};

use crate::conditions::{self, Observed};
use crate::features;
use crate::text::group_kind;

/// What a GatewayClass means for the Gateways that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClassState {
    /// Nobody declared it.
    Absent,
    /// Another controller's.
    Foreign {
        /// Whose.
        controller_name: String,
    },
    /// Ours.
    Ours,
    /// Ours, absent, and claimed because a folder is not a cluster.
    Assumed,
    /// Ours, and refused.
    Refused {
        /// Why.
        message: String,
    },
}

impl ClassState {
    /// Whether Gateways of the class are ours to report on.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Ours | Self::Assumed | Self::Refused { .. })
    }
}

/// Looks at a class.
pub(crate) fn state(class: Option<&GatewayClass>, controller_name: &str, standalone: bool) -> ClassState {
    match class {
        None if standalone => ClassState::Assumed,
        None => ClassState::Absent,
        Some(class) if class.spec.controller_name != controller_name => {
            ClassState::Foreign { controller_name: class.spec.controller_name.clone() }
        }
        Some(class) => match refusal(class) {
            Some(message) => ClassState::Refused { message },
            None => ClassState::Ours,
        },
    }
}

/// The status of a class that is ours.
pub(crate) fn status(class: &GatewayClass) -> GatewayClassStatus {
    let observed = Observed(class.metadata.generation);
    let accepted = match refusal(class) {
        Some(message) => conditions::gateway_class::invalid_parameters(observed, &message),
        None => conditions::gateway_class::accepted(observed),
    };
    GatewayClassStatus {
        conditions: vec![accepted, conditions::gateway_class::supported_version(observed)],
        supported_features: features::supported(),
        extra: Extra::default(),
    }
}

fn refusal(class: &GatewayClass) -> Option<String> {
    let reference = class.spec.parameters_ref.as_ref()?;
    Some(format!(
        "spec.parametersRef: parameters of kind {} are not supported; remove parametersRef",
        group_kind(&reference.group, &reference.kind)
    ))
}
