//! The `portcullis` program: parse the arguments, call one function.

mod check;
mod cli;
mod data_plane;
mod diagnostics;
mod echo;
mod exit;
mod manual;
mod objects;
mod output;
mod process;
mod quickstart;
mod run;
mod version;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::parse().run().into()
}
