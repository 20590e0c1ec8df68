//! Cases as folders: objects in, statuses, findings and configurations out. See `cases/README.md` for the format; a case needs no code.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests read files and the environment")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use portcullis_api::{Change, Object};
use portcullis_compile::{Compiled, Compiler, compile};
use support::{Case, Options, render};

#[test]
fn every_case_compiles_to_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let only = std::env::var("CASE").unwrap_or_default();
    let update = std::env::var("UPDATE").is_ok_and(|update| update == "1");
    let mut folders = Vec::new();
    collect(&root, &mut folders);
    folders.sort();
    assert!(!folders.is_empty(), "no cases in {}", root.display());

    let mut failures = Vec::new();
    for folder in folders.iter().filter(|folder| folder.to_string_lossy().contains(&only)) {
        let name = folder.strip_prefix(&root).unwrap_or(folder).display();
        if let Err(message) = run(&root, folder, update) {
            failures.push(format!("{name}: {message}"));
        }
    }
    assert!(failures.is_empty(), "{} of {} cases fail\n\n{}", failures.len(), folders.len(), failures.join("\n\n"));
    println!("{} cases", folders.len());
}

fn collect(folder: &Path, folders: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.join("input.yaml").exists() {
                folders.push(path.clone());
            }
            collect(&path, folders);
        }
    }
}

fn run(root: &Path, folder: &Path, update: bool) -> Result<(), String> {
    let case = Case::read(root, folder)?;
    let compiled = compile(case.objects.clone(), case.options.compile());
    one_by_one(&case.objects, &case.options, &compiled)?;
    expect(&folder.join("status.yaml"), &render::status(&compiled, &case), update)?;
    expect(&folder.join("config.yaml"), &render::config(&compiled), update)?;
    let infrastructure = folder.join("infrastructure.yaml");
    if infrastructure.exists() { expect(&infrastructure, &render::infrastructure(&compiled), update) } else { Ok(()) }
}

/// The same comes out when the objects come one after the other, the last one first.
fn one_by_one(objects: &[Object], options: &Options, batch: &Compiled) -> Result<(), String> {
    let mut compiler = Compiler::new(options.compile());
    for object in objects.iter().rev() {
        compiler.apply(vec![Change::Upsert(object.clone())]);
    }
    let same = *compiler.configs() == batch.configs
        && *compiler.statuses() == batch.statuses
        && *compiler.findings() == batch.findings
        && *compiler.infrastructure() == batch.infrastructure;
    if same { Ok(()) } else { Err("one by one, the objects come to something else than at once".to_owned()) }
}

fn expect(path: &Path, found: &str, update: bool) -> Result<(), String> {
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == found {
        return Ok(());
    }
    if update {
        return fs::write(path, found).map_err(|error| error.to_string());
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Err(format!("{name} differs (UPDATE=1 rewrites it; then review it)\n{}", difference(&expected, found)))
}

/// The lines from the first to the last that differ, of both.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let same = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let rest = expected.len().min(found.len()) - same;
    let tail = expected.iter().rev().zip(found.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let minus = expected[same..expected.len() - tail].iter().map(|line| format!("- {line}"));
    let plus = found[same..found.len() - tail].iter().map(|line| format!("+ {line}"));
    minus.chain(plus).collect::<Vec<_>>().join("\n")
}
