//! `portcullis check`: the status of every object as a cluster would show it.
//!
//! What flows in: files and folders. What flows out: each object's conditions, the findings of the compiler, and the diagnostics of the files.

use crate::cli::{Check, OutputFormat};
use crate::exit::Exit;
use crate::objects::Selected;
use crate::statuses::{Item, shown, table};
use crate::{diagnostics, output, statuses};
use portcullis_api::diagnostic::Severity as Weight;
use portcullis_api::{Change, Object, ObjectKey};
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
    items: Vec<Item>,
    findings: Vec<&'a Finding>,
}

impl<'a> Report<'a> {
    fn new(objects: &'a BTreeMap<ObjectKey, Object>, compiled: &'a Compiled, selected: &Selected) -> Self {
        let chosen = |key: &ObjectKey| objects.get(key).is_none_or(|object| selected.contains(key, object.metadata()));
        let items = compiled.statuses.iter().filter(|(key, _)| chosen(key)).filter_map(|(key, status)| {
            Some(Item::new(objects.get(key)?, serde_json::to_value(status).unwrap_or_default()))
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
        let mut objects = table(&statuses::HEADER);
        for item in &self.items {
            for section in item.sections() {
                for (status, message) in section.rows(wide) {
                    objects.add_row(item.row(&section.name, &status, &message));
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
        statuses::print(&printed)
    }
}
