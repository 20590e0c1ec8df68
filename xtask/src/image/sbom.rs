//! What the program is made of: CycloneDX 1.6, from what cargo resolved. <https://cyclonedx.org/docs/1.6/json/>
//!
//! Crates that are linked into the program, each with version, licence, checksum and what it depends on. Crates that only
//! help to build or test are not in the program, and not in the list.

use crate::step::{Step, root};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The list, as JSON.
pub(crate) fn bill_of_materials(version: &str, target: &str) -> Result<String, String> {
    let metadata = metadata(&["--filter-platform", target])?;
    let lock = root().join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    let rustc = Step::new("rustc", &["--version"]).quiet().output()?;
    let compiler = rustc.split_whitespace().nth(1).unwrap_or_default();
    describe(&metadata, &checksums(&lock), version, compiler)
}

/// `cargo metadata` of the workspace.
pub(crate) fn metadata(arguments: &[&str]) -> Result<Value, String> {
    let mut all = vec!["metadata", "--locked", "--format-version", "1"];
    all.extend(arguments);
    let text = Step::cargo(&all).quiet().output()?;
    serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))
}

fn describe(
    metadata: &Value,
    checksums: &BTreeMap<(String, String), String>,
    version: &str,
    compiler: &str,
) -> Result<String, String> {
    let packages: BTreeMap<&str, &Value> =
        list(metadata, "packages").map(|package| (text(package, "id"), package)).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"], "nodes").map(|node| (text(node, "id"), node)).collect();
    let is_program = |package: &&&Value| package["name"] == "portcullis" && package["source"].is_null();
    let program = packages.values().find(is_program).ok_or("the workspace has no package portcullis")?;

    let mut linked = BTreeSet::new();
    let mut open = vec![text(program, "id")];
    while let Some(id) = open.pop() {
        if linked.insert(id) {
            open.extend(nodes.get(id).into_iter().flat_map(|node| dependencies(node, &packages)));
        }
    }

    let mut components: Vec<Value> = Vec::new();
    let mut graph: Vec<Value> = Vec::new();
    let reference = |id: &str| packages.get(id).map(|package| purl(package)).unwrap_or_default();
    let ordered: BTreeMap<String, &str> = linked.iter().map(|id| (reference(id), *id)).collect();
    for (purl, id) in &ordered {
        let Some(package) = packages.get(id) else { continue };
        let needed: BTreeSet<String> =
            nodes.get(id).into_iter().flat_map(|node| dependencies(node, &packages)).map(reference).collect();
        graph.push(json!({ "ref": purl, "dependsOn": needed }));
        if *id != text(program, "id") {
            components.push(component(package, purl, checksums));
        }
    }
    components.push(json!({
        "type": "library",
        "bom-ref": format!("pkg:generic/rust-std@{compiler}"),
        "name": "rust-std",
        "version": compiler,
        "description": "The standard library of Rust for musl, with the musl libc that comes with it",
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
    }));

    let mut bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": purl(program),
                "name": "portcullis",
                "version": version,
                "description": program["description"],
                "licenses": licenses(program),
                "purl": purl(program),
            },
        },
        "components": components,
        "dependencies": graph,
    });
    bill["serialNumber"] = json!(serial_number(&bill));
    serde_json::to_string_pretty(&bill).map(|text| text + "\n").map_err(|error| error.to_string())
}

/// What is linked into a crate: no build scripts, no tests, no procedural macros.
fn dependencies<'a>(node: &'a Value, packages: &'a BTreeMap<&str, &Value>) -> impl Iterator<Item = &'a str> {
    list(node, "deps")
        .filter(|dependency| list(dependency, "dep_kinds").any(|kind| kind["kind"].is_null()))
        .map(|dependency| text(dependency, "pkg"))
        .filter(|id| packages.get(id).is_some_and(|package| !is_procedural_macro(package)))
}

