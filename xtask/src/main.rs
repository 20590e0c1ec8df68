//! What a contributor runs: `cargo xtask test` and its parts.
//!
//! Each part is a command that can also be typed by hand; it is printed before it runs.

mod bench;
mod conformance;
mod deploy;
mod image;
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
    /// Everything that must pass: format, lints, tests, examples, fuzz corpora, licences, documentation, and, where this machine can
    /// carry it, everything on a real Kubernetes.
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
    /// Build the container image as an OCI archive, without Docker (for x86-64; needs musl-gcc).
    Image(image::Options),
    /// Everything on a real Kubernetes: the official conformance suite, and faults.
    Conformance(conformance::Options),
    /// Write deploy/install.yaml and what else is made from the charts and for them (needs helm 4).
    Deploy {
        /// Only check that it is up to date, and that the charts render.
        #[arg(long)]
        check: bool,
    },
    /// Measure Portcullis beside its peers.
    Bench {
        /// Which bench.
        #[command(subcommand)]
        bench: bench::Bench,
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
        Task::Image(options) => image::run(&options),
        Task::Conformance(options) => conformance::run(&options),
        Task::Deploy { check: true } => deploy::check(),
        Task::Deploy { check: false } => deploy::write(),
        Task::Bench { bench } => bench::run(&bench),
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
    // What is missing is said before anything takes time.
    let missing: Vec<String> = [CARGO_DENY, MDBOOK].iter().filter_map(|tool| tool.ensure().err()).collect();
    if !missing.is_empty() {
        return Err(missing.join("\n"));
    }
    let cluster = conformance::possible();
    if let Err(why) = &cluster {
        if in_ci() {
            return Err(why.clone());
        }
        step::say(&format!("left out: the official conformance suite and all tests that need a cluster ({why})"));
    }
    lint()?;
    if !step::upstream_examples() {
        step::say(
            "left out: the Gateway API's own example files (for them: go mod download sigs.k8s.io/gateway-api@v1.7.0, \
             or GATEWAY_API_DIR)",
        );
    }
    Step::cargo(&["test", "--workspace", "--locked", "--quiet"]).run()?;
    bench::short()?;
    manual()?;
    deploy::check()?;
    deny()?;
    docs()?;
    match cluster {
        Ok(()) => conformance::test(),
        Err(_) => Ok(()),
    }
}

fn lint() -> Outcome {
    Step::cargo(&["fmt", "--all", "--check"]).run()?;
    Step::cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"]).run()
}

fn deny() -> Outcome {
    CARGO_DENY.ensure()?;
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
    MDBOOK.ensure()?;
    Step::new("mdbook", &["build", "docs", "--dest-dir", "../target/book"]).run()?;
    Step::cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
        .environment("RUSTDOCFLAGS", "-D warnings")
        .run()
}

fn manual() -> Outcome {
    Step::cargo(&["run", "--quiet", "--locked", "--package", "portcullis", "--", "manual", "target/manual"]).run()
}

fn fuzz(target: Option<&str>, seconds: u32) -> Outcome {
    CARGO_FUZZ.ensure()?;
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

/// A program that is built from its crate.
struct Tool {
    name: &'static str,
    version: &'static str,
    arguments: &'static [&'static str],
}

const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", arguments: &[] };
const MDBOOK: Tool = Tool { name: "mdbook", version: "0.5.4", arguments: &["--no-default-features"] };
const CARGO_FUZZ: Tool = Tool { name: "cargo-fuzz", version: "0.13.2", arguments: &[] };

impl Tool {
    /// Makes sure that it is there: installs it in CI or when asked to, and says how to install it elsewhere.
    fn ensure(&self) -> Outcome {
        if installed(self.name) {
            return Ok(());
        }
        let mut install = vec!["install", self.name, "--version", self.version, "--locked"];
        install.extend(self.arguments);
        if in_ci() || step::asked_to_install() {
            return Step::cargo(&install).run();
        }
        let (name, install) = (self.name, install.join(" "));
        Err(format!("{name} is missing; install it with: cargo {install}  (or set PORTCULLIS_INSTALL=1)"))
    }
}
