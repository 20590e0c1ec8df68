//! What commands print: results on standard output, problems on standard error.
//!
//! A closed pipe (`portcullis check … | head`) ends the output quietly.

use crate::exit::Exit;
use serde::Serialize;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Prints bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Exit::Success,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Exit::Success,
        Err(error) => failure(&format!("cannot write to standard output: {error}")),
    }
}

/// Prints a line.
pub(crate) fn line(text: &str) -> Exit {
    bytes(format!("{text}\n").as_bytes())
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Exit {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(error) => failure(&format!("cannot write JSON: {error}")),
    }
}

/// Prints a value as YAML.
pub(crate) fn yaml(value: &impl Serialize) -> Exit {
    match serde_saphyr::to_string(value) {
        Ok(text) => bytes(text.as_bytes()),
        Err(error) => failure(&format!("cannot write YAML: {error}")),
    }
}

/// Tells a problem on standard error.
pub(crate) fn problem(text: &str) {
    // Nothing is left to do where even standard error cannot be written.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Tells why the program could not do its work.
pub(crate) fn failure(text: &str) -> Exit {
    problem(&format!("portcullis: {text}"));
    Exit::Failure
}

/// Whether standard error may be coloured.
pub(crate) fn coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
