//! The program's own log: `tracing` events as lines on stderr.
//!
//! In flow events of this workspace and its dependencies. Out flows one line each, JSON or text. Field values are escaped and
//! cut at [`escape::FOREIGN_TEXT_LIMIT`], because they quote objects and requests. Spans are not shown: the request path has none.
//!
//! A line is written at once by the thread that logs. Nothing on the request path may log above `debug`.

use std::fmt;
use std::io::Write;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

use super::json_line::JsonLine;
use crate::escape::{self, FOREIGN_TEXT_LIMIT};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-23T18:00:00.000000Z INFO proxy: listener bound address="0.0.0.0:443"`.
    #[default]
    Text,
    /// `{"time":"…","level":"info","target":"proxy","message":"listener bound","address":"0.0.0.0:443"}`.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(escape::line(text).into_owned())),
        }
    }
}

/// Why the log could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Neither `text` nor `json`.
    #[error("log format {0}: must be text or json")]
    Format(String),
    /// The filter cannot be read.
    #[error("log filter {0}: {1}; write a level (info) or targets with levels (info,portcullis_proxy=debug)")]
    Filter(String, String),
    /// A log was started before.
    #[error("the log was started before")]
    Started,
}

/// Starts the program's log on stderr. `filter` is a level (`info`) or a list of targets with levels, as `tracing` knows them.
///
/// # Errors
/// When the filter cannot be read, or a log was started before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let parsed = EnvFilter::builder().parse(filter);
    let wrong = |error: &dyn fmt::Display| {
        LogError::Filter(escape::line(filter).into_owned(), escape::line(&error.to_string()).into())
    };
    let filter = parsed.map_err(|error| wrong(&error))?;
    let lines = Lines { format, write: write_to_stderr };
    Registry::default().with(filter).with(lines).try_init().map_err(|_| LogError::Started)
}

fn write_to_stderr(line: &[u8]) {
    // Nobody is left to tell when stderr is gone.
    let _ = std::io::stderr().lock().write_all(line);
}

/// Turns each event into one line.
struct Lines<W> {
    format: LogFormat,
    write: W,
}

impl<S: Subscriber, W: Fn(&[u8]) + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut out = Vec::with_capacity(256);
        match self.format {
            LogFormat::Json => json(&mut out, event),
            LogFormat::Text => text(&mut out, event),
        }
        (self.write)(&out);
    }
}

fn json(out: &mut Vec<u8>, event: &Event<'_>) {
    let metadata = event.metadata();
    JsonLine::write(out, |line| {
        line.text("time", now())
            .text("level", metadata.level().as_str().to_ascii_lowercase())
            .text("target", metadata.target());
        event.record(&mut JsonFields(line));
    });
}

fn text(out: &mut Vec<u8>, event: &Event<'_>) {
    let metadata = event.metadata();
    out.extend_from_slice(format!("{} {} {}:", now(), metadata.level(), metadata.target()).as_bytes());
    let mut message = Message::default();
    event.record(&mut message);
    if let Some(message) = message.0 {
        out.push(b' ');
        escape::line_into(out, message.as_bytes(), FOREIGN_TEXT_LIMIT);
    }
    event.record(&mut TextFields(out));
    out.push(b'\n');
}

fn now() -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

struct JsonFields<'a, 'b>(&'a mut JsonLine<'b>);

impl Visit for JsonFields<'_, '_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.number(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.number(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.boolean(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.text(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.text(field.name(), format!("{value:?}"));
    }
}

struct TextFields<'a>(&'a mut Vec<u8>);

impl TextFields<'_> {
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        // Writing to a Vec cannot fail.
        let _ = write!(self.0, " {}={value}", field.name());
    }

    fn quoted(&mut self, field: &Field, value: &str) {
        self.0.extend_from_slice(format!(" {}=\"", field.name()).as_bytes());
        escape::json_into(self.0, value.as_bytes(), FOREIGN_TEXT_LIMIT);
        self.0.push(b'"');
    }
}

impl Visit for TextFields<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != "message" {
            self.quoted(field, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            self.quoted(field, &format!("{value:?}"));
        }
    }
}

#[derive(Default)]
struct Message(Option<String>);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = Some(format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0 = Some(value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::{Arc, Mutex};

    fn logged(format: LogFormat, events: impl FnOnce()) -> String {
        let out = Arc::new(Mutex::new(Vec::new()));
        let sink = out.clone();
        let lines = Lines { format, write: move |line: &[u8]| sink.lock().unwrap().extend_from_slice(line) };
        tracing::subscriber::with_default(Registry::default().with(lines), events);
        let out = out.lock().unwrap().clone();
        String::from_utf8(out).unwrap()
    }

    fn attack() {
        let evil = "x\n2026 ERROR fake \u{1b}[2J\" end";
        tracing::warn!(target: "proxy", name = evil, shown = %evil, count = 3, step = -1, good = true, kept = ?Some("v"), "refused {evil}");
    }

    #[test]
    fn text_lines_hold_no_control_character_of_others() {
        let line = logged(LogFormat::Text, attack);
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z'), "{time}");
        let expected = concat!(
            r#"WARN proxy: refused x\n2026 ERROR fake \u001b[2J" end name="x\n2026 ERROR fake \u001b[2J\" end" "#,
            r#"shown="x\n2026 ERROR fake \u001b[2J\" end" count=3 step=-1 good=true kept="Some(\"v\")""#,
            "\n"
        );
        assert_eq!(rest, expected);
    }

    #[test]
    fn json_lines_parse() {
        let line = logged(LogFormat::Json, attack);
        assert_eq!(line.matches('\n').count(), 1);
        let parsed: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["level"], "warn");
        assert_eq!(parsed["target"], "proxy");
        assert_eq!(parsed["name"], "x\n2026 ERROR fake \u{1b}[2J\" end");
        assert_eq!(parsed["message"], "refused x\n2026 ERROR fake \u{1b}[2J\" end");
        assert_eq!((&parsed["count"], &parsed["step"], &parsed["good"]), (&json!(3), &json!(-1), &json!(true)));
    }

    #[test]
    fn long_fields_are_cut() {
        let line = logged(LogFormat::Text, || tracing::info!(path = "p".repeat(5000), "long"));
        assert!(line.len() < 1300 && line.contains("…(+3976 bytes)"));
    }

    #[test]
    fn wrong_filters_and_formats_say_what_to_write() {
        let error = init(LogFormat::Text, "portcullis=loud").unwrap_err().to_string();
        assert!(error.starts_with("log filter portcullis=loud: "), "{error}");
        assert_eq!("xml".parse::<LogFormat>().unwrap_err().to_string(), "log format xml: must be text or json");
        assert_eq!("json".parse::<LogFormat>().unwrap(), LogFormat::Json);
    }
}
