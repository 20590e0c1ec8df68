//! One YAML or JSON document → JSON, within limits.
//!
//! In: the events of the YAML parser. Out: one value, or the first thing that is wrong, with its place. Every
//! loop is bounded by the text's length but the copying of aliases, which has a budget of its own.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};

use super::scalar;
use super::{Limits, index};
use crate::diagnostic::escape_foreign_text;

/// Bytes that aliases may copy, for each value that they may copy.
const COPIED_BYTES_PER_VALUE: usize = 1_000;

/// Why a document cannot be read. Lines count from the document's start, 0 means nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ComposeError {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) remedy: Option<String>,
}

impl ComposeError {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), line: 0, column: 0, remedy: None }
    }

    pub(super) fn limit(message: String) -> Self {
        Self::new("yaml-limit", message)
    }

    fn with_remedy(mut self, remedy: &str) -> Self {
        self.remedy = Some(remedy.to_owned());
        self
    }

    fn at(mut self, span: Span) -> Self {
        if self.line == 0 {
            let super::Position { line, column } = index::position(span);
            (self.line, self.column) = (line, column);
        }
        self
    }

    fn of_scan(error: &ScanError) -> Self {
        let marker = error.marker();
        let (line, column) = (marker.line() as u32, marker.col() as u32 + 1);
        Self { line, column, ..Self::new("yaml-syntax", error.kind().to_string()) }
    }
}

/// The parser's own limits: comments are skipped, nesting is ended before ours would end it.
pub(super) fn parser_options() -> Options {
    let mut options = Options::default();
    options.set_emit_comments(false);
    options
}

/// The value of a document; `None` if it is empty.
pub(super) fn compose(text: &str, limits: &Limits) -> Result<Option<Value>, ComposeError> {
    if let Some(error) = find_control_character(text) {
        return Err(error);
    }
    let error = match Composer::new(limits).run(text) {
        Ok(value) => return Ok(value.filter(|value| !value.is_null())),
        Err(error) => error,
    };
    // JSON that is not quite YAML: escapes of surrogate pairs.
    let is_json = error.code == "yaml-syntax" && text.trim_start().starts_with('{');
    match if is_json { super::json::read(text) } else { None } {
        Some(value) if depth(&value) <= limits.depth => Ok(Some(value)),
        _ => Err(error),
    }
}

/// YAML 1.2.2, section 5.1: what is not printable may not stand in a stream.
fn find_control_character(text: &str) -> Option<ComposeError> {
    // The first byte of every two-byte encoding of C1 is 0xc2.
    let suspicious = |byte: u8| byte < b' ' && !matches!(byte, b'\n' | b'\r' | b'\t') || byte == 0x7f || byte == 0xc2;
    if !text.bytes().any(suspicious) {
        return None;
    }
    for (line, content) in text.split('\n').enumerate() {
        for (column, character) in content.chars().enumerate() {
            if character.is_control() && !matches!(character, '\r' | '\t' | '\u{85}') {
                let shown = escape_foreign_text(&character.to_string(), 16);
                let error = ComposeError::new("control-character", format!("control character {shown} in the file"));
                let remedy = "remove it, or write it as an escape in double quotes where it is meant";
                return Some(ComposeError {
                    line: line as u32 + 1,
                    column: column as u32 + 1,
                    ..error.with_remedy(remedy)
                });
            }
        }
    }
    None
}

/// An open collection.
struct Frame {
    anchor: usize,
    start: Span,
    /// Values in it so far, itself included.
    values: usize,
    content: Content,
}

enum Content {
    List(Vec<Value>),
    Map {
        map: Map<String, Value>,
        key: Option<Key>,
        /// What merge keys bring, in order.
        merged: Vec<Map<String, Value>>,
    },
}

enum Key {
    Name(String),
    Merge,
}

/// A value that aliases can name.
struct Anchored {
    value: Value,
    values: usize,
    bytes: usize,
}

struct Composer<'l> {
    limits: &'l Limits,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchored>,
    result: Option<Value>,
    values: usize,
    copied_values: usize,
    copied_bytes: usize,
}

