//! The chapter of the book about the command line, held against the definitions.

use std::collections::{BTreeMap, BTreeSet};

use clap::Arg;

use super::definition;

const CHAPTER: &str = include_str!("../../../../docs/src/command-line.md");

/// A row of a table: what its first cell names, and the whole.
struct Row {
    names: BTreeSet<String>,
    text: String,
}

/// The part of the chapter that is about one command.
#[derive(Default)]
struct Section {
    rows: Vec<Row>,
    /// Commands to whose sections it sends the reader.
    links: Vec<String>,
}

fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Sections by command; one heading may name several.
fn sections() -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut commands: Vec<String> = Vec::new();
    for line in CHAPTER.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            commands = code(heading).map(str::to_owned).collect();
        }
        for command in &commands {
            let section = sections.entry(command.clone()).or_default();
            for link in line.split("](#").skip(1) {
                section.links.extend(link.split(')').next().map(str::to_owned));
            }
            if let Some(cells) = line.strip_prefix('|') {
                let first = cells.split('|').next().unwrap();
                let names = code(first).map(|code| code.split(' ').next().unwrap().trim_end_matches('…').to_owned());
                section.rows.push(Row { names: names.collect(), text: line.to_owned() });
            }
        }
    }
    sections
}

/// How an argument is written: `--long`, `-s`, or the name of its value.
fn names(argument: &Arg) -> Vec<String> {
    let flags = argument.get_long().map(|long| format!("--{long}"));
    let flags: Vec<_> = flags.into_iter().chain(argument.get_short().map(|short| format!("-{short}"))).collect();
    if !flags.is_empty() {
        return flags;
    }
    let values = argument.get_value_names().map(|names| names.iter().map(ToString::to_string).collect());
    values.unwrap_or_else(|| vec![argument.get_id().as_str().to_uppercase()])
}

/// What the row of an argument must say: its default and its environment variable.
fn facts(argument: &Arg) -> Vec<String> {
    let takes_value = argument.get_action().takes_values();
    let defaults = argument.get_default_values().iter().filter(|_| takes_value).map(|value| value.to_str().unwrap());
    let environment = argument.get_env().map(|name| name.to_str().unwrap());
    let facts = defaults.chain(environment).map(|fact| fact.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    facts.collect()
}

fn is_of_every_command(argument: &Arg) -> bool {
    ["help", "version"].contains(&argument.get_id().as_str())
}

#[test]
fn the_chapter_names_every_option_with_its_default_and_environment_variable() {
    let (sections, definition) = (sections(), definition());
    let mut problems = Vec::new();
    for command in definition.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        if !CHAPTER.contains(&format!("\nportcullis {name} ")) {
            problems.push(format!("{name}: not in the synopsis"));
        }
        let Some(section) = sections.get(name) else {
            problems.push(format!("{name}: has no section"));
            continue;
        };
        let linked = section.links.iter().filter_map(|link| sections.get(link));
        let rows: Vec<&Row> = std::iter::once(section).chain(linked).flat_map(|section| &section.rows).collect();
        for argument in command.get_arguments().filter(|argument| !is_of_every_command(argument)) {
            for written in names(argument) {
                let named: Vec<_> = rows.iter().filter(|row| row.names.contains(&written)).collect();
                if named.is_empty() {
                    problems.push(format!("{name}: {written} is not there"));
                }
            }
            let first = &names(argument)[0];
            let mut own = rows.iter().filter(|row| row.names.contains(first));
            if let Some(row) = own.next() {
                let missing = facts(argument).into_iter().filter(|fact| !code(&row.text).any(|code| code == fact));
                problems.extend(missing.map(|fact| format!("{name}: {first} does not say `{fact}`")));
            }
        }
    }
    assert!(problems.is_empty(), "docs/src/command-line.md\n{}", problems.join("\n"));
}

#[test]
fn the_chapter_names_no_option_that_is_not_there() {
    let (sections, definition) = (sections(), definition());
    let all: BTreeSet<&str> = definition.get_subcommands().map(clap::Command::get_name).collect();
    for (command, section) in sections.iter().filter(|(command, _)| !command.is_empty()) {
        assert!(all.contains(command.as_str()), "docs/src/command-line.md: there is no command {command}");
        // `version` and `completion` share a section.
        let sharing = sections.iter().filter(|(_, other)| {
            let text = |section: &Section| section.rows.iter().map(|row| row.text.clone()).collect::<Vec<_>>();
            text(other) == text(section)
        });
        let known: BTreeSet<String> = sharing
            .filter_map(|(name, _)| definition.find_subcommand(name))
            .flat_map(clap::Command::get_arguments)
            .flat_map(names)
            .collect();
        for name in section.rows.iter().flat_map(|row| &row.names) {
            let is_option = name.starts_with('-') && name.len() > 1;
            assert!(!is_option || known.contains(name), "docs/src/command-line.md: {command} has no {name}");
        }
    }
}
