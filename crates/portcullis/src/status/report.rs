//! What is ours among the objects of a cluster, and the rows that say how it is.

use crate::exit::Exit;
use crate::install::not_ready;
use crate::install::resources::{self, CONTROLLER_NAME};
use crate::objects::Selected;
use crate::statuses::{self, Item, list, shown, table, text};
use portcullis_api::{Object, ObjectKey};
use portcullis_cluster::{DeploymentState, Listing, OwnedDetails, OwnedState};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that is shown.
pub(crate) struct Report {
    lines: Vec<Line>,
    /// Objects with a status, for machines.
    items: Vec<Item>,
    data_planes: Vec<Value>,
}

/// The controller's Deployment, and what keeps its pods from running.
pub(crate) struct Controller {
    pub(crate) deployment: Value,
    pub(crate) trouble: Option<String>,
}

/// A row of the table.
struct Line {
    cells: [String; 5],
    /// The conditions in full.
    wide: Option<String>,
    wrong: bool,
}

impl Report {
    /// What a cluster shows of what is selected.
    pub(crate) fn new(listing: &Listing, controllers: &[Controller], selected: &Selected) -> Self {
        let mut report = Self { lines: Vec::new(), items: Vec::new(), data_planes: Vec::new() };
        let ours = Ours::of(listing);
        report.gateway_api(listing);
        report.controllers(controllers);
        for object in in_order(listing) {
            let key = object.key();
            if !selected.contains(&key, object.metadata()) {
                continue;
            }
            match key.kind() {
                "GatewayClass" if ours.classes.contains(key.name()) => report.item(Item::new(object, status(object))),
                "Gateway" if ours.gateways.contains(&place(&key)) => {
                    report.item(Item::new(object, status(object)));
                    report.data_plane(object, data_plane(listing, object));
                }
                _ => report.attached(object, &ours),
            }
        }
        if ours.classes.is_empty() && listing.unread.is_empty() {
            let message = format!("No GatewayClass has controllerName {CONTROLLER_NAME}");
            report.push(["", "GatewayClass", "", "Missing", &message], true);
        }
        report
    }

    /// Whether anything that is shown is wrong.
    pub(crate) fn is_wrong(&self) -> bool {
        self.lines.iter().any(|line| line.wrong)
    }

    pub(crate) fn print_table(&self, wide: bool) -> Exit {
        let mut rows = table(&statuses::HEADER);
        for line in &self.lines {
            let mut cells = line.cells.clone();
            if let (true, Some(all)) = (wide, &line.wide) {
                cells[3].clone_from(all);
            }
            rows.add_row(cells);
        }
        statuses::print(&rows.to_string())
    }

    /// As `-o name` has it.
    pub(crate) fn names(&self) -> String {
        self.items.iter().map(|item| format!("{}\n", item.resource_name())).collect()
    }

