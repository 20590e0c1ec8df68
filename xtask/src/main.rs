//! What a contributor runs: `cargo xtask test` and its parts.
//!
//! Each part is a command that can also be typed by hand; it is printed before it runs.

mod bench;
mod step;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use step::{Outcome, Step, in_ci, installed};

#[derive(Parser)]
#[command(about = "What a contributor runs", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that must pass: format, lints, tests, examples, fuzz corpora, licences, documentation.
    Test,
    /// Format and lints only.
    Lint,
    /// Licences, sources, banned crates, and known vulnerabilities where their database can be reached.
    Deny,
    /// Build the documentation into target/book.
    Docs,
    /// Write manual pages and completions into target/manual.
    Manual,
    /// Fuzz one target, or all of them, for some time each (needs the nightly toolchain and cargo-fuzz).
    Fuzz {
        /// The target; all when absent.
        target: Option<String>,
        /// Seconds for each target.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Measure Portcullis beside its peers.
    Bench {
        /// Which bench.
        name: bench::Bench,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Test => test(),
        Task::Lint => lint(),
        Task::Deny => deny(),
        Task::Docs => docs(),
        Task::Manual => manual(),
        Task::Fuzz { target, seconds } => fuzz(target.as_deref(), seconds),
        Task::Bench { name } => bench::run(name),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            step::say(&format!("failed: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn test() -> Outcome {
    lint()?;
    Step::cargo(&["test", "--workspace", "--locked", "--quiet"]).run()?;
    manual()?;
    deny()?;
    docs()
}

fn lint() -> Outcome {
    Step::cargo(&["fmt", "--all", "--check"]).run()?;
    Step::cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"]).run()
}

fn deny() -> Outcome {
    tool("cargo-deny", "0.20.2", &[])?;
    Step::cargo(&["deny", "--locked", "--log-level", "error", "check", "bans", "licenses", "sources"]).run()?;
    // The advisory database is a git repository: without a way to it, that check cannot be done, and is said to be left out.
    match Step::cargo(&["deny", "--locked", "--log-level", "error", "fetch", "db"]).quiet().run() {
        Ok(()) => Step::cargo(&["deny", "--locked", "--log-level", "error", "check", "advisories"]).run(),
        Err(_) => {
            step::say("left out: known vulnerabilities (the advisory database of RustSec cannot be reached from here)");
            Ok(())
        }
    }
}

fn docs() -> Outcome {
    tool("mdbook", "0.5.4", &["--no-default-features"])?;
    Step::new("mdbook", &["build", "docs", "--dest-dir", "../target/book"]).run()?;
    Step::cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
        .environment("RUSTDOCFLAGS", "-D warnings")
        .run()
}

fn manual() -> Outcome {
    Step::cargo(&["run", "--quiet", "--locked", "--package", "portcullis", "--", "manual", "target/manual"]).run()
}

fn fuzz(target: Option<&str>, seconds: u32) -> Outcome {
    tool("cargo-fuzz", "0.13.2", &[])?;
    let all = step::fuzz_targets()?;
    let chosen: Vec<&str> = match target {
        Some(target) => vec![target],
        None => all.iter().map(String::as_str).collect(),
    };
    for target in chosen {
        let time = format!("-max_total_time={seconds}");
        Step::new("cargo", &["+nightly", "fuzz", "run", target, "--", &time, "-timeout=10", "-rss_limit_mb=2048"])
            .run()?;
    }
    Ok(())
}

/// Makes sure that a tool is there: it is built from its crate in CI, and asked for elsewhere.
fn tool(name: &str, version: &str, arguments: &[&str]) -> Outcome {
    if installed(name) {
        return Ok(());
    }
    let mut install = vec!["install", name, "--version", version, "--locked"];
    install.extend(arguments);
    if in_ci() || step::asked_to_install() {
        return Step::cargo(&install).run();
    }
    Err(format!("{name} is missing; install it with: cargo {}  (or set PORTCULLIS_INSTALL=1)", install.join(" ")))
}
