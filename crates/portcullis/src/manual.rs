//! `portcullis completion` and the manual pages, from the definitions of the command line.

use crate::cli::{self, Completion, Manual};
use crate::exit::Exit;
use crate::output;
use std::fs;
use std::path::Path;

/// Prints the completions of a shell.
pub(crate) fn completion(arguments: &Completion) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut cli::definition(), "portcullis", &mut text);
    output::bytes(&text)
}

/// Writes a manual page for each command, and the completions of each shell, into a folder.
pub(crate) fn pages(arguments: &Manual) -> Exit {
    match write(&arguments.folder) {
        Ok(()) => Exit::Success,
        Err(error) => output::failure(&format!("{}: {error}", arguments.folder.display())),
    }
}

fn write(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(cli::definition().flatten_help(false), folder)?;
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        clap_complete::generate_to(shell, &mut cli::definition(), "portcullis", folder)?;
    }
    Ok(())
}