fn is_procedural_macro(package: &Value) -> bool {
    list(package, "targets").any(|target| list(target, "kind").any(|kind| kind == "proc-macro"))
}

fn component(package: &Value, purl: &str, checksums: &BTreeMap<(String, String), String>) -> Value {
    let (name, version) = (text(package, "name"), text(package, "version"));
    let mut component = json!({
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "licenses": licenses(package),
        "purl": purl,
    });
    if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

fn licenses(package: &Value) -> Value {
    match package["license"].as_str() {
        // The old way to write an alternative.
        Some(expression) => {
            json!([{ "expression": expression.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ") }])
        }
        None => json!([]),
    }
}

/// <https://github.com/package-url/purl-spec/blob/main/types-doc/cargo-definition.md>
fn purl(package: &Value) -> String {
    format!("pkg:cargo/{}@{}", text(package, "name"), text(package, "version").replace('+', "%2B"))
}

/// The checksums of Cargo.lock by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
        line.and_then(|rest| rest.strip_suffix('"')).map(str::to_owned)
    };
    let packages = lock
        .split("[[package]]")
        .filter_map(|block| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?)));
    packages.collect()
}

/// A UUID of the content, so that equal lists have equal numbers (RFC 9562, version 8).
fn serial_number(bill: &Value) -> String {
    let hash = digest(&SHA256, bill.to_string().as_bytes());
    let mut bytes: [u8; 16] = hash.as_ref().first_chunk().copied().unwrap_or_default();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let number = u128::from_be_bytes(bytes);
    let hex = format!("{number:032x}");
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, kind: &str, source: Value) -> Value {
        json!({
            "id": name, "name": name, "version": "1.0.0+x", "license": "MIT/Apache-2.0", "source": source,
            "targets": [{ "kind": [kind] }],
        })
    }

    fn needs(name: &str, needed: &[(&str, Value)]) -> Value {
        let deps: Vec<_> =
            needed.iter().map(|(name, kind)| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] })).collect();
        json!({ "id": name, "deps": deps })
    }

    #[test]
    fn what_is_linked_is_listed_and_nothing_else() {
        let registry = || json!("registry");
        let metadata = json!({
            "packages": [
                package("portcullis", "bin", Value::Null),
                package("used", "lib", registry()),
                package("deep", "lib", registry()),
                package("macro", "proc-macro", registry()),
                package("build", "lib", registry()),
                package("test", "lib", registry()),
            ],
            "resolve": { "nodes": [
                needs("portcullis", &[("used", Value::Null), ("macro", Value::Null), ("build", json!("build")), ("test", json!("dev"))]),
                needs("used", &[("deep", Value::Null)]),
                needs("macro", &[("test", Value::Null)]),
            ]},
        });
        let lock = "[[package]]\nname = \"deep\"\nversion = \"1.0.0+x\"\nsource = \"registry\"\nchecksum = \"abc\"\n";
        let bill: Value =
            serde_json::from_str(&describe(&metadata, &checksums(lock), "1.2.3", "1.95.0").unwrap()).unwrap();
        let names: Vec<_> = list(&bill, "components").map(|component| text(component, "name")).collect();
        assert_eq!(names, ["deep", "used", "rust-std"]);
        assert_eq!(bill["components"][0]["hashes"], json!([{ "alg": "SHA-256", "content": "abc" }]));
        assert_eq!(bill["components"][0]["purl"], "pkg:cargo/deep@1.0.0%2Bx");
        assert_eq!(bill["components"][0]["licenses"], json!([{ "expression": "MIT OR Apache-2.0" }]));
        assert_eq!(bill["metadata"]["component"]["version"], "1.2.3");
        assert_eq!(
            bill["dependencies"][1],
            json!({ "ref": "pkg:cargo/portcullis@1.0.0%2Bx", "dependsOn": ["pkg:cargo/used@1.0.0%2Bx"] })
        );
        assert!(text(&bill, "serialNumber").starts_with("urn:uuid:"));
    }
}