impl<'l> Composer<'l> {
    fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            stack: Vec::new(),
            anchors: HashMap::new(),
            result: None,
            values: 0,
            copied_values: 0,
            copied_bytes: 0,
        }
    }

    fn run(mut self, text: &str) -> Result<Option<Value>, ComposeError> {
        for event in Parser::new_from_str_with_options(text, parser_options()) {
            let (event, span) = event.map_err(|error| ComposeError::of_scan(&error))?;
            self.add(event, span).map_err(|error| error.at(span))?;
        }
        Ok(self.result)
    }

    fn add(&mut self, event: Event<'_>, span: Span) -> Result<(), ComposeError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => self.scalar(text, style, anchor, tag.as_deref(), span),
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), "seq")?;
                self.open(Content::List(Vec::new()), anchor, span)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), "map")?;
                self.open(Content::Map { map: Map::new(), key: None, merged: Vec::new() }, anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, span),
            Event::DocumentStart(..) if self.result.is_some() => {
                Err(ComposeError::new("yaml-syntax", "a second document without a separator (---) before it"))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, content: Content, anchor: usize, start: Span) -> Result<(), ComposeError> {
        self.count_values(1)?;
        if self.stack.len() >= self.limits.depth {
            return Err(ComposeError::limit(format!("lists and maps are nested deeper than {}", self.limits.depth)));
        }
        if self.awaits_key() {
            return Err(ComposeError::new("yaml-syntax", "the key of a map must be a scalar"));
        }
        self.stack.push(Frame { anchor, start, values: 1, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), ComposeError> {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let value = match frame.content {
            Content::List(items) => Value::Array(items),
            Content::Map { mut map, merged, .. } => {
                merge(&mut map, merged);
                Value::Object(map)
            }
        };
        self.remember(frame.anchor, &value, frame.values)?;
        self.value(value, frame.values, frame.start)
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<(), ComposeError> {
        self.count_values(1)?;
        if text.len() > self.limits.scalar_bytes {
            let message = format!("a scalar of {} bytes; at most {} are read", text.len(), self.limits.scalar_bytes);
            return Err(ComposeError::limit(message));
        }
        let is_plain = matches!(style, ScalarStyle::Plain);
        if self.awaits_key() && is_plain && tag.is_none() && text == "<<" {
            return self.set_key(Key::Merge);
        }
        let value = resolve_tagged(text, is_plain, tag)?;
        self.remember(anchor, &value, 1)?;
        self.value(value, 1, span)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<(), ComposeError> {
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(ComposeError::new("yaml-syntax", "an alias inside of the value that it names"));
        };
        let (values, bytes) = (anchored.values, anchored.bytes);
        self.count_copy(values, bytes)?;
        self.count_values(values)?;
        let value = self.anchors[&anchor].value.clone();
        if self.stack.len() + depth(&value) > self.limits.depth {
            return Err(ComposeError::limit(format!("lists and maps are nested deeper than {}", self.limits.depth)));
        }
        self.value(value, values, span)
    }

    /// Puts a value where it belongs: as a key, an entry, an element or the result.
    fn value(&mut self, value: Value, values: usize, span: Span) -> Result<(), ComposeError> {
        let Some(frame) = self.stack.last_mut() else {
            self.result = Some(value);
            return Ok(());
        };
        frame.values += values;
        match &mut frame.content {
            Content::List(items) => items.push(value),
            Content::Map { map, key, merged } => match key.take() {
                None => return self.set_key(Key::Name(key_text(value)?)).map_err(|error| error.at(span)),
                Some(Key::Merge) => {
                    add_merged(merged, value).map_err(|error| error.at(span))?;
                }
                Some(Key::Name(name)) => {
                    map.insert(name, value);
                }
            },
        }
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { content: Content::Map { key: None, .. }, .. }))
    }

    fn set_key(&mut self, new: Key) -> Result<(), ComposeError> {
        if let Some(Frame { content: Content::Map { map, key, merged }, .. }) = self.stack.last_mut() {
            let repeated = match &new {
                Key::Name(name) => map.contains_key(name).then(|| escape_foreign_text(name, 100)),
                Key::Merge => (!merged.is_empty()).then(|| "<<".to_owned()),
            };
            if let Some(name) = repeated {
                let error =
                    ComposeError::new("yaml-duplicate-key", format!("key \"{name}\" is already set in this map"));
                return Err(error.with_remedy("keep one of the two"));
            }
            *key = Some(new);
        }
        Ok(())
    }

    /// Keeps a copy of an anchored value.
    fn remember(&mut self, anchor: usize, value: &Value, values: usize) -> Result<(), ComposeError> {
        if anchor != 0 {
            let bytes = text_bytes(value);
            self.count_copy(values, bytes)?;
            self.anchors.insert(anchor, Anchored { value: value.clone(), values, bytes });
        }
        Ok(())
    }

    fn count_copy(&mut self, values: usize, bytes: usize) -> Result<(), ComposeError> {
        self.copied_values = self.copied_values.saturating_add(values);
        self.copied_bytes = self.copied_bytes.saturating_add(bytes);
        let limit = self.limits.copied_values;
        if self.copied_values > limit || self.copied_bytes > limit.saturating_mul(COPIED_BYTES_PER_VALUE) {
            let error = ComposeError::limit(format!("anchors and aliases make more than {limit} copies of values"));
            return Err(error.with_remedy("write the values out, or use fewer aliases"));
        }
        Ok(())
    }

    fn count_values(&mut self, values: usize) -> Result<(), ComposeError> {
        self.values = self.values.saturating_add(values);
        if self.values > self.limits.values {
            return Err(ComposeError::limit(format!("a document with more than {} values", self.limits.values)));
        }
        Ok(())
    }
}