    /// As `-o json` has it.
    pub(crate) fn value(&self) -> Value {
        let problems: Vec<Value> = self
            .lines
            .iter()
            .filter(|line| line.wrong)
            .map(|line| {
                let [namespace, object, section, status, message] = &line.cells;
                json!({
                    "namespace": namespace, "object": object, "section": section, "status": status, "message": message,
                })
            })
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": self.items.iter().map(Item::value).collect::<Vec<_>>(),
            "dataPlanes": self.data_planes,
            "problems": problems,
        })
    }

    fn push(&mut self, cells: [&str; 5], wrong: bool) {
        self.lines.push(Line { cells: cells.map(shown), wide: None, wrong });
    }

    fn gateway_api(&mut self, listing: &Listing) {
        let mut releases: BTreeSet<(String, String)> = BTreeSet::new();
        for kind in listing.served.gateway_api() {
            if let portcullis_cluster::Definition::Known { bundle_version, channel } = &kind.definition {
                let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
                releases.insert((or_unknown(bundle_version), or_unknown(channel)));
            }
        }
        for (version, channel) in &releases {
            self.push(["", "Gateway API", "", "OK", &format!("{version}, channel {channel}")], false);
        }
        if listing.served.gateway_api().next().is_none() {
            let message = "The cluster has no definitions of the Gateway API; portcullis install brings them";
            self.push(["", "Gateway API", "", "Missing", message], true);
        }
    }

    fn controllers(&mut self, controllers: &[Controller]) {
        for Controller { deployment: controller, trouble } in controllers {
            let namespace = controller["metadata"]["namespace"].as_str().unwrap_or_default();
            let name = format!("Deployment/{}", resources::name(controller));
            let problem = not_ready(controller);
            let ready = controller.pointer("/status/availableReplicas").and_then(Value::as_i64).unwrap_or(0);
            let wanted = controller.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
            let (status, message) = match &problem {
                // None are wanted, and so nothing is decided.
                None if wanted == 0 => ("Unavailable", "the controller is scaled to 0 pods".to_owned()),
                None => ("OK", pods(ready, wanted)),
                Some(problem) => {
                    let status = match ready {
                        0 => "Unavailable",
                        some if some < wanted => "Degraded",
                        _ => "Progressing",
                    };
                    let why = trouble.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                    (status, format!("{problem}{why}"))
                }
            };
            self.push([namespace, &name, "", status, &message], status != "OK");
        }
        if controllers.is_empty() {
            let message = "No controller was found; portcullis install brings it";
            self.push(["", "Deployment/portcullis-controller", "", "Missing", message], true);
        }
    }

    /// An object with its status, as the controller wrote it.
    fn item(&mut self, item: Item) {
        let mut lines = Vec::new();
        for section in item.sections() {
            let wrong = section.problems().next().is_some();
            let wide = section.rows(true).into_iter().next().map(|(all, _)| shown(&all));
            for (status, message) in section.rows(false) {
                let message = match (section.name.as_str(), wrong) {
                    ("", false) => addresses(&item.status),
                    _ => message,
                };
                lines.push(Line { cells: item.row(&section.name, &status, &message), wide: wide.clone(), wrong });
            }
            let observed = section.conditions.iter().filter_map(|condition| condition["observedGeneration"].as_i64());
            if let (Some(observed), Some(generation)) = (observed.min(), item.generation)
                && observed < generation
            {
                let message = format!("The status is about generation {observed}, the object is at {generation}");
                lines.push(Line { cells: item.row(&section.name, "Outdated", &message), wide: None, wrong: true });
            }
        }
        if lines.is_empty() {
            lines.push(Line { cells: item.row("", "Unknown", "No controller has judged it"), wide: None, wrong: true });
        }
        self.lines.extend(lines);
        self.items.push(item);
    }

    /// A route, or anything else that is attached to a Gateway of ours: what our controller says of it.
    fn attached(&mut self, object: &Object, ours: &Ours) {
        let key = object.key();
        let value = object.to_value();
        let mut status = value["status"].clone();
        let mut judged = false;
        for field in ["parents", "ancestors"] {
            if let Some(entries) = status.get_mut(field).and_then(Value::as_array_mut) {
                entries.retain(|entry| entry["controllerName"] == CONTROLLER_NAME);
                judged |= !entries.is_empty();
            }
        }
        let parents = list(&value["spec"], "parentRefs").iter().chain(value["spec"].get("parentRef"));
        let refers = parents.filter(|parent| is_gateway(parent)).any(|parent| {
            let namespace = Some(text(parent, "namespace")).filter(|text| !text.is_empty()).unwrap_or(key.namespace());
            ours.gateways.contains(&(namespace.to_owned(), text(parent, "name").to_owned()))
        });
        let is_listener_set = key.kind().ends_with("ListenerSet");
        if is_listener_set && refers || judged {
            self.item(Item::new(object, status));
        } else if refers {
            self.item(Item::new(object, Value::Null));
        }
    }

    fn data_plane(&mut self, gateway: &Object, found: Option<(&str, &OwnedState, &DeploymentState)>) {
        let key = gateway.key();
        let object = format!("Gateway/{}", key.name());
        let Some((name, state, deployment)) = found else {
            let status = gateway.to_value();
            let accepted = list(&status["status"], "conditions")
                .iter()
                .any(|condition| condition["type"] == "Accepted" && condition["status"] == "True");
            // None is made for a Gateway that is not accepted; its condition says why.
            if accepted {
                self.push([key.namespace(), &object, "data plane", "Missing", "It has no Deployment"], true);
            }
            return;
        };
        let generation = programmed_generation(gateway);
        let (ready, wanted) = (i64::from(deployment.ready_replicas), i64::from(deployment.desired_replicas));
        let mut message = pods(ready, wanted);
        if let Some(generation) = generation {
            message.push_str(&format!(", generation {generation}"));
        }
        let rolling = deployment.observed_generation < state.generation
            || deployment.updated_replicas < deployment.desired_replicas;
        if rolling {
            message.push_str(&format!(", {} up to date", deployment.updated_replicas));
        }
        let (status, wrong) = match (ready >= wanted, ready) {
            (true, _) => (if rolling { "Progressing" } else { "OK" }, false),
            (false, 0) => ("Unavailable", true),
            (false, _) => ("Degraded", true),
        };
        self.push([key.namespace(), &object, "data plane", status, &message], wrong);
        self.data_planes.push(json!({
            "gateway": key.name(),
            "namespace": key.namespace(),
            "deployment": name,
            "replicas": wanted,
            "ready": ready,
            "upToDate": deployment.updated_replicas,
            "generation": generation,
        }));
    }
}

