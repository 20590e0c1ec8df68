//! What only the controller knows about a Gateway, laid over the status that the compiler gave.
//!
//! In flow the compiler's status, which assumes that data planes follow, what must exist for the Gateway, its Services, and what its data
//! planes have said. Out flows the status with addresses, `AddressesAssigned`, `Programmed` and `portcullis.dev/DataPlanesUpToDate`. Pure.
//!
//! `Programmed` is false for the first of these that holds: what the compiler says; `AddressNotUsable`, a requested address was not given;
//! `AddressNotAssigned`, there is no address at all; `NoResources`, no pod is ready any more; `Pending`, no data plane has it yet.

mod addresses;

use std::collections::BTreeMap;

use portcullis_api::Extra;
use portcullis_api::gateway::GatewayStatus;
use portcullis_api::meta::{Condition, ConditionStatus};
use portcullis_api::service::Service;
use portcullis_compile::Infrastructure;
use portcullis_runtime::escape;

use addresses::Assignment;

/// Whether every data plane serves what it was last given.
pub(crate) const UP_TO_DATE: &str = "portcullis.dev/DataPlanesUpToDate";

/// How many pods a message names.
const NAMED_PODS: usize = 3;

/// What is known beside the objects that the compiler looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts<'a> {
    /// The Services of the Gateway's data plane.
    pub(crate) services: Vec<&'a Service>,
    /// Addresses of nodes, for Services of type NodePort.
    pub(crate) nodes: &'a [String],
    /// Whether the served schema has `routability`.
    pub(crate) routability: bool,
    /// What the data planes say.
    pub(crate) data_planes: DataPlanes,
}

/// What the data planes of a Gateway have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DataPlanes {
    /// Whether they have served this generation of the Gateway.
    pub(crate) programmed: bool,
    /// No pod is ready although some were.
    pub(crate) is_lost: bool,
    /// What keeps pods from being ready, or from being made, if that is known.
    pub(crate) trouble: Option<String>,
    /// Pods that refused a configuration, with what they say.
    pub(crate) refused: Vec<(String, String)>,
    /// Pods that have not answered for too long.
    pub(crate) lagging: Vec<String>,
    /// Listeners whose port a pod cannot bind, with what it says.
    pub(crate) unbound: BTreeMap<String, String>,
}

/// The status as it is to be written.
pub(crate) fn overlay(status: &GatewayStatus, infrastructure: &Infrastructure, facts: &Facts<'_>) -> GatewayStatus {
    let mut status = status.clone();
    let observed = infrastructure.generation;
    let assignment = addresses::assign(infrastructure, facts);
    if !facts.services.is_empty() {
        put(&mut status.conditions, assigned(&assignment, observed));
    }
    if let Some(condition) = up_to_date(&facts.data_planes, observed) {
        put(&mut status.conditions, condition);
    }
    if holds(&status.conditions, "Programmed")
        && let Some(condition) = not_programmed(&assignment, facts, observed)
    {
        put(&mut status.conditions, condition);
    }
    // What keeps the data plane from it stands once, with the Gateway.
    let trouble = None;
    if let Some((reason, message)) = not_served(&DataPlanes { trouble, ..facts.data_planes.clone() }) {
        for listener in &mut status.listeners {
            if holds(&listener.conditions, "Programmed") {
                put(&mut listener.conditions, condition("Programmed", false, observed, reason, message.clone()));
            }
        }
    }
    for listener in &mut status.listeners {
        let unbound =
            facts.data_planes.unbound.get(&listener.name).filter(|_| holds(&listener.conditions, "Programmed"));
        if let Some(reason) = unbound {
            let message =
                format!("The data plane {}. Give the listener another port, or free this one", escape::line(reason));
            put(&mut listener.conditions, condition("Programmed", false, observed, "PortUnavailable", message));
        }
    }
    status.addresses = assignment.addresses;
    status
}

