//! Logs: what the program says, and one line per request.
//!
//! In flow `tracing` events of the program, and records that workers prepared. Out flow lines on stderr (program) and on stdout
//! or in a file (access log), each one line, all foreign text escaped and cut.

mod access;
mod json_line;
mod program;

pub use access::{AccessLog, AccessLogHandle, AccessLogOptions, AccessLogTarget};
pub use json_line::JsonLine;
pub use program::{LogError, LogFormat, init};
