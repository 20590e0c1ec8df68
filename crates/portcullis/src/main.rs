//! The `portcullis` program: parse the arguments, call one function.

mod check;
mod cli;
mod controller;
mod data_plane;
mod diagnostics;
mod echo;
mod exit;
mod install;
mod manual;
mod objects;
mod output;
mod process;
mod quickstart;
mod run;
mod status;
mod statuses;
mod uninstall;
mod version;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::parse().run().into()
}
