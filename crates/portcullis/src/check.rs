//! `portcullis check`: the status of every object as a cluster would show it.
//!
//! What flows in: files and folders. What flows out: each object's conditions, the findings of the compiler, and the diagnostics of the files.

use crate::cli::{Check, OutputFormat};
use crate::exit::Exit;
use crate::objects::Selected;
use crate::{diagnostics, output};
use comfy_table::{Table, presets::NOTHING};
use portcullis_api::diagnostic::Severity as Weight;
use portcullis_api::{Change, Foreign, Object, ObjectKey};
use portcullis_compile::{Compiled, Finding, Options, Severity, compile};
use portcullis_folder::{Folder, Options as FolderOptions, Update};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Reads, compiles and prints.
pub(crate) fn run(arguments: &Check) -> Exit {
    let selected = match Selected::new(&arguments.selection) {
        Ok(selected) => selected,
        Err(problem) => {
            output::problem(&format!("portcullis: {problem}"));
            return Exit::Usage;
        }
    };
    let default_namespace = arguments.selection.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let options = FolderOptions { default_namespace, strict: arguments.input.strict };
    let mut folder = Folder::new(arguments.input.paths.clone(), options);
    let mut update = folder.read();
    let objects = take_objects(&mut update);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let options = Options {
        standalone: true,
        shared_machine: true,
        now: i64::try_from(now).unwrap_or(i64::MAX),
        ..Options::default()
    };
    let compiled = compile(objects.values().cloned(), options);
    let report = Report::new(&objects, &compiled, &selected);

    diagnostics::show(&folder, &update.diagnostics, arguments.selection.output == OutputFormat::Wide);
    let printed = report.print(arguments.selection.output, &update);
    if printed != Exit::Success {
        return printed;
    }
    if !update.unreadable.is_empty() {
        return Exit::Unreadable;
    }
    let strict = arguments.input.strict;
    let wrong_files = diagnostics::any_error(&update.diagnostics)
        || strict && update.diagnostics.iter().any(|diagnostic| diagnostic.severity == Weight::Warning);
    if wrong_files || report.is_wrong(strict) { Exit::Problems } else { Exit::Success }
}

fn take_objects(update: &mut Update) -> BTreeMap<ObjectKey, Object> {
    let changes = std::mem::take(&mut update.changes).into_iter();
    let objects = changes.filter_map(|change| match change {
        Change::Upsert(object) => Some((object.key(), object)),
        Change::Delete(_) => None,
    });
    objects.collect()
}

/// What is shown of the selected objects.
struct Report<'a> {
    items: Vec<Item<'a>>,
    findings: Vec<&'a Finding>,
}

/// An object with a status.
struct Item<'a> {
    object: &'a Object,
    key: &'a ObjectKey,
    status: Value,
}

/// A part of an object that has conditions of its own, such as a listener.
struct Section<'a> {
    name: String,
    conditions: &'a [Value],
    attached_routes: Option<u64>,
}

impl<'a> Report<'a> {
    fn new(objects: &'a BTreeMap<ObjectKey, Object>, compiled: &'a Compiled, selected: &Selected) -> Self {
        let chosen = |key: &ObjectKey| objects.get(key).is_none_or(|object| selected.contains(key, object.metadata()));
        let items = compiled.statuses.iter().filter(|(key, _)| chosen(key)).filter_map(|(key, status)| {
            let object = objects.get(key)?;
            Some(Item { object, key, status: serde_json::to_value(status).unwrap_or_default() })
        });
        let findings = compiled.findings.iter().filter(|(key, _)| chosen(key)).flat_map(|(_, findings)| findings);
        Self { items: items.collect(), findings: findings.collect() }
    }

    fn is_wrong(&self, strict: bool) -> bool {
        let condition = self.items.iter().flat_map(Item::sections).any(|section| section.problems().next().is_some());
        let finding = |finding: &&Finding| match finding.severity {
            Severity::Error => true,
            Severity::Warning => strict,
            Severity::Info => false,
        };
        condition || self.findings.iter().any(finding)
    }

