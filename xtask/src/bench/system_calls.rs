//! How many system calls running processes make.
//!
//! What flows in: their ids. What flows out: a number. perf counts in the kernel at little cost; strace stops the process at each call, so that
//! its number is right but nothing else of that time; where neither may be used, nothing is counted.

use super::process::signal;
use crate::step::installed;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// By what they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counter {
    Perf,
    Strace,
}

const EVENT: &str = "raw_syscalls:sys_enter";

impl Counter {
    /// What this machine has and lets us use.
    pub(super) fn find() -> Option<Self> {
        let works = |program: &str, arguments: &[&str]| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            installed(program) && command.status().is_ok_and(|status| status.success())
        };
        if works("perf", &["stat", "-e", EVENT, "true"]) {
            return Some(Self::Perf);
        }
        works("strace", &["-f", "-c", "true"]).then_some(Self::Strace)
    }

    /// Its program.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf stat",
            Self::Strace => "strace -c",
        }
    }

    /// Begins to count.
    pub(super) fn attach(self, pids: &[u32], folder: &Path) -> Result<Counting, String> {
        let file = folder.join("system-calls");
        let list: Vec<String> = pids.iter().map(u32::to_string).collect();
        let list = list.join(",");
        let mut command = match self {
            Self::Perf => Command::new("perf"),
            Self::Strace => Command::new("strace"),
        };
        match self {
            Self::Perf => command.args(["stat", "-x", ",", "-e", EVENT, "-p", &list, "-o"]).arg(&file),
            Self::Strace => command.args(["-f", "-c", "-p", &list, "-o"]).arg(&file),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| format!("{}: {error}", self.name()))?;
        // Neither says when it is ready; nothing is asked of the processes meanwhile.
        sleep(Duration::from_millis(400));
        Ok(Counting { counter: self, child, file })
    }
}

/// A count that goes on.
pub(super) struct Counting {
    counter: Counter,
    child: Child,
    file: PathBuf,
}

impl Counting {
    /// Ends it and gives the number.
    pub(super) fn end(mut self) -> Result<u64, String> {
        signal("INT", &[self.child.id()]);
        self.child.wait().map_err(|error| format!("{}: {error}", self.counter.name()))?;
        let text = fs::read_to_string(&self.file).map_err(|error| format!("{}: {error}", self.file.display()))?;
        let number = match self.counter {
            Counter::Perf => of_perf(&text),
            Counter::Strace => of_strace(&text),
        };
        number.ok_or_else(|| format!("{} told no number:\n{text}", self.counter.name()))
    }
}

/// The first field of the event's line.
fn of_perf(text: &str) -> Option<u64> {
    text.lines().find(|line| line.contains(EVENT))?.split(',').next()?.parse().ok()
}

/// The column "calls" of the line "total".
fn of_strace(text: &str) -> Option<u64> {
    let line = text.lines().rfind(|line| line.trim_end().ends_with("total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{of_perf, of_strace};

    #[test]
    fn numbers_are_found_in_what_is_printed() {
        assert_eq!(of_perf("# started on\n\n483,,raw_syscalls:sys_enter,202900895,100.00,,\n"), Some(483));
        assert_eq!(of_perf("<not counted>,,raw_syscalls:sys_enter,0,0.00,,\n"), None);
        let strace = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n \
            60.00    0.000060           1        40           read\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.000100           1        90         2 total\n";
        assert_eq!(of_strace(strace), Some(90));
    }
}
