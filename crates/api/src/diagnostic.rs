//! What is told to a person about a file: one problem, where it is, and what to do about it.
//!
//! In: violations, syntax errors and notes from [`crate::manifest`] and [`crate::schema`]. Out: plain data
//! with a stable code, and [`Diagnostic::render`], which shows the source line. Everything that comes from
//! a file is foreign text: it leaves here escaped and cut ([`escape_foreign_text`]), and what a Secret
//! holds is never shown.

mod escape;
mod mask;

use std::fmt;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

pub use escape::escape_foreign_text;

use crate::object::ObjectKey;

/// The longest message, field or remedy that is rendered, in characters.
const MAX_TEXT: usize = 1_000;
/// The longest source line that is rendered, in characters.
const MAX_LINE: usize = 160;

/// How much a diagnostic weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know; nothing to do.
    Note,
    /// The object is used, but probably not as its author meant.
    Warning,
    /// The object is not used.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Whether rendered text carries ANSI colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Style {
    /// Text alone.
    #[default]
    Plain,
    /// With ANSI colours, for a terminal.
    Coloured,
}

/// One problem in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it weighs.
    pub severity: Severity,
    /// A stable name for the kind of problem, in kebab-case: `required-field`.
    pub code: &'static str,
    /// The name of the file, as the user gave it.
    pub source: Arc<str>,
    /// Line in that file, from 1; 0 when the problem has no place in it.
    pub line: u32,
    /// Column in that line, in characters from 1; 0 when unknown.
    pub column: u32,
    /// The object, when it could be told.
    pub object: Option<ObjectKey>,
    /// The field as a path: `spec.listeners[0].port`.
    pub field: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Diagnostic {
    /// The diagnostic with the source line it points at, over several lines and without a final newline.
    ///
    /// `text` is the whole text of the source. Lines of a document that holds a Secret are shown only
    /// when they cannot carry a value of it.
    pub fn render(&self, text: &str, style: Style) -> String {
        self.render_in(&SourceText::new(text), style)
    }

    /// Like [`render`](Self::render), for many diagnostics of one file.
    pub fn render_in(&self, text: &SourceText<'_>, style: Style) -> String {
        let title = self.title();
        let path = escape_foreign_text(&self.source, MAX_LINE);
        let line = self.source_line(text);

        let mut primary = Group::with_title(self.level().primary_title(title.as_str()).id(self.code));
        if let Some(line) = &line {
            primary = primary.element(
                Snippet::source(line.text.as_str())
                    .line_start(self.line as usize)
                    .path(path.as_str())
                    .annotation(AnnotationKind::Primary.span(line.start..line.end)),
            );
        } else {
            primary = primary.element(Level::NOTE.message(path.as_str()));
        }

        let remedy = self.remedy.as_ref().map(|remedy| escape_foreign_text(remedy, MAX_TEXT));
        let mut groups = vec![primary];
        if let Some(remedy) = &remedy {
            groups.push(Group::with_title(Level::HELP.secondary_title(remedy.as_str())));
        }

        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        };
        renderer.render(&groups)
    }

    /// Object, field and message in one line, escaped.
    fn title(&self) -> String {
        let mut title = String::new();
        if let Some(object) = &self.object {
            title.push_str(&escape_foreign_text(&object.to_string(), MAX_LINE));
            title.push_str(": ");
        }
        // The message about an unknown field names it already.
        if let Some(field) = self.field.as_ref().filter(|field| !self.message.contains(&format!("\"{field}\""))) {
            title.push_str(&escape_foreign_text(field, MAX_LINE));
            title.push_str(": ");
        }
        title.push_str(&escape_foreign_text(&self.message, MAX_TEXT));
        title
    }

    fn level(&self) -> Level<'static> {
        match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        }
    }

    /// The line that the diagnostic points at, safe to show, with the bytes to underline.
    fn source_line(&self, text: &SourceText<'_>) -> Option<ShownLine> {
        let index = (self.line as usize).checked_sub(1)?;
        let raw = text.line(index)?;
        let is_secret = self.object.as_ref().is_some_and(|object| object.kind() == "Secret");
        let column = self.column as usize;
        Some(match mask::visible_part(text, index, is_secret) {
            mask::Visible::Whole => ShownLine::new(raw, column),
            mask::Visible::Key(key) => ShownLine::new(&format!("{key} (hidden: part of a Secret)"), 1),
        })
    }
}

/// A file's text with its lines found.
#[derive(Clone, Debug)]
pub struct SourceText<'t> {
    text: &'t str,
    /// Where each line starts.
    starts: Vec<usize>,
}

impl<'t> SourceText<'t> {
    /// Finds the lines of a text.
    pub fn new(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { text, starts: std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect() }
    }

    fn count(&self) -> usize {
        self.starts.len()
    }

    /// Line `index`, from 0, without its end.
    fn line(&self, index: usize) -> Option<&'t str> {
        let start = *self.starts.get(index)?;
        let end = self.starts.get(index + 1).map_or(self.text.len(), |next| next - 1);
        Some(self.text.get(start..end)?.trim_end_matches('\r'))
    }
}

/// One line: `error[required-field] at web.yaml:4:3: HTTPRoute app/web: spec.rules: Required value`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}] at {}", self.severity, self.code, escape_foreign_text(&self.source, MAX_LINE))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.title())
    }
}

/// A source line made safe: escaped, cut round the place that matters, with that place in bytes.
struct ShownLine {
    text: String,
    start: usize,
    end: usize,
}

impl ShownLine {
    /// `column` counts characters from 1. What is underlined is the word that begins there.
    fn new(raw: &str, column: usize) -> Self {
        let column = column.saturating_sub(1);
        let skipped = column.saturating_sub(MAX_LINE / 2);
        let mut text = String::new();
        if skipped > 0 {
            text.push('…');
        }

        let (mut start, mut end) = (None, None);
        for (at, character) in raw.chars().enumerate().skip(skipped).take(MAX_LINE) {
            if at == column {
                start = Some(text.len());
            }
            if start.is_some() && end.is_none() && at > column && !is_word(character) {
                end = Some(text.len());
            }
            escape::push_escaped(&mut text, character);
        }
        let length = text.len();
        if raw.chars().nth(skipped + MAX_LINE).is_some() {
            text.push('…');
        }

        let start = start.unwrap_or(length);
        let end = end.unwrap_or(length).max(start);
        Self { text, start, end }
    }
}

fn is_word(character: char) -> bool {
    !character.is_whitespace() && !matches!(character, ':' | ',' | '}' | ']')
}