/// Adds the map, or the maps, that a merge key names.
fn add_merged(merged: &mut Vec<Map<String, Value>>, value: Value) -> Result<(), ComposeError> {
    let sources = match value {
        Value::Array(items) => items,
        single => vec![single],
    };
    for source in sources {
        let Value::Object(source) = source else {
            return Err(ComposeError::new("yaml-syntax", "a merge key (<<) needs a map, or a list of maps"));
        };
        merged.push(source);
    }
    Ok(())
}

/// What merge keys bring: explicit keys win, then the map that comes first.
fn merge(map: &mut Map<String, Value>, merged: Vec<Map<String, Value>>) {
    for (key, value) in merged.into_iter().flatten() {
        map.entry(key).or_insert(value);
    }
}

/// A key as JSON has it: text.
fn key_text(key: Value) -> Result<String, ComposeError> {
    Ok(match key {
        Value::String(text) => text,
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Null => {
            return Err(ComposeError::new("yaml-syntax", "a key is empty").with_remedy("write a name before the colon"));
        }
        Value::Array(_) | Value::Object(_) => {
            return Err(ComposeError::new("yaml-syntax", "the key of a map must be a scalar"));
        }
    })
}

fn resolve_tagged(text: Cow<'_, str>, is_plain: bool, tag: Option<&Tag>) -> Result<Value, ComposeError> {
    let no_number = || ComposeError::new("yaml-syntax", "infinity and NaN have no place in an object");
    let Some(tag) = tag else {
        return if is_plain {
            scalar::resolve(&text).ok_or_else(no_number)
        } else {
            Ok(Value::String(text.into_owned()))
        };
    };
    match tag.core_suffix() {
        Some("str") => return Ok(Value::String(text.into_owned())),
        Some(kind @ ("int" | "float" | "bool" | "null")) => {
            let value = scalar::resolve(&text).ok_or_else(no_number)?;
            let fits = match kind {
                "bool" => value.is_boolean(),
                "null" => value.is_null(),
                _ => value.is_number(),
            };
            return if fits {
                Ok(value)
            } else {
                Err(ComposeError::new("yaml-syntax", format!("the value is no !!{kind}")))
            };
        }
        _ => {}
    }
    // The non-specific tag: not resolved.
    if tag.original() == "!" {
        return Ok(Value::String(text.into_owned()));
    }
    Err(unsupported_tag(tag))
}

fn refuse_tag(tag: Option<&Tag>, allowed: &str) -> Result<(), ComposeError> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(allowed) && tag.original() != "!" => Err(unsupported_tag(tag)),
        _ => Ok(()),
    }
}

fn unsupported_tag(tag: &Tag) -> ComposeError {
    let name = escape_foreign_text(&tag.original(), 100);
    ComposeError::new("yaml-syntax", format!("the tag {name} has no meaning in an object"))
        .with_remedy("remove the tag")
}

/// The bytes of all texts and keys of a value.
fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + text_bytes(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
