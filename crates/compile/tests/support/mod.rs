//! Reading cases and writing what comes out of them. (`mod.rs`, for a file beside it would be a test of its own.)

pub(crate) mod render;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use portcullis_api::manifest::{Limits, load, parse};
use portcullis_api::schema::{Channel, Schemas};
use portcullis_api::{Object, ObjectKey};
use portcullis_compile::{Definition, SecretNamespaces, Served};

/// 2026-01-01T00:00:00Z: the time of all cases that do not say otherwise.
const NOW: i64 = 1_767_225_600;

/// A case as it stands in its folder.
pub(crate) struct Case {
    /// The objects of `input.yaml`, and those of `_defaults.yaml` that it does not replace.
    pub(crate) objects: Vec<Object>,
    /// What stands in `input.yaml` itself.
    pub(crate) own: Vec<ObjectKey>,
    /// From `options.yaml`.
    pub(crate) options: Options,
}

/// `options.yaml`. Absent fields have the values of [`Options::default`].
pub(crate) struct Options {
    pub(crate) standalone: bool,
    pub shared_machine: bool,
    pub(crate) now: i64,
    /// Whether the input is validated and defaulted as an API server does.
    pub(crate) validate: bool,
    pub(crate) channel: Channel,
    /// Whether `_defaults.yaml` files count.
    pub(crate) defaults: bool,
    /// Release and channel of all kinds that an API server serves.
    pub(crate) served: Option<(String, String)>,
    /// Where Secrets may be read.
    secrets: SecretNamespaces,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            standalone: false,
            shared_machine: false,
            now: NOW,
            validate: true,
            channel: Channel::Experimental,
            defaults: true,
            served: None,
            secrets: SecretNamespaces::All,
        }
    }
}

impl Options {
    fn read(path: &Path) -> Result<Self, String> {
        let mut options = Self::default();
        let Ok(text) = fs::read_to_string(path) else { return Ok(options) };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("options.yaml: {line}"))?;
            let value = value.trim();
            let truth = || value.parse::<bool>().map_err(|_| format!("options.yaml: {line}: true or false"));
            match name {
                "standalone" => options.standalone = truth()?,
                "sharedMachine" => options.shared_machine = truth()?,
                "validate" => options.validate = truth()?,
                "defaults" => options.defaults = truth()?,
                "secretNamespaces" => options.secrets = secret_namespaces(value),
                "served" => {
                    let (version, channel) = value.split_once(' ').ok_or_else(|| format!("options.yaml: {line}"))?;
                    options.served = Some((version.to_owned(), channel.to_owned()));
                }
                "now" => {
                    options.now = value.parse().map_err(|_| format!("options.yaml: {line}: seconds since 1970"))?
                }
                "channel" if value == "standard" => options.channel = Channel::Standard,
                "channel" if value == "experimental" => options.channel = Channel::Experimental,
                _ => return Err(format!("options.yaml: {line} is unknown")),
            }
        }
        Ok(options)
    }

    /// As the compiler takes them.
    pub(crate) fn compile(&self) -> portcullis_compile::Options {
        portcullis_compile::Options {
            now: self.now,
            standalone: self.standalone,
            shared_machine: self.shared_machine,
            secrets: self.secrets.clone(),
            served: self.served.as_ref().map(|(version, channel)| served(version, channel)),
            ..portcullis_compile::Options::default()
        }
    }
}

/// `labelled`, for the label that the controller goes by, or names with commas between.
fn secret_namespaces(value: &str) -> SecretNamespaces {
    if value == "labelled" {
        let selector = serde_json::json!({ "matchLabels": { "portcullis.dev/secrets": "allowed" } });
        return SecretNamespaces::Labelled(serde_json::from_value(selector).unwrap());
    }
    SecretNamespaces::Listed(value.split(',').map(|name| name.trim().to_owned()).collect())
}

fn served(version: &str, channel: &str) -> Served {
    let text = |text: &str| Some(text).filter(|text| *text != "none").map(Into::into);
    let mut served = Served::default();
    for kind in ["GatewayClass", "Gateway", "HTTPRoute", "ReferenceGrant"] {
        let definition = Definition { bundle_version: text(version), channel: text(channel) };
        served.insert("gateway.networking.k8s.io", kind, definition);
    }
    served
}

impl Case {
    /// Reads a case. The furniture of all folders from the root to the case's own counts, inner before outer.
    pub(crate) fn read(root: &Path, folder: &Path) -> Result<Self, String> {
        let options = Options::read(&folder.join("options.yaml"))?;
        let mut objects = BTreeMap::new();
        let inside = folder.strip_prefix(root).map_err(|error| error.to_string())?;
        let mut place = root.to_path_buf();
        for part in std::iter::once(Path::new("")).chain(inside.iter().map(Path::new)) {
            place.push(part);
            let path = place.join("_defaults.yaml");
            if options.defaults && path.exists() {
                objects
                    .extend(read(&path, true, Channel::Experimental)?.into_iter().map(|object| (object.key(), object)));
            }
        }
        let input = read(&folder.join("input.yaml"), options.validate, options.channel)?;
        let own = input.iter().map(Object::key).collect();
        objects.extend(input.into_iter().map(|object| (object.key(), object)));
        Ok(Self { objects: objects.into_values().collect(), own, options })
    }
}

fn read(path: &Path, validate: bool, channel: Channel) -> Result<Vec<Object>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if validate {
        let loaded = load(&name, &text, &Limits::default(), &Schemas::of(channel), "default");
        if loaded.diagnostics.is_empty() {
            return Ok(loaded.objects.into_iter().map(|(object, _)| object).collect());
        }
        let problems: Vec<_> = loaded
            .diagnostics
            .iter()
            .map(|problem| {
                format!("{name}:{}:{}: {} ({})", problem.line, problem.column, problem.message, problem.code)
            })
            .collect();
        return Err(problems.join("\n"));
    }
    let manifest = parse(&name, &text, &Limits::default());
    if let Some(problem) = manifest.diagnostics.first() {
        return Err(format!("{name}:{}: {}", problem.line, problem.message));
    }
    let objects = manifest.documents.into_iter().map(|document| document.into_object());
    objects.collect::<Result<_, _>>().map_err(|problem| format!("{name}:{}: {}", problem.line, problem.message))
}
