//! Files of Kubernetes objects: YAML or JSON text in, documents with their place out.
//!
//! In: a file's text, bounded by [`Limits`]. Out: a [`Manifest`]: one [`Document`] per object (lists are
//! flattened, empty documents are left out) and a [`Diagnostic`] for each thing that could not be read. A
//! document that is broken does not take its siblings with it. YAML is read as kubectl reads it: the booleans
//! and octal numbers of YAML 1.1, anchors and merge keys, duplicate keys refused.
//!
//! The way to typed objects: [`parse`] → [`Document::check`] (defaults and validation) →
//! [`Document::into_object`]; [`load`] does it all.

mod compose;
mod index;
mod json;
mod scalar;
mod split;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Severity, escape_foreign_text};
use crate::object::{Object, ObjectKey, Scope};
use crate::schema::{FieldPath, Schemas, Segment, Violation, ViolationKind};
use compose::ComposeError;
use index::Place;

/// How much of a file is read. What is beyond gets a diagnostic and is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The size of a file, in bytes.
    pub file_bytes: usize,
    /// The number of objects in a file.
    pub objects: usize,
    /// The number of values (scalars, lists, maps) in a document.
    pub values: usize,
    /// The depth of nested lists and maps.
    pub depth: usize,
    /// The size of one scalar, in bytes.
    pub scalar_bytes: usize,
    /// The number of values that aliases and merge keys may copy, and a thousandth of their bytes.
    pub copied_values: usize,
    /// The number of diagnostics of a file.
    pub diagnostics: usize,
}