/// The classes and Gateways of ours.
struct Ours {
    classes: BTreeSet<String>,
    /// Namespace and name.
    gateways: BTreeSet<(String, String)>,
}

impl Ours {
    fn of(listing: &Listing) -> Self {
        let mut ours = Self { classes: BTreeSet::new(), gateways: BTreeSet::new() };
        for object in &listing.objects {
            if let Object::GatewayClass(class) = object
                && *class.spec.controller_name == *CONTROLLER_NAME
            {
                ours.classes.insert(class.metadata.name.to_string());
            }
        }
        for object in &listing.objects {
            if let Object::Gateway(gateway) = object
                && ours.classes.contains(&*gateway.spec.gateway_class_name)
            {
                ours.gateways.insert(place(&object.key()));
            }
        }
        ours
    }
}

fn place(key: &ObjectKey) -> (String, String) {
    (key.namespace().to_owned(), key.name().to_owned())
}

/// Classes, then Gateways, then what is attached to them, by namespace and name.
fn in_order(listing: &Listing) -> Vec<&Object> {
    let mut objects: BTreeMap<_, &Object> = BTreeMap::new();
    for object in &listing.objects {
        let key = object.key();
        let rank = match key.kind() {
            "GatewayClass" => 0,
            "Gateway" => 1,
            kind if kind.ends_with("ListenerSet") => 2,
            kind if kind.ends_with("Route") => 3,
            _ => 4,
        };
        objects.insert((rank, place(&key), key.kind().to_owned()), object);
    }
    objects.into_values().collect()
}

fn status(object: &Object) -> Value {
    object.to_value()["status"].clone()
}

fn is_gateway(reference: &Value) -> bool {
    matches!(text(reference, "kind"), "" | "Gateway")
}

/// The Deployment that a Gateway owns.
fn data_plane<'a>(listing: &'a Listing, gateway: &Object) -> Option<(&'a str, &'a OwnedState, &'a DeploymentState)> {
    let key = gateway.key();
    let uid = gateway.metadata().uid.as_deref()?;
    listing.owned.iter().find_map(|owned| {
        let state = owned.state.as_deref()?;
        let OwnedDetails::Deployment(deployment) = &state.details else { return None };
        let is_owner = state.owner_references.iter().any(|owner| *owner.kind == *"Gateway" && *owner.uid == *uid);
        (*owned.name.namespace == *key.namespace() && is_owner).then_some((&*owned.name.name, state, deployment))
    })
}

/// The generation of the Gateway that its data planes serve.
fn programmed_generation(gateway: &Object) -> Option<i64> {
    let value = gateway.to_value();
    let programmed = list(&value["status"], "conditions")
        .iter()
        .find(|condition| condition["type"] == "Programmed" && condition["status"] == "True")?;
    programmed["observedGeneration"].as_i64()
}

fn addresses(status: &Value) -> String {
    let addresses: Vec<&str> = list(status, "addresses").iter().map(|address| text(address, "value")).collect();
    addresses.join(", ")
}

fn pods(ready: i64, wanted: i64) -> String {
    match wanted {
        1 => format!("{ready} of 1 pod ready"),
        wanted => format!("{ready} of {wanted} pods ready"),
    }
}

#[cfg(test)]
mod tests;
