//! What follows from the definitions of the command line: help, completions, manual pages, version.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod support;

use serde_json::Value;
use std::fs;
use support::{Folder, portcullis};

const SUBCOMMANDS: [&str; 10] = [
    "run",
    "check",
    "install",
    "uninstall",
    "status",
    "quickstart",
    "controller",
    "data-plane",
    "version",
    "completion",
];

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = portcullis(arguments, "");
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn help_names_the_subcommands_and_the_exit_codes() {
    for flag in ["--help", "-h"] {
        let help = printed(&[flag]);
        for subcommand in SUBCOMMANDS {
            assert!(help.contains(&format!("\n  {subcommand} ")), "{subcommand}: {help}");
        }
        let (_, table) = help.split_once("Exit codes:").unwrap();
        for code in 0..=4 {
            assert!(table.contains(&format!("\n  {code}  ")), "{code}: {table}");
        }
    }
    for subcommand in SUBCOMMANDS {
        let help = printed(&[subcommand, "--help"]);
        assert!(help.contains(&format!("Usage: portcullis {subcommand}")), "{help}");
    }
}

#[test]
fn nothing_or_nonsense_is_answered_with_the_usage() {
    for arguments in [&[][..], &["chek"], &["run"], &["check"], &["completion", "cmd.exe"], &["--verbose"]] {
        let output = portcullis(arguments, "");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        assert!(told.contains("portcullis") || told.contains("--help"), "{arguments:?}: {told}");
    }
    let told = String::from_utf8(portcullis(&["chek"], "").stderr).unwrap();
    assert!(told.contains("'check'"), "what is near is named: {told}");
}

#[test]
fn completions_know_every_subcommand() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completion", shell]);
        for word in SUBCOMMANDS.iter().chain(&["telemetry-address", "selector"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn the_manual_has_a_page_for_every_subcommand() {
    let folder = Folder::new();
    let pages = folder.file("man");
    printed(&["manual", pages.to_str().unwrap()]);
    let page = |name: &str| fs::read_to_string(pages.join(name)).unwrap();
    let all = page("portcullis.1");
    for subcommand in SUBCOMMANDS {
        let escaped = subcommand.replace('-', "\\-");
        assert!(all.contains(&format!("portcullis\\-{escaped}(1)")), "{subcommand}: {all}");
        assert!(page(&format!("portcullis-{subcommand}.1")).contains(".SH SYNOPSIS"));
    }
    assert!(all.contains("Exit codes:"), "{all}");
    for completion in ["portcullis.bash", "_portcullis", "portcullis.fish"] {
        assert!(!page(completion).is_empty());
    }

    folder.write("file", "");
    let output = portcullis(&["manual", folder.file("file").to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(4), "a file is no folder");
}

#[test]
fn the_version_is_said_in_three_ways() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(printed(&["version"]), format!("portcullis {version} (Gateway API v1.7.0)\n"));
    assert_eq!(printed(&["--version"]), format!("portcullis {version}\n"));
    let json: Value = serde_json::from_str(&printed(&["version", "-o", "json"])).unwrap();
    let yaml: Value = serde_saphyr::from_str(&printed(&["version", "-o", "yaml"])).unwrap();
    assert_eq!(json, yaml);
    assert_eq!((&json["version"], &json["gatewayAPI"]), (&version.into(), &"v1.7.0".into()));
}
