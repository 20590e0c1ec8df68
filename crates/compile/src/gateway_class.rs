//! GatewayClass: which classes are ours, and their status.

use std::sync::Arc;

use portcullis_api::gateway_class::{GatewayClass, GatewayClassStatus};
use portcullis_api::{Extra, Foreign};

use crate::conditions::{self, Observed};
use crate::features;
use crate::parameters::{self, ClassParameters};
use crate::served::Served;
use crate::snapshot::Snapshot;
use crate::text::joined;

/// What a GatewayClass means for the Gateways that name it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClassState {
    /// Nobody declared it.
    Absent,
    /// Another controller's.
    Foreign {
        /// Whose.
        controller_name: String,
    },
    /// Ours.
    Ours(Arc<ClassParameters>),
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
        matches!(self, Self::Ours(_) | Self::Assumed | Self::Refused { .. })
    }
}

/// Looks at a class.
pub(crate) fn state(
    class: Option<&GatewayClass>,
    snapshot: &Snapshot,
    controller_name: &str,
    standalone: bool,
) -> ClassState {
    match class {
        None if standalone => ClassState::Assumed,
        None => ClassState::Absent,
        Some(class) if class.spec.controller_name != controller_name => {
            ClassState::Foreign { controller_name: class.spec.controller_name.clone() }
        }
        Some(class) => match parameters::of_class(class, snapshot) {
            Err(message) => ClassState::Refused { message },
            Ok(parameters) => ClassState::Ours(Arc::new(parameters)),
        },
    }
}

/// The status of a class that is ours.
pub(crate) fn status(class: &GatewayClass, snapshot: &Snapshot, served: Option<&Served>) -> GatewayClassStatus {
    let observed = Observed(class.metadata.generation);
    let accepted = match parameters::of_class(class, snapshot) {
        Err(message) => conditions::gateway_class::invalid_parameters(observed, &message),
        Ok(_) => conditions::gateway_class::accepted(observed),
    };
    GatewayClassStatus {
        conditions: vec![accepted, version(observed, served)],
        supported_features: features::supported(served),
        extra: Extra::default(),
    }
}

/// Whether the Gateway API is served in a release that is supported. If it is not, the class stays accepted: what can be read is served.
fn version(observed: Observed, served: Option<&Served>) -> portcullis_api::meta::Condition {
    let Some(served) = served else {
        return conditions::gateway_class::supported_version(observed, "Gateway API v1.7");
    };
    let unsupported: Vec<_> = served
        .unsupported()
        .into_iter()
        .map(|(kind, version)| match version {
            Some(version) => format!("{} ({})", Foreign(kind), Foreign(version)),
            None => format!("{} (none)", Foreign(kind)),
        })
        .collect();
    if !unsupported.is_empty() {
        let message = format!(
            "The CustomResourceDefinitions of these kinds have another gateway.networking.k8s.io/bundle-version than v1.4 to v1.7; what can \
             be read is served; install those of one of these releases: {}",
            joined(&unsupported, ", ")
        );
        return conditions::gateway_class::unsupported_version(observed, message);
    }
    let versions: Vec<_> = served.versions().into_iter().map(|version| Foreign(version).to_string()).collect();
    conditions::gateway_class::supported_version(observed, &format!("Gateway API {}", joined(&versions, ", ")))
}
