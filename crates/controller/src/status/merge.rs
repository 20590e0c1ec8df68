//! The status that an object should have: ours, laid into what is there.
//!
//! In flow the `status` of an object as it is stored, and what we have to say. Out flows the new `status`, or that there is nothing to write.
//! Works on JSON, so that what others wrote and what no type knows survives to the byte. Pure.

use serde_json::{Map, Value};

/// The most conditions that one list may hold, by the schema of the Gateway API.
const CONDITIONS_LIMIT: usize = 8;

/// The prefix of condition types of our own.
const OWN_PREFIX: &str = "portcullis.dev/";

/// The condition types that belong to whoever serves a GatewayClass: one of these that we do not state is taken away. All others are somebody
/// else's.
const OURS: &[&str] = &[
    "Accepted",
    "AddressesAssigned",
    "Conflicted",
    "InsecureFrontendValidationMode",
    "OverlappingTLSConfig",
    "PartiallyInvalid",
    "Programmed",
    "Ready",
    "ResolvedRefs",
    "SupportedVersion",
];

/// The fields of a status, beside lists of conditions and entries, that are ours as a whole.
const WHOLE_FIELDS: &[&str] = &["addresses", "attachedListenerSets", "supportedFeatures"];

/// Lists with an entry for each parent or ancestor and controller: the field, what an entry is about, and the most entries.
const ENTRY_LISTS: &[(&str, &str, usize)] = &[("parents", "parentRef", 32), ("ancestors", "ancestorRef", 16)];

/// What a merge has to know beside the two statuses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    /// Which entries are ours.
    pub(crate) controller_name: &'a str,
    /// Of the object; references without a namespace mean it.
    pub(crate) namespace: &'a str,
    /// The generation of the object.
    pub(crate) generation: Option<i64>,
    /// The time of transitions, RFC 3339.
    pub(crate) now: &'a str,
}

/// What came of a merge.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Merge {
    /// All that we have to say stands there.
    Unchanged,
    /// What stands there is about a newer generation than what we have to say.
    Newer,
    /// This is to be written.
    Changed {
        /// The whole status.
        status: Value,
        /// Whether parts of it are not ours, and so have to be as they are stored, to the byte.
        foreign: bool,
    },
}

/// Lays what we have to say into a status. Nothing to say takes our entries out of lists of parents or ancestors.
pub(crate) fn merge(current: Option<&Value>, desired: Option<&Value>, around: Around<'_>) -> Merge {
    let empty = Map::new();
    let current = current.and_then(Value::as_object).unwrap_or(&empty);
    let desired = desired.and_then(Value::as_object);
    let mut pass = Pass { around, foreign: false, newer: false };
    let mut merged = current.clone();

    let list = ENTRY_LISTS
        .iter()
        .find(|(field, ..)| [Some(current), desired].iter().flatten().any(|status| status.contains_key(*field)));
    match (list, desired) {
        (Some((field, about, limit)), _) => {
            let entries =
                pass.entries(list_of(current, field), desired.map_or(&[], |desired| list_of(desired, field)), about);
            merged.insert((*field).to_owned(), Value::Array(bounded_entries(entries, *limit, around.controller_name)));
        }
        (None, Some(desired)) => pass.whole(current, desired, &mut merged),
        (None, None) => return Merge::Unchanged,
    }
    pass.foreign |= merged.keys().any(|field| !is_known_field(field));
    let (current, merged) = (Value::Object(current.clone()), Value::Object(merged));
    match () {
        () if pass.newer => Merge::Newer,
        () if same(&current, &merged) => Merge::Unchanged,
        () => Merge::Changed { status: merged, foreign: pass.foreign },
    }
}

/// Whether two values say the same, whatever the order of lists.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    one == other || canonical(one) == canonical(other)
}

/// A text that is the same for values that say the same, whatever the order of lists and fields.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let mut items: Vec<_> = items.iter().map(canonical).collect();
            items.sort_unstable();
            format!("[{}]", items.join(","))
        }
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            fields.sort_unstable();
            format!("{{{}}}", fields.join(","))
        }
        plain => plain.to_string(),
    }
}

struct Pass<'a> {
    around: Around<'a>,
    foreign: bool,
    newer: bool,
}

