//! Refreshes `crds/` from a checkout of the Gateway API: `refresh-crds <gateway-api>/config/crd`.
//!
//! Takes the CustomResourceDefinitions of both channels, without descriptions, and notes the bundle version.

#![expect(clippy::print_stdout, reason = "a tool for contributors")]

use std::error::Error;
use std::fs;
use std::path::Path;

use portcullis_api::manifest::{Limits, parse};
use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let source = std::env::args().nth(1).ok_or("usage: refresh-crds <gateway-api>/config/crd")?;
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    for channel in ["standard", "experimental"] {
        let folder = target.join(channel);
        fs::remove_dir_all(&folder)?;
        fs::create_dir_all(&folder)?;
        for entry in Path::new(&source).join(channel).read_dir()? {
            refresh(&entry?.path(), &folder)?;
        }
    }
    Ok(())
}

/// Writes the CRD of one file, if it holds one.
fn refresh(path: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let text = fs::read_to_string(path)?;
    let manifest = parse(&path.display().to_string(), &text, &Limits::default());
    let is_crd = |value: &Value| value["kind"] == "CustomResourceDefinition";
    let Some(document) = manifest.documents.iter().find(|document| is_crd(document.value())) else {
        return Ok(());
    };
    let mut crd = document.value().clone();
    if let Some(fields) = crd.as_object_mut() {
        fields.shift_remove("status");
    }
    drop_descriptions(&mut crd);
    let version = crd["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"].as_str();
    fs::write(folder.with_file_name("VERSION"), format!("{}\n", version.ok_or("no bundle version")?))?;
    let name = path.with_extension("json");
    let name = name.file_name().ok_or("no file name")?;
    fs::write(folder.join(name), format!("{crd}\n"))?;
    println!("{}", name.display());
    Ok(())
}

/// A description is text; a property of that name is a schema and stays.
fn drop_descriptions(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("description").is_some_and(Value::is_string) {
                fields.shift_remove("description");
            }
            fields.values_mut().for_each(drop_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_descriptions),
        _ => {}
    }
}
