//! Traffic for the benches: what stands behind the measured proxy, and what asks it.
//!
//! What flows in: a command line. `backend` and `collect` serve until they are ended; `load` prints one line of JSON. Each is one thread, and
//! does no more than its protocol needs, so that the proxy between them is the bottleneck.

mod backend;
mod collect;
mod load;
mod message;
mod scratch;
mod websocket;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Backends and loads of the benches", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Answer requests over HTTP/1.1 and HTTP/2 without TLS: /bytes/N with N bytes, /ws with an echo of WebSocket messages (HTTP/1.1),
    /// /grpc with an echo of each message (HTTP/2).
    Backend(backend::Options),
    /// Ask a proxy, and print what came of it.
    Load(load::Options),
    /// Write what comes over TCP into a file, as a syslog server does with an access log.
    Collect(collect::Options),
}

fn main() -> ExitCode {
    let task = Arguments::parse().task;
    // One thread: the bench gives load and backend one core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(|error| format!("no runtime: {error}")).and_then(|runtime| {
        runtime.block_on(async {
            match task {
                Task::Backend(options) => backend::run(&options).await,
                Task::Load(options) => load::run(&options).await,
                Task::Collect(options) => collect::run(&options).await,
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Where standard error is gone, the exit code says it.
            let _ = writeln!(std::io::stderr(), "portcullis-traffic: {problem}");
            ExitCode::FAILURE
        }
    }
}