impl Default for Limits {
    /// Enough for a folder of 100,000 routes in one file.
    fn default() -> Self {
        Self {
            file_bytes: 256 << 20,
            objects: 500_000,
            values: 5_000_000,
            depth: 64,
            scalar_bytes: 4 << 20,
            copied_values: 10_000,
            diagnostics: 1_000,
        }
    }
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct Manifest {
    /// The objects, in the order of the file.
    pub documents: Vec<Document>,
    /// What could not be read.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a file's text. `source` names the file in diagnostics.
pub fn parse(source: &str, text: &str, limits: &Limits) -> Manifest {
    let mut documents = Vec::new();
    let diagnostics = read(source, text, limits, &mut |document| documents.push(document));
    Manifest { documents, diagnostics }
}

/// What a file gives after validation.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The objects that an API server would accept, each with its place.
    pub objects: Vec<(Object, Origin)>,
    /// The objects that it would refuse, as far as they could be told.
    pub refused: Vec<Option<ObjectKey>>,
    /// Everything there is to say about the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads and validates a file: [`parse`], then [`Document::check`] and [`Document::into_object`], one document
/// after the other, so that never more than one is held as JSON. Objects without a namespace get
/// `default_namespace`.
pub fn load(source: &str, text: &str, limits: &Limits, schemas: &Schemas, default_namespace: &str) -> Loaded {
    let mut loaded = Loaded::default();
    let mut dropped = 0;
    let unread = read(source, text, limits, &mut |document| {
        for diagnostic in loaded.add(document, schemas, default_namespace) {
            if loaded.diagnostics.len() < limits.diagnostics {
                loaded.diagnostics.push(diagnostic);
            } else {
                dropped += 1;
            }
        }
    });
    if dropped > 0 {
        loaded.diagnostics.push(more_errors(source.into(), dropped));
    }
    loaded.refused.extend(unread.iter().map(|_| None));
    loaded.diagnostics.extend(unread);
    loaded.diagnostics.sort_by_key(|diagnostic| (diagnostic.line == 0, diagnostic.line, diagnostic.column));
    loaded
}

impl Loaded {
    /// Checks a document and adds its object.
    fn add(&mut self, mut document: Document, schemas: &Schemas, default_namespace: &str) -> Vec<Diagnostic> {
        let mut found = document.check(schemas, default_namespace);
        let key = document.key();
        if found.iter().any(|diagnostic| diagnostic.severity == Severity::Error) {
            self.refused.push(key);
            return found;
        }
        let origin = document.origin().clone();
        match document.into_object() {
            Ok(object) => self.objects.push((object, origin)),
            Err(diagnostic) => {
                self.refused.push(key);
                found.push(*diagnostic);
            }
        }
        found
    }
}

/// One object of a file, not yet typed.
#[derive(Clone, Debug)]
pub struct Document {
    value: Value,
    origin: Origin,
}

impl Document {
    /// The object as it stands.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Where it stands.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The object's key, as far as it can be told without its type. `None` if it has no name or kind.
    pub fn key(&self) -> Option<ObjectKey> {
        let text = |name: &str| self.value.get(name).and_then(Value::as_str);
        let (group, _) = text("apiVersion")?.split_once('/').unwrap_or_default();
        let metadata = self.value.get("metadata")?;
        let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
        Some(ObjectKey::new(group, text("kind")?, namespace, metadata.get("name")?.as_str()?))
    }

    /// Sets the namespace and the defaults that an API server would set, and says what it would object to.
    pub fn check(&mut self, schemas: &Schemas, default_namespace: &str) -> Vec<Diagnostic> {
        self.set_namespace(schemas, default_namespace);
        let validation = schemas.validate(&mut self.value);
        let key = self.key();
        let mut diagnostics: Vec<Diagnostic> =
            validation.violations.iter().map(|violation| self.origin.diagnose(violation, key.clone())).collect();
        if validation.omitted > 0 {
            let severity = if validation.is_valid() { Severity::Warning } else { Severity::Error };
            let message = format!("and {} more in this object", validation.omitted);
            diagnostics.push(self.origin.diagnostic(severity, "more-errors", &FieldPath::root(), key, message));
        }
        diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
        diagnostics
    }

    /// The typed object.
    ///
    /// # Errors
    /// If the object does not have the form of its type. An object that passed [`check`](Self::check) has.
    pub fn into_object(self) -> Result<Object, Box<Diagnostic>> {
        let key = self.key();
        let is_secret = self.value.get("kind").and_then(Value::as_str) == Some("Secret");
        Object::from_value(self.value).map_err(|error| {
            let path: FieldPath = error.field.parse().unwrap_or_default();
            // A message may quote what it found.
            let message = if is_secret { "the Secret cannot be read".to_owned() } else { error.message };
            Box::new(self.origin.diagnostic(Severity::Error, "unreadable-object", &path, key, message))
        })
    }

    fn set_namespace(&mut self, schemas: &Schemas, default_namespace: &str) {
        let text = |name: &str| self.value.get(name).and_then(Value::as_str).unwrap_or_default();
        if schemas.scope(text("apiVersion"), text("kind")) != Some(Scope::Namespaced) {
            return;
        }
        if let Some(metadata) = self.value.get_mut("metadata").and_then(Value::as_object_mut)
            && metadata.get("namespace").is_none_or(|namespace| namespace.is_null() || namespace == "")
        {
            metadata.insert("namespace".to_owned(), Value::String(default_namespace.to_owned()));
        }
    }
}

/// Where an object stands: the file, the document in it and, in a list, the item. Cheap to clone; keeps the
/// file's text.
#[derive(Clone, Debug)]
pub struct Origin {
    chunk: Arc<Chunk>,
    /// The object's place in the document: empty, or `items[3]`.
    prefix: FieldPath,
}

/// A line and a column, from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// A document's text.
#[derive(Debug)]
struct Chunk {
    source: Arc<str>,
    text: Arc<str>,
    range: Range<usize>,
    first_line: u32,
    /// Built when the first position is asked for.
    index: OnceLock<Place>,
}

impl Chunk {
    fn text(&self) -> &str {
        &self.text[self.range.clone()]
    }

    fn place(&self) -> &Place {
        self.index.get_or_init(|| Place::of_document(self.text()))
    }
}

impl Origin {
    /// The name of the file.
    pub fn source(&self) -> &Arc<str> {
        &self.chunk.source
    }

    /// The whole text of the file, for [`Diagnostic::render`].
    pub fn text(&self) -> &str {
        &self.chunk.text
    }

    /// Where a field stands; for a field that is not there, where the one that should hold it stands.
    pub fn position(&self, path: &FieldPath) -> Position {
        self.locate(path, false)
    }

    /// A diagnostic about a field of the object.
    pub fn diagnostic(
        &self,
        severity: Severity,
        code: &'static str,
        path: &FieldPath,
        object: Option<ObjectKey>,
        message: String,
    ) -> Diagnostic {
        let Position { line, column } = self.position(path);
        let field = (!path.segments().is_empty()).then(|| path.to_string());
        Diagnostic {
            severity,
            code,
            source: Arc::clone(&self.chunk.source),
            line,
            column,
            object,
            field,
            message,
            remedy: None,
        }
    }

    fn diagnose(&self, violation: &Violation, object: Option<ObjectKey>) -> Diagnostic {
        let kind = violation.kind;
        let mut diagnostic =
            self.diagnostic(kind.severity(), kind.code(), &violation.path, object, violation.message.clone());
        if kind == ViolationKind::UnknownField {
            let Position { line, column } = self.locate(&violation.path, true);
            (diagnostic.line, diagnostic.column) = (line, column);
        }
        diagnostic.remedy.clone_from(&violation.remedy);
        diagnostic
    }

    fn locate(&self, path: &FieldPath, of_key: bool) -> Position {
        let segments: Vec<&Segment> = self.prefix.segments().iter().chain(path.segments()).collect();
        if segments.is_empty() {
            let start = split::content_start(self.chunk.text());
            return Position { line: self.chunk.first_line + start.line - 1, column: start.column };
        }
        let found = self.chunk.place().find(&segments, of_key);
        Position { line: self.chunk.first_line + found.line - 1, column: found.column }
    }
}

/// Reads a file, gives each document away, and returns what could not be read.
fn read(source: &str, text: &str, limits: &Limits, take: &mut dyn FnMut(Document)) -> Vec<Diagnostic> {
    let mut reader = Reader { source: source.into(), limits, take, taken: 0, diagnostics: Vec::new(), dropped: 0 };
    reader.read(text);
    if reader.dropped > 0 {
        reader.diagnostics.push(more_errors(reader.source, reader.dropped));
    }
    reader.diagnostics
}

fn more_errors(source: Arc<str>, count: usize) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: "more-errors",
        source,
        line: 0,
        column: 0,
        object: None,
        field: None,
        message: format!("and {count} more in this file"),
        remedy: None,
    }
}

