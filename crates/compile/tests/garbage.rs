//! No object does harm: inputs of the cases, mutilated at random, compile without a panic, and to the same one by one as at once.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "tests read files and the environment")]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use portcullis_api::Change;
use portcullis_api::Object;
use portcullis_api::manifest::{Limits, parse};
use portcullis_compile::{Compiler, Options, compile};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The objects of every case, and of all furniture.
static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let mut objects = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases"), &mut objects);
    objects
});

fn read(folder: &Path, objects: &mut Vec<Value>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            read(&path, objects);
        } else if name == "input.yaml" || name == "_defaults.yaml" {
            let manifest = parse(&name, &fs::read_to_string(&path).unwrap(), &Limits::default());
            objects.extend(manifest.documents.iter().map(|document| document.value().clone()));
        }
    }
}

/// Changes one value somewhere below.
fn mutilate(value: &mut Value, seeds: &mut impl Iterator<Item = u32>) {
    let mut next = || seeds.next().unwrap_or_default() as usize;
    let (descend, choice) = (next(), next());
    match value {
        Value::Object(fields) if !fields.is_empty() && descend % 12 != 0 => {
            let name = fields.keys().nth(choice % fields.len()).unwrap().clone();
            if descend % 12 == 1 {
                fields.remove(&name);
            } else if let Some(value) = fields.get_mut(&name) {
                mutilate(value, seeds);
            }
        }
        Value::Array(items) if !items.is_empty() && descend % 12 != 0 => {
            let index = choice % items.len();
            match descend % 12 {
                1 => drop(items.remove(index)),
                2 => items.push(items[index].clone()),
                _ => mutilate(&mut items[index], seeds),
            }
        }
        _ => {
            let garbage = [
                json!(null),
                json!(""),
                json!("*"),
                json!("*."),
                json!("/"),
                json!("a\u{0}b\u{202e}"),
                json!("é".repeat(300)),
                json!("Unknown"),
                json!(0),
                json!(-1),
                json!(65536),
                json!(i32::MAX),
                json!(i32::MIN),
                json!([]),
                json!({}),
                json!([{}]),
                json!(true),
                json!("999999h"),
                json!("(?i)["),
                json!("::1"),
                json!("10.0.0.1"),
                json!("9999-99-99T99:99:99Z"),
                json!({ "future": 1 }),
            ];
            *value = garbage[choice % garbage.len()].clone();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_does_no_harm(
        picked in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(any::<u32>(), 0..60)), 1..30),
        standalone in any::<bool>(),
        shared_machine in any::<bool>(),
    ) {
        let mut objects = Vec::new();
        for (index, seeds) in &picked {
            let mut value = index.get(OBJECTS.as_slice()).clone();
            let mut seeds = seeds.iter().copied();
            while seeds.len() > 0 {
                mutilate(&mut value, &mut seeds);
            }
            objects.extend(Object::from_value(value));
        }
        let options = Options { standalone, shared_machine, ..Options::default() };
        let batch = compile(objects.clone(), options.clone());
        let mut compiler = Compiler::new(options);
        for object in objects {
            compiler.apply(vec![Change::Upsert(object)]);
        }
        prop_assert_eq!(compiler.configs(), &batch.configs);
        prop_assert_eq!(compiler.statuses(), &batch.statuses);
        prop_assert_eq!(compiler.findings(), &batch.findings);
    }
}
