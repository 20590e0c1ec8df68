//! Measurements beside peers, in the same run, as ratios. Each bench is a module: what it measures stands there.
//!
//! What flows in: the workspace, and peers that are installed. What flows out: tables, JSON in target/bench, and with `--write` files in bench/.

mod chart;
mod control;
mod envoy;
mod machine;
mod process;
mod request;
mod results;
mod system_calls;

use crate::step::Outcome;
use clap::Subcommand;

/// Which bench.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// What a request costs, beside nginx, HAProxy and Envoy: CPU time, system calls, memory, for each protocol. With all shapes some 90
    /// minutes.
    Request(request::Options),
    /// How soon a route serves, what routes cost, and whether changes cost requests: on a cluster of its own, which takes root and some
    /// 10 minutes; with --peer some 30 more.
    Control(control::Options),
}

/// Runs a bench and prints its table.
pub(crate) fn run(bench: &Bench) -> Outcome {
    match bench {
        Bench::Request(options) => request::run(options),
        Bench::Control(options) => control::run(options),
    }
}

/// Runs a short form of what can be measured without a cluster, with the programs that the tests built, so that the benches cannot rot.
pub(crate) fn short() -> Outcome {
    request::short()
}