/// Reads one file.
struct Reader<'r> {
    source: Arc<str>,
    limits: &'r Limits,
    take: &'r mut dyn FnMut(Document),
    /// Documents given away.
    taken: usize,
    diagnostics: Vec<Diagnostic>,
    /// Diagnostics beyond the limit.
    dropped: usize,
}

impl Reader<'_> {
    fn read(&mut self, text: &str) {
        if text.len() > self.limits.file_bytes {
            let message = format!("the file has {} bytes; at most {} are read", text.len(), self.limits.file_bytes);
            return self.report(ComposeError::limit(message), 0);
        }
        let text: Arc<str> = text.strip_prefix('\u{feff}').unwrap_or(text).into();
        for piece in split::documents(&text) {
            let range = piece.range.clone();
            match compose::compose(&text[range.clone()], self.limits) {
                Ok(None) => {}
                Ok(Some(value)) => {
                    let chunk = Chunk {
                        source: Arc::clone(&self.source),
                        text: Arc::clone(&text),
                        range,
                        first_line: piece.first_line,
                        index: OnceLock::new(),
                    };
                    self.add(value, Origin { chunk: Arc::new(chunk), prefix: FieldPath::root() });
                }
                Err(error) => self.report(error, piece.first_line - 1),
            }
        }
    }

    /// Adds an object, or the items of a list.
    fn add(&mut self, value: Value, origin: Origin) {
        let (value, items, defaults) = match take_items(value) {
            Listed::Items { items, defaults } => (None, items, defaults),
            Listed::Broken(value) => {
                let path = FieldPath::root().field("items");
                let message = "Invalid value: the items of a list must be of type array".to_owned();
                let document = Document { value, origin };
                let diagnostic =
                    document.origin.diagnostic(Severity::Error, "wrong-type", &path, document.key(), message);
                return self.push(diagnostic);
            }
            Listed::Object(value) => (Some(value), Vec::new(), Vec::new()),
        };
        if let Some(value) = value {
            if self.taken < self.limits.objects {
                self.taken += 1;
                return (self.take)(Document { value, origin });
            }
            let message = format!("more than {} objects in one file; this one is not read", self.limits.objects);
            let diagnostic = origin.diagnostic(Severity::Error, "yaml-limit", &FieldPath::root(), None, message);
            return self.push(diagnostic);
        }
        for (index, mut item) in items.into_iter().enumerate() {
            if let Value::Object(fields) = &mut item {
                for (name, text) in &defaults {
                    fields.entry(*name).or_insert_with(|| Value::String(text.clone()));
                }
            }
            let prefix = origin.prefix.clone().field("items").index(index);
            // Lists in lists end with the depth of the document, which is bounded.
            self.add(item, Origin { chunk: Arc::clone(&origin.chunk), prefix });
        }
    }

    fn report(&mut self, error: ComposeError, lines_before: u32) {
        let ComposeError { code, message, line, column, remedy } = error;
        let line = if line == 0 { 0 } else { line + lines_before };
        self.push(Diagnostic {
            severity: Severity::Error,
            code,
            source: Arc::clone(&self.source),
            line,
            column,
            object: None,
            field: None,
            message: escape_foreign_text(&message, 500),
            remedy,
        });
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < self.limits.diagnostics {
            self.diagnostics.push(diagnostic);
        } else {
            self.dropped += 1;
        }
    }
}

enum Listed {
    Object(Value),
    Items {
        items: Vec<Value>,
        /// `apiVersion` and `kind` that the items of a typed list may leave out.
        defaults: Vec<(&'static str, String)>,
    },
    /// A list whose items are none.
    Broken(Value),
}

/// The items of `kind: List` and of typed lists such as `HTTPRouteList`.
fn take_items(mut value: Value) -> Listed {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let Some(item_kind) = text("kind").strip_suffix("List").map(str::to_owned) else {
        return Listed::Object(value);
    };
    let api_version = text("apiVersion").to_owned();
    match value.get_mut("items") {
        None if !item_kind.is_empty() => Listed::Object(value),
        None | Some(Value::Null) => Listed::Items { items: Vec::new(), defaults: Vec::new() },
        Some(Value::Array(items)) => {
            let items = std::mem::take(items);
            let typed = !item_kind.is_empty() && !api_version.is_empty();
            let defaults = if typed { vec![("apiVersion", api_version), ("kind", item_kind)] } else { Vec::new() };
            Listed::Items { items, defaults }
        }
        Some(_) => Listed::Broken(value),
    }
}
