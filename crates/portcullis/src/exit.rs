//! How the program ends: one table of exit codes for all commands.

use std::process::ExitCode;

/// The outcome of a command. The numbers are part of the interface, and printed by `portcullis --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, and nothing is wrong.
    Success,
    /// Done, and something is wrong with the objects.
    Problems,
    /// The command line is wrong. Nothing was done.
    Usage,
    /// An input could not be read at all.
    Unreadable,
    /// The program could not do its work.
    Failure,
}

/// The table that `--help` and the manual show.
pub(crate) const TABLE: &str = "\
Exit codes:
  0  done, and nothing is wrong
  1  done, and something is wrong with the objects
  2  the command line is wrong; nothing was done
  3  an input could not be read at all
  4  the program could not do its work, such as bind a port or write a file";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Problems => 1,
            Exit::Usage => 2,
            Exit::Unreadable => 3,
            Exit::Failure => 4,
        })
    }
}
