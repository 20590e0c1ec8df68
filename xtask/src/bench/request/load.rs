//! A load that runs: `portcullis-traffic load` on the core beside the proxy's.
//!
//! What flows in: whom to ask for what. What flows out: first a load that is connected and has done a unit with each client; then what came of it.

use super::peers::{Running, Site};
use super::shapes::Shape;
use crate::bench::process::{Process, Program};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};

/// A load that waits to begin, and holds its connections until it ends with this value.
pub(super) struct Load {
    process: Process,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// What it says at the end.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) units: u64,
    /// With those before the time.
    pub(super) all_units: u64,
    pub(super) seconds: f64,
    /// Microseconds.
    pub(super) latency: Value,
}

impl Load {
    /// Connects.
    pub(super) fn start(site: &Site<'_>, proxy: &Running, shape: Shape, seconds: f64) -> Result<Self, String> {
        let target = format!("127.0.0.1:{}", proxy.port(shape.entry));
        let certificate = site.folder.join("certificate.pem").display().to_string();
        let (connections, streams) = (site.connections, shape.streams(site.connections));
        let mut arguments: Vec<String> =
            ["load", "--shape", shape.name, "--ca", &certificate, "--target", &target].map(str::to_owned).to_vec();
        arguments.extend(["--connections".to_owned(), connections.to_string()]);
        arguments.extend(["--streams".to_owned(), streams.to_string(), "--seconds".to_owned(), seconds.to_string()]);
        let program = Program {
            program: site.traffic,
            arguments: &arguments,
            core: site.load_core,
            open_files: site.open_files,
            log: site.folder.join("load.log"),
        };
        let (process, input, output) = program.converse()?;
        let mut load = Self { process, input: Some(input), output: BufReader::new(output) };
        match load.line()?.trim_end() {
            "ready" => Ok(load),
            other => Err(format!("instead of ready the load said: {other}")),
        }
    }

    /// Does the units.
    pub(super) fn go(&mut self) -> Result<Came, String> {
        let input = self.input.as_mut().ok_or("the load has no input")?;
        input.write_all(b"go\n").map_err(|error| format!("the load is gone: {error}"))?;
        came(&self.line()?)
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.output.read_line(&mut line).map_err(|error| format!("the load: {error}"))?;
        if line.is_empty() {
            self.process.ended();
            return Err(self.process.said());
        }
        Ok(line)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It ends with its input.
        self.input = None;
        self.process.ended();
    }
}

/// Any error makes all of it worthless.
fn came(line: &str) -> Result<Came, String> {
    let json: Value = serde_json::from_str(line).map_err(|error| format!("what the load said is not JSON: {error}"))?;
    let errors = json["errors"].as_u64().unwrap_or(u64::MAX);
    if errors > 0 {
        return Err(format!("{errors} errors, the first: {}", json["error"].as_str().unwrap_or("?")));
    }
    let units = json["units"].as_u64().unwrap_or_default();
    if units == 0 {
        return Err("no unit was done".to_owned());
    }
    Ok(Came {
        units,
        all_units: units + json["warmUnits"].as_u64().unwrap_or_default(),
        seconds: json["seconds"].as_f64().unwrap_or(f64::NAN),
        latency: json["latencyMicroseconds"].clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::came;

    #[test]
    fn an_error_makes_all_of_it_worthless() {
        let line = |units, errors| {
            let error = if errors > 0 { "\"status 502\"" } else { "null" };
            format!(
                "{{\"units\":{units},\"warmUnits\":2,\"seconds\":1.5,\"errors\":{errors},\"error\":{error},\
                 \"latencyMicroseconds\":{{\"p99\":7}}}}"
            )
        };
        let good = came(&line(10, 0)).unwrap();
        assert_eq!((good.units, good.all_units, good.seconds, good.latency["p99"].as_u64()), (10, 12, 1.5, Some(7)));
        assert!(came(&line(10, 1)).unwrap_err().contains("status 502"));
        assert!(came(&line(0, 0)).is_err());
        assert!(came("").is_err());
    }
}