fn not_programmed(assignment: &Assignment, facts: &Facts<'_>, observed: i64) -> Option<Condition> {
    let no = |reason, message| Some(condition("Programmed", false, observed, reason, message));
    if facts.services.is_empty() {
        let trouble = facts.data_planes.trouble.as_deref();
        let trouble = trouble.map(|trouble| format!(": {}", escape::line(trouble))).unwrap_or_default();
        return no("AddressNotAssigned", format!("The Service of the data plane does not exist yet{trouble}"));
    }
    if !assignment.unusable.is_empty() {
        let entries = assignment.unusable.join("; ");
        return no("AddressNotUsable", format!("{entries}. Request an address that the load balancer can give"));
    }
    if assignment.addresses.is_empty() {
        return no("AddressNotAssigned", assignment.nothing());
    }
    let (reason, message) = not_served(&facts.data_planes)?;
    no(reason, message)
}

/// Why no data plane serves this generation, if so.
fn not_served(data_planes: &DataPlanes) -> Option<(&'static str, String)> {
    let trouble =
        data_planes.trouble.as_deref().map(|trouble| format!(": {}", escape::line(trouble))).unwrap_or_default();
    if data_planes.is_lost {
        return Some(("NoResources", format!("No pod of the data plane is ready{trouble}")));
    }
    if data_planes.programmed {
        return None;
    }
    let message = match data_planes.refused.first() {
        Some((pod, message)) => {
            format!("Pod {} refused the configuration: {}", escape::line(pod), escape::line(message))
        }
        None => format!("Waiting for the data plane to serve this generation{trouble}"),
    };
    Some(("Pending", message))
}

fn assigned(assignment: &Assignment, observed: i64) -> Condition {
    let condition = |yes, reason, message| condition("AddressesAssigned", yes, observed, reason, message);
    match (assignment.addresses.is_empty(), assignment.unsatisfied.is_empty()) {
        (false, true) => condition(true, "AddressesAssigned", "All addresses are assigned".to_owned()),
        (false, false) => condition(false, "PartiallyAssigned", assignment.unsatisfied.join("; ")),
        (true, _) => condition(false, "NotAssigned", assignment.nothing()),
    }
}

fn up_to_date(data_planes: &DataPlanes, observed: i64) -> Option<Condition> {
    let condition = |yes, reason, message| Some(condition(UP_TO_DATE, yes, observed, reason, message));
    if !data_planes.refused.is_empty() {
        let pods = data_planes
            .refused
            .iter()
            .map(|(pod, message)| format!("{}: {}", escape::line(pod), escape::line(message)));
        return condition(false, "Refused", named(pods, "they serve what they had before, or all but what is named"));
    }
    if !data_planes.lagging.is_empty() {
        let pods = data_planes.lagging.iter().map(|pod| escape::line(pod).into_owned());
        return condition(false, "Lagging", named(pods, "they have not answered for some seconds"));
    }
    if !data_planes.programmed {
        return None;
    }
    condition(true, "UpToDate", "Every data plane serves the latest configuration".to_owned())
}

/// The first of these, how many more there are, and what is the matter with them.
fn named(pods: impl ExactSizeIterator<Item = String>, what: &str) -> String {
    let more = pods.len().saturating_sub(NAMED_PODS);
    let named = pods.take(NAMED_PODS).collect::<Vec<_>>().join("; ");
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    format!("{named}{more} ({what})")
}

fn holds(conditions: &[Condition], name: &str) -> bool {
    conditions.iter().any(|condition| condition.r#type == name && condition.status == ConditionStatus::True)
}

fn put(conditions: &mut Vec<Condition>, new: Condition) {
    match conditions.iter_mut().find(|condition| condition.r#type == new.r#type) {
        Some(condition) => *condition = new,
        None => conditions.push(new),
    }
}

fn condition(r#type: &str, yes: bool, observed: i64, reason: &str, message: String) -> Condition {
    Condition {
        r#type: r#type.to_owned(),
        status: if yes { ConditionStatus::True } else { ConditionStatus::False },
        observed_generation: (observed != 0).then_some(observed),
        last_transition_time: None,
        reason: reason.to_owned(),
        message,
        extra: Extra::default(),
    }
}

#[cfg(test)]
mod tests;