impl Pass<'_> {
    /// The status of an object that is ours as a whole, but for conditions of others.
    fn whole(&mut self, current: &Map<String, Value>, desired: &Map<String, Value>, merged: &mut Map<String, Value>) {
        for field in WHOLE_FIELDS {
            match desired.get(*field) {
                Some(value) if current.get(*field).is_some_and(|stored| same(stored, value)) => {}
                Some(value) => drop(merged.insert((*field).to_owned(), value.clone())),
                None => drop(merged.shift_remove(*field)),
            }
        }
        let conditions = self.conditions(list_of(current, "conditions"), list_of(desired, "conditions"));
        merged.insert("conditions".to_owned(), Value::Array(conditions));
        if desired.contains_key("listeners") {
            let listeners = self.listeners(list_of(current, "listeners"), list_of(desired, "listeners"));
            merged.insert("listeners".to_owned(), Value::Array(listeners));
        } else {
            merged.shift_remove("listeners");
        }
    }

    fn listeners(&mut self, current: &[Value], desired: &[Value]) -> Vec<Value> {
        let with_conditions = |pass: &mut Self, stored: &Value, desired: &Value| {
            let mut merged =
                pass.fields(stored, desired, &["name", "port", "supportedKinds", "attachedRoutes", "conditions"]);
            let conditions = pass.conditions(items_of(stored, "conditions"), items_of(desired, "conditions"));
            merged.insert("conditions".to_owned(), Value::Array(conditions));
            Value::Object(merged)
        };
        let stored = |desired: &Value| current.iter().find(|stored| stored["name"] == desired["name"]);
        desired.iter().map(|desired| with_conditions(self, stored(desired).unwrap_or(&Value::Null), desired)).collect()
    }

    /// Entries for parents or ancestors: others' stay where and as they are.
    fn entries(&mut self, current: &[Value], desired: &[Value], about: &str) -> Vec<Value> {
        let mut rest: Vec<&Value> = desired.iter().collect();
        let mut merged = Vec::with_capacity(current.len().max(desired.len()));
        for stored in current {
            if stored["controllerName"] != self.around.controller_name {
                self.foreign = true;
                merged.push(stored.clone());
                continue;
            }
            let key = reference(&stored[about], self.around.namespace);
            let same = rest.iter().position(|desired| reference(&desired[about], self.around.namespace) == key);
            if let Some(index) = same {
                merged.push(self.entry(stored, rest.remove(index), about));
            }
        }
        for new in rest {
            merged.push(self.entry(&Value::Null, new, about));
        }
        merged
    }

    fn entry(&mut self, stored: &Value, desired: &Value, about: &str) -> Value {
        let mut merged = self.fields(stored, desired, &[about, "controllerName", "conditions"]);
        let conditions = self.conditions(items_of(stored, "conditions"), items_of(desired, "conditions"));
        merged.insert("conditions".to_owned(), Value::Array(conditions));
        Value::Object(merged)
    }

    /// The fields that are known as they should be, and those that are not as they are.
    fn fields(&mut self, stored: &Value, desired: &Value, known: &[&str]) -> Map<String, Value> {
        let mut merged = stored.as_object().cloned().unwrap_or_default();
        for field in known {
            match desired.get(*field) {
                Some(value) if merged.get(*field).is_some_and(|stored| same(stored, value)) => {}
                Some(value) => drop(merged.insert((*field).to_owned(), value.clone())),
                None => drop(merged.shift_remove(*field)),
            }
        }
        self.foreign |= merged.keys().any(|field| !known.contains(&field.as_str()));
        merged
    }

    fn conditions(&mut self, current: &[Value], desired: &[Value]) -> Vec<Value> {
        let mut rest: Vec<&Value> = desired.iter().collect();
        let mut merged = Vec::with_capacity(current.len().max(desired.len()));
        for stored in current {
            let kind = stored["type"].as_str().unwrap_or_default();
            if let Some(index) = rest.iter().position(|desired| desired["type"] == stored["type"]) {
                merged.push(self.condition(stored, rest.remove(index)));
            } else if !is_ours(kind) {
                self.foreign = true;
                merged.push(stored.clone());
            }
        }
        for new in rest {
            merged.push(self.condition(&Value::Null, new));
        }
        bounded_conditions(merged, desired)
    }

    fn condition(&mut self, stored: &Value, desired: &Value) -> Value {
        let observed = |condition: &Value| condition["observedGeneration"].as_i64();
        // A number beyond the object's own is no generation of it, and does not bind us.
        if let (Some(theirs), Some(ours)) = (observed(stored), observed(desired)) {
            self.newer |= theirs > ours && self.around.generation.is_none_or(|generation| theirs <= generation);
        }
        let mut merged = self.fields(
            stored,
            desired,
            &["type", "status", "observedGeneration", "reason", "message", "lastTransitionTime"],
        );
        let kept = stored["lastTransitionTime"].as_str().filter(|time| !time.is_empty());
        let kept = kept.filter(|_| stored["status"] == desired["status"]);
        merged.insert("lastTransitionTime".to_owned(), kept.unwrap_or(self.around.now).into());
        Value::Object(merged)
    }
}

fn is_ours(condition_type: &str) -> bool {
    OURS.contains(&condition_type) || condition_type.starts_with(OWN_PREFIX)
}

fn is_known_field(field: &str) -> bool {
    WHOLE_FIELDS.contains(&field)
        || ["conditions", "listeners"].contains(&field)
        || ENTRY_LISTS.iter().any(|(list, ..)| *list == field)
}

fn list_of<'a>(status: &'a Map<String, Value>, field: &str) -> &'a [Value] {
    status.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn items_of<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.as_object().map_or(&[], |fields| list_of(fields, field))
}

/// What a reference is about, with what its absent fields mean.
fn reference<'a>(
    reference: &'a Value,
    namespace: &'a str,
) -> (&'a str, &'a str, &'a str, &'a str, &'a str, Option<i64>) {
    let text = |field: &str, absent: &'a str| reference[field].as_str().unwrap_or(absent);
    (
        text("group", portcullis_api::GATEWAY_GROUP),
        text("kind", "Gateway"),
        text("namespace", namespace),
        text("name", ""),
        text("sectionName", ""),
        reference["port"].as_i64(),
    )
}

/// Others' conditions come first, then those of the specification, then those of our own.
fn bounded_conditions(mut conditions: Vec<Value>, ours: &[Value]) -> Vec<Value> {
    let is_ours = |condition: &Value| ours.iter().any(|ours| ours["type"] == condition["type"]);
    while conditions.len() > CONDITIONS_LIMIT {
        let own = |condition: &Value| condition["type"].as_str().is_some_and(|kind| kind.starts_with(OWN_PREFIX));
        let last = conditions.iter().rposition(own).or_else(|| conditions.iter().rposition(is_ours));
        let Some(last) = last else { break };
        conditions.remove(last);
    }
    conditions
}

fn bounded_entries(mut entries: Vec<Value>, limit: usize, controller_name: &str) -> Vec<Value> {
    while entries.len() > limit {
        let Some(last) = entries.iter().rposition(|entry| entry["controllerName"] == controller_name) else { break };
        entries.remove(last);
    }
    entries
}

#[cfg(test)]
mod tests;
