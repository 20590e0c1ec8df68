//! Status as plain data: the very shapes that stand in `status` of the objects, without times. Whoever writes them fills those in and keeps
//! what others wrote.

use portcullis_api::Extra;
use portcullis_api::gateway::GatewayStatus;
use portcullis_api::gateway_class::GatewayClassStatus;
use portcullis_api::shared::{ParentReference, RouteParentStatus, RouteStatus};
use serde::Serialize;

use crate::attachment::{Attachments, Refusal};
use crate::conditions::Observed;
use crate::conditions::route as conditions;
use crate::http_route::CompiledRoute;

/// The status of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ObjectStatus {
    /// Of a GatewayClass.
    GatewayClass(GatewayClassStatus),
    /// Of a Gateway.
    Gateway(GatewayStatus),
    /// Of a route, whatever its kind: our entries alone.
    Route(RouteStatus),
}

/// The status of an HTTPRoute; `shared` says with whom the route shares hostnames at a parent. Nothing for a route without parents of ours.
pub(crate) fn http_route(
    observed: Observed,
    controller_name: &str,
    route: &CompiledRoute,
    attachments: &Attachments,
    shared: impl Fn(&ParentReference) -> Option<String>,
) -> Option<ObjectStatus> {
    let parents = attachments.parents.iter().map(|(parent_ref, outcome)| {
        let is_attached = outcome.is_ok();
        let outcome = outcome.as_ref().map_err(Clone::clone);
        let outcome = outcome.and_then(|()| route.refusal.clone().map_or(Ok(()), Err));
        let mut entry = vec![match &outcome {
            Ok(()) => conditions::accepted(observed),
            Err(Refusal { reason, message }) => conditions::not_accepted(observed, *reason, message),
        }];
        entry.push(match &route.unresolved {
            None => conditions::resolved_refs(observed),
            Some((reason, message)) => conditions::unresolved_refs(observed, *reason, message),
        });
        if let (Ok(()), Some((rules, problems))) = (&outcome, &route.partially_invalid) {
            entry.push(conditions::partially_invalid(observed, rules, problems));
        }
        if let Some(message) = shared(parent_ref).filter(|_| is_attached) {
            entry.push(conditions::hostname_shared(observed, message));
        }
        RouteParentStatus {
            parent_ref: parent_ref.clone(),
            controller_name: controller_name.to_owned(),
            conditions: entry,
            extra: Extra::default(),
        }
    });
    route_status(parents.collect())
}

/// The status of a route of a kind that is not supported: refused by every parent of ours.
pub(crate) fn unsupported_route(
    observed: Observed,
    controller_name: &str,
    attachments: &Attachments,
) -> Option<ObjectStatus> {
    let parents = attachments.parents.iter().filter_map(|(parent_ref, outcome)| {
        let Refusal { reason, message } = outcome.as_ref().err()?;
        Some(RouteParentStatus {
            parent_ref: parent_ref.clone(),
            controller_name: controller_name.to_owned(),
            conditions: vec![conditions::not_accepted(observed, *reason, message)],
            extra: Extra::default(),
        })
    });
    route_status(parents.collect())
}

fn route_status(parents: Vec<RouteParentStatus>) -> Option<ObjectStatus> {
    (!parents.is_empty()).then(|| ObjectStatus::Route(RouteStatus { parents, extra: Extra::default() }))
}