    fn print(&self, format: OutputFormat, update: &Update) -> Exit {
        match format {
            OutputFormat::Table | OutputFormat::Wide => self.print_table(format == OutputFormat::Wide, update),
            OutputFormat::Name => {
                let lines = self.items.iter().map(|item| format!("{}\n", item.resource_name()));
                output::bytes(lines.collect::<String>().as_bytes())
            }
            OutputFormat::Json => output::json(&self.list(update)),
            OutputFormat::Yaml => output::yaml(&self.list(update)),
        }
    }

    fn list(&self, update: &Update) -> Value {
        let diagnostics: Vec<Value> = update
            .diagnostics
            .iter()
            .map(|diagnostic| {
                json!({
                    "severity": diagnostic.severity.to_string(),
                    "code": diagnostic.code,
                    "file": &*diagnostic.source,
                    "line": diagnostic.line,
                    "column": diagnostic.column,
                    "object": diagnostic.object.as_ref().map(ToString::to_string),
                    "field": diagnostic.field,
                    "message": diagnostic.message,
                    "remedy": diagnostic.remedy,
                })
            })
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "List",
            "items": self.items.iter().map(Item::value).collect::<Vec<_>>(),
            "findings": self.findings,
            "diagnostics": diagnostics,
        })
    }

    fn print_table(&self, wide: bool, update: &Update) -> Exit {
        if self.items.is_empty() && self.findings.is_empty() {
            return output::line(match update.files {
                0 => "No YAML or JSON files found.",
                _ => "No objects with a status found.",
            });
        }
        let mut objects = table(&["NAMESPACE", "OBJECT", "SECTION", "STATUS", "MESSAGE"]);
        for item in &self.items {
            for section in item.sections() {
                for (status, message) in section.rows(wide) {
                    let object = format!("{}/{}", item.key.kind(), item.key.name());
                    objects.add_row([item.key.namespace(), &object, &section.name, &status, &message].map(shown));
                }
            }
        }
        let mut printed = objects.to_string();
        if !self.findings.is_empty() {
            let mut findings = table(&["SEVERITY", "FINDING", "OBJECT", "FIELD", "MESSAGE"]);
            for finding in &self.findings {
                let message = match finding.remedy.as_str() {
                    "" => finding.message.clone(),
                    remedy => format!("{}; {remedy}", finding.message),
                };
                let object = finding.object.to_string();
                let row = [finding.severity.as_str(), finding.code.as_str(), &object, &finding.field, &message];
                findings.add_row(row.map(shown));
            }
            printed.push_str("\n\n");
            printed.push_str(&findings.to_string());
        }
        let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
        output::line(&lines.join("\n"))
    }
}

impl Item<'_> {
    fn value(&self) -> Value {
        let metadata = self.object.metadata();
        let mut shown = json!({ "name": metadata.name });
        if !self.key.namespace().is_empty() {
            shown["namespace"] = json!(self.key.namespace());
        }
        shown["generation"] = json!(metadata.generation);
        json!({
            "apiVersion": self.object.api_version(),
            "kind": self.object.kind(),
            "metadata": shown,
            "status": self.status,
        })
    }

    /// As `kubectl get -o name` has it.
    fn resource_name(&self) -> String {
        let kind = self.key.kind().to_ascii_lowercase();
        match self.key.group() {
            "" => format!("{kind}/{}", self.key.name()),
            group => format!("{kind}.{group}/{}", self.key.name()),
        }
    }

    fn sections(&self) -> Vec<Section<'_>> {
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
        for parent in list(&self.status, "parents") {
            let reference = parent.get("parentRef").unwrap_or(&Value::Null);
            sections.push(Section {
                name: parent_text(reference, self.key.namespace()),
                conditions: list(parent, "conditions"),
                attached_routes: None,
            });
        }
        sections
    }
}

impl Section<'_> {
    /// Status and message of each row: one for each problem, or one that says that there is none.
    fn rows(&self, wide: bool) -> Vec<(String, String)> {
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
    fn problems(&self) -> impl Iterator<Item = &Value> {
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

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.to_vec());
    table
}

/// Foreign text, without control characters.
fn shown(text: &str) -> String {
    Foreign(text).to_string()
}
