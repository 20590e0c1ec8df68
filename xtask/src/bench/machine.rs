//! On what a bench ran: the machine, the commit, how busy the machine was.
//!
//! What flows in: /proc and git. What flows out: JSON for a bench's document, and the line that its Markdown shows.

use crate::step::Step;
use serde_json::{Value, json};
use std::fs;

/// Processor, memory, kernel.
pub(super) fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (processors, memory, version) = (read("/proc/cpuinfo"), read("/proc/meminfo"), read("/proc/version"));
    let value = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    json!({
        "processor": value(&processors, "model name"),
        "processors": processors.lines().filter(|line| line.starts_with("processor")).count(),
        "memory": value(&memory, "MemTotal"),
        "kernel": version.split_whitespace().nth(2).unwrap_or_default(),
    })
}

/// What was built.
pub(super) fn commit() -> Value {
    let git = |arguments: &[&str]| Step::new("git", arguments).quiet().output().unwrap_or_default().trim().to_owned();
    let changed = !git(&["status", "--porcelain", "--untracked-files=no", "crates", "Cargo.lock"]).is_empty();
    json!({ "revision": git(&["rev-parse", "--short", "HEAD"]), "workTreeChanged": changed })
}

/// Both in words, from a document that has them as `machine` and `commit`.
pub(super) fn described(document: &Value) -> String {
    let machine = &document["machine"];
    let text = |name: &str| machine[name].as_str().unwrap_or("?");
    let changed = if document["commit"]["workTreeChanged"] == true { ", work tree changed" } else { "" };
    format!(
        "{} × {}, {} of memory, Linux {}; commit {}{changed}",
        machine["processors"],
        text("processor"),
        text("memory"),
        text("kernel"),
        document["commit"]["revision"].as_str().unwrap_or("?"),
    )
}

/// The load averages of 1, 5 and 15 minutes.
pub(super) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The cores that this process may use.
pub(super) fn cores() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(parsed).filter(|cores| !cores.is_empty()).unwrap_or_else(|| vec![0])
}

/// A list as the kernel writes it: "0-2,5".
fn parsed(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::parsed;

    #[test]
    fn a_list_of_cores_has_ranges() {
        assert_eq!(parsed("\t0-2,5\n"), [0, 1, 2, 5]);
        assert_eq!(parsed("3"), [3]);
        assert_eq!(parsed(""), [0; 0]);
    }
}
