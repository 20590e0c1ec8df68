//! How the statuses of objects are shown, by `check` and by `status` alike: a row for each problem of each section, or one
//! that says that there is none.

use crate::exit::Exit;
use crate::output;
use comfy_table::{Table, presets::NOTHING};
use portcullis_api::{Foreign, Object, ObjectKey};
use serde_json::{Value, json};

/// The columns.
pub(crate) const HEADER: [&str; 5] = ["NAMESPACE", "OBJECT", "SECTION", "STATUS", "MESSAGE"];

/// An object with a status.
pub(crate) struct Item {
    pub(crate) key: ObjectKey,
    api_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) status: Value,
}

/// A part of an object that has conditions of its own, such as a listener.
pub(crate) struct Section<'a> {
    pub(crate) name: String,
    pub(crate) conditions: &'a [Value],
    attached_routes: Option<u64>,
}

impl Item {
    /// An object, with a status that need not be its own.
    pub(crate) fn new(object: &Object, status: Value) -> Self {
        Self {
            key: object.key(),
            api_version: object.api_version().to_owned(),
            generation: object.metadata().generation,
            status,
        }
    }

    /// The object as `-o json` has it.
    pub(crate) fn value(&self) -> Value {
        let mut shown = json!({ "name": self.key.name() });
        if !self.key.namespace().is_empty() {
            shown["namespace"] = json!(self.key.namespace());
        }
        shown["generation"] = json!(self.generation);
        json!({
            "apiVersion": self.api_version,
            "kind": self.key.kind(),
            "metadata": shown,
            "status": self.status,
        })
    }

    /// As `kubectl get -o name` has it.
    pub(crate) fn resource_name(&self) -> String {
        let kind = self.key.kind().to_ascii_lowercase();
        match self.key.group() {
            "" => format!("{kind}/{}", self.key.name()),
            group => format!("{kind}.{group}/{}", self.key.name()),
        }
    }

    /// A row of the table.
    pub(crate) fn row(&self, section: &str, status: &str, message: &str) -> [String; 5] {
        let object = format!("{}/{}", self.key.kind(), self.key.name());
        [self.key.namespace(), &object, section, status, message].map(shown)
    }

    /// The object itself, its listeners, and its parents or ancestors.
    pub(crate) fn sections(&self) -> Vec<Section<'_>> {
        let mut sections = Vec::new();
        if self.status.get("conditions").is_some() {
            let conditions = list(&self.status, "conditions");
            sections.push(Section { name: String::new(), conditions, attached_routes: None });
        }
        for listener in list(&self.status, "listeners") {
            sections.push(Section {
                name: format!("listener {}", text(listener, "name")),
                conditions: list(listener, "conditions"),
                attached_routes: listener.get("attachedRoutes").and_then(Value::as_u64),
            });
        }
        for (field, reference) in [("parents", "parentRef"), ("ancestors", "ancestorRef")] {
            for parent in list(&self.status, field) {
                let reference = parent.get(reference).unwrap_or(&Value::Null);
                sections.push(Section {
                    name: parent_text(reference, self.key.namespace()),
                    conditions: list(parent, "conditions"),
                    attached_routes: None,
                });
            }
        }
        sections
    }
}

impl Section<'_> {
    /// Status and message of each row: one for each problem, or one that says that there is none.
    pub(crate) fn rows(&self, wide: bool) -> Vec<(String, String)> {
        let all = || self.conditions.iter().map(condition_text).collect::<Vec<_>>().join(" ");
        let status = |condition| if wide { all() } else { condition_text(condition) };
        let problem = |condition| (status(condition), text(condition, "message").to_owned());
        let problems: Vec<_> = self.problems().map(problem).collect();
        if !problems.is_empty() {
            return problems;
        }
        let attached = match self.attached_routes {
            Some(1) => "1 attached route".to_owned(),
            Some(routes) => format!("{routes} attached routes"),
            None => String::new(),
        };
        vec![(if wide { all() } else { "OK".to_owned() }, attached)]
    }

    /// The conditions that say that something is wrong.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Value> {
        self.conditions.iter().filter(|condition| {
            // These are true when something is wrong; all others are false then.
            let negative =
                matches!(text(condition, "type"), "Conflicted" | "PartiallyInvalid" | "InsecureFrontendValidationMode");
            let informative = text(condition, "type") == "OverlappingTLSConfig";
            !informative && (text(condition, "status") == "True") == negative
        })
    }
}

fn parent_text(reference: &Value, namespace: &str) -> String {
    let parent_namespace = match text(reference, "namespace") {
        "" => namespace,
        namespace => namespace,
    };
    let mut shown = format!("parent {parent_namespace}/{}", text(reference, "name"));
    if let Some(port) = reference.get("port").and_then(Value::as_u64) {
        shown.push_str(&format!(":{port}"));
    }
    if !text(reference, "sectionName").is_empty() {
        shown.push_str(&format!(" {}", text(reference, "sectionName")));
    }
    shown
}

fn condition_text(condition: &Value) -> String {
    format!("{}={}/{}", text(condition, "type"), text(condition, "status"), text(condition, "reason"))
}

pub(crate) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.to_vec());
    table
}

/// Foreign text, without control characters.
pub(crate) fn shown(text: &str) -> String {
    Foreign(text).to_string()
}

/// Prints a table, without blanks at the ends of lines.
pub(crate) fn print(table: &str) -> Exit {
    let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
    output::line(&lines.join("\n"))
}
