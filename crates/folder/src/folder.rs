//! The state of a folder between two readings.

use crate::files::{self, FileText, Stamp};
use portcullis_api::diagnostic::{Diagnostic, Severity};
use portcullis_api::manifest::{self, Document, Limits};
use portcullis_api::schema::{FieldPath, Schemas};
use portcullis_api::{Change, Object, ObjectKey};
use serde_json::Value;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// How files are read.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespace of objects that name none.
    pub default_namespace: String,
    /// Whether some warnings are errors: unknown fields, private keys that others than the owner can read.
    pub strict: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { default_namespace: "default".to_owned(), strict: false }
    }
}

/// What one reading found.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// What changed since the last reading, sorted by the objects' keys.
    pub changes: Vec<Change>,
    /// Everything that is wrong in the files now, by file and line; also what the last reading told already.
    pub diagnostics: Vec<Diagnostic>,
    /// Named paths that could not be read at all.
    pub unreadable: Vec<PathBuf>,
    /// How many files were read or are unchanged.
    pub files: usize,
}

/// Files and folders that a user named, and what they held when they were read last.
#[derive(Debug)]
pub struct Folder {
    options: Options,
    schemas: Schemas,
    limits: Limits,
    paths: Vec<PathBuf>,
    files: BTreeMap<PathBuf, File>,
    objects: BTreeMap<ObjectKey, Known>,
    standard_input: Option<Result<String, String>>,
}

/// One file as it was read last.
#[derive(Debug)]
struct File {
    /// The named path under which it was found.
    root: PathBuf,
    stamp: Option<Stamp>,
    text: u64,
    documents: Vec<Loaded>,
    diagnostics: Vec<Diagnostic>,
}

/// One document of a file.
#[derive(Clone, Debug)]
struct Loaded {
    key: ObjectKey,
    line: u32,
    /// The object and the digests of its content, `None` when it is refused and there is no last good version.
    content: Option<Content>,
}

/// A valid object, not yet numbered.
#[derive(Clone, Debug)]
struct Content {
    object: Object,
    /// Of everything but the status.
    whole: u64,
    /// Of everything but metadata and status: what a generation counts.
    spec: u64,
}

/// An object that was given out.
#[derive(Debug)]
struct Known {
    whole: u64,
    spec: u64,
    generation: i64,
}

impl Folder {
    /// A folder that was not read yet. `-` is standard input, read once.
    pub fn new(paths: Vec<PathBuf>, options: Options) -> Self {
        Self {
            options,
            schemas: Schemas::v1_7_0(),
            limits: Limits::default(),
            paths,
            files: BTreeMap::new(),
            objects: BTreeMap::new(),
            standard_input: None,
        }
    }

    /// The paths that the user named.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Reads what changed.
    pub fn read(&mut self) -> Update {
        let mut update = Update::default();
        let mut seen = BTreeSet::new();
        for root in self.paths.clone() {
            self.read_root(&root, &mut seen, &mut update);
        }
        self.files.retain(|path, _| seen.contains(path));
        update.files = self.files.len();
        for file in self.files.values() {
            update.diagnostics.extend(file.diagnostics.iter().cloned());
        }
        self.settle(&mut update);
        update.diagnostics.sort_by(|a, b| (&a.source, a.line, a.column).cmp(&(&b.source, b.line, b.column)));
        update
    }

    /// The text of a file or of standard input as it is now, to show a diagnostic's line.
    pub fn text(&self, source: &str) -> Option<String> {
        if source == STANDARD_INPUT {
            return self.standard_input.as_ref()?.as_ref().ok().cloned();
        }
        files::read(Path::new(source)).ok().map(|file| file.text)
    }

    fn read_root(&mut self, root: &Path, seen: &mut BTreeSet<PathBuf>, update: &mut Update) {
        if root.as_os_str() == "-" {
            return self.read_standard_input(seen, update);
        }
        let listing = match files::list(root) {
            Ok(listing) => listing,
            Err(error) => {
                let kept = self.keep(seen, |_, file| file.root == root);
                if kept == 0 {
                    update.unreadable.push(root.to_path_buf());
                }
                update.diagnostics.push(unreadable(root, &error.to_string(), kept));
                return;
            }
        };
        for (path, problem) in listing.problems {
            let kept = self.keep(seen, |known, _| known.starts_with(&path));
            update.diagnostics.push(unreadable(&path, &problem, kept));
        }
        for path in listing.files {
            if seen.insert(path.clone()) {
                self.read_file(root, path, update);
            }
        }
    }

    /// Keeps files that cannot be listed now, and counts their objects.
    fn keep(&self, seen: &mut BTreeSet<PathBuf>, which: impl Fn(&Path, &File) -> bool) -> usize {
        let mut objects = 0;
        for (path, file) in self.files.iter().filter(|(path, file)| which(path, file)) {
            objects += file.documents.len();
            seen.insert(path.clone());
        }
        objects
    }

    fn read_file(&mut self, root: &Path, path: PathBuf, update: &mut Update) {
        let stamp = Stamp::of(&path).ok();
        if let (Some(known), Some(now)) = (self.files.get(&path).and_then(|file| file.stamp), stamp)
            && known.proves_unchanged(now)
        {
            return;
        }
        match files::read(&path) {
            Ok(file) => self.take_text(root, path, file),
            Err(problem) => {
                let kept = self.files.get(&path).map_or(0, |file| file.documents.len());
                update.diagnostics.push(unreadable(&path, &problem, kept));
            }
        }
    }

    fn read_standard_input(&mut self, seen: &mut BTreeSet<PathBuf>, update: &mut Update) {
        let path = PathBuf::from(STANDARD_INPUT);
        seen.insert(path.clone());
        if self.standard_input.is_some() {
            return;
        }
        let read = files::read_standard_input();
        self.standard_input = Some(read.clone());
        match read {
            Ok(text) => self.take(Path::new("-"), path, None, &text, false),
            Err(problem) => {
                update.unreadable.push(PathBuf::from("-"));
                update.diagnostics.push(unreadable(&path, &problem, 0));
            }
        }
    }

    fn take_text(&mut self, root: &Path, path: PathBuf, file: FileText) {
        let text = digest(&(&file.text, file.shared));
        if let Some(known) = self.files.get_mut(&path)
            && known.text == text
        {
            known.stamp = Some(file.stamp);
            return;
        }
        self.take(root, path, Some(file.stamp), &file.text, file.shared);
    }

    /// Reads a text that is new, and puts the last good version in the place of what is refused.
    fn take(&mut self, root: &Path, path: PathBuf, stamp: Option<Stamp>, text: &str, shared: bool) {
        let source = path.display().to_string();
        let manifest = manifest::parse(&source, text, &self.limits);
        let before = self.files.remove(&path);
        let mut file = File {
            root: root.to_path_buf(),
            stamp,
            text: digest(&(text, shared)),
            documents: Vec::with_capacity(manifest.documents.len()),
            diagnostics: manifest.diagnostics,
        };
        // A document that cannot be told by its name may have been any of those that the file held before.
        let mut lost = any_error(&file.diagnostics);
        for document in manifest.documents {
            lost |= !self.take_document(&mut file, document, before.as_ref(), shared);
        }
        // A shell empties a file before the program begins that will write it: `generate > gateway.yaml`.
        let is_emptied = text.is_empty();
        if let (true, Some(before)) = (lost || is_emptied, before) {
            keep_lost(&mut file, before, &source, is_emptied);
        }
        self.files.insert(path, file);
    }

    /// Takes one document. `false` if it does not say which object it is.
    fn take_document(&self, file: &mut File, mut document: Document, before: Option<&File>, shared: bool) -> bool {
        let mut diagnostics = document.check(&self.schemas, &self.options.default_namespace);
        let Some(key) = document.key() else {
            file.diagnostics.append(&mut diagnostics);
            return false;
        };
        let origin = document.origin().clone();
        let tell = |severity, code, message: &str| {
            origin.diagnostic(severity, code, &FieldPath::root(), Some(key.clone()), message.to_owned())
        };
        if shared && holds_private_key(document.value()) {
            let mut diagnostic =
                tell(Severity::Warning, SHARED_PRIVATE_KEY, "users other than the owner can read this private key");
            diagnostic.remedy = Some("take the rights of group and others away: chmod go= FILE".to_owned());
            diagnostics.push(diagnostic);
        }
        if self.options.strict {
            let strict = diagnostics.iter_mut().filter(|diagnostic| STRICT.contains(&diagnostic.code));
            strict.for_each(|diagnostic| diagnostic.severity = Severity::Error);
        }
        let content = if any_error(&diagnostics) {
            None
        } else {
            Content::new(document).map_err(|diagnostic| diagnostics.push(*diagnostic)).ok()
        };
        let content = content.or_else(|| {
            let last_good = before?.documents.iter().find(|loaded| loaded.key == key)?.content.clone()?;
            diagnostics.push(tell(Severity::Note, "last-good-version", "its last good version stays in force"));
            Some(last_good)
        });
        file.diagnostics.append(&mut diagnostics);
        file.documents.push(Loaded { key, line: origin.position(&FieldPath::root()).line, content });
        true
    }

    /// Compares what the files hold with what was given out, and numbers the changes.
    fn settle(&mut self, update: &mut Update) {
        let mut present: BTreeMap<&ObjectKey, (&Path, &Loaded)> = BTreeMap::new();
        for (path, file) in &self.files {
            for loaded in &file.documents {
                match present.entry(&loaded.key) {
                    Entry::Vacant(vacant) => drop(vacant.insert((path, loaded))),
                    Entry::Occupied(first) => {
                        let (first_path, first) = first.get();
                        update.diagnostics.push(duplicate(path, loaded, first_path, first));
                    }
                }
            }
        }
        let gone: Vec<ObjectKey> = self.objects.keys().filter(|key| !present.contains_key(key)).cloned().collect();
        for key in gone {
            self.objects.remove(&key);
            update.changes.push(Change::Delete(key));
        }
        for (key, (_, loaded)) in present {
            let Some(content) = &loaded.content else {
                if self.objects.remove(key).is_some() {
                    update.changes.push(Change::Delete(key.clone()));
                }
                continue;
            };
            let generation = match self.objects.get(key) {
                Some(known) if known.whole == content.whole => continue,
                Some(known) if known.spec == content.spec => known.generation,
                Some(known) => known.generation + 1,
                None => 1,
            };
            let known = Known { whole: content.whole, spec: content.spec, generation };
            self.objects.insert(key.clone(), known);
            update.changes.push(Change::Upsert(content.object.clone().with_generation(generation)));
        }
    }
}

/// How standard input is named in diagnostics.
const STANDARD_INPUT: &str = "<stdin>";
/// A private key that others than the owner can read.
const SHARED_PRIVATE_KEY: &str = "shared-private-key";
/// Warnings that `strict` makes errors.
const STRICT: &[&str] = &[SHARED_PRIVATE_KEY, "unknown-field"];

impl Content {
    fn new(document: Document) -> Result<Self, Box<Diagnostic>> {
        let mut spec = DefaultHasher::new();
        let mut whole = DefaultHasher::new();
        for (name, value) in document.value().as_object().into_iter().flatten() {
            match name.as_str() {
                // The status in a file is nobody's word; ours is computed.
                "status" => {}
                "metadata" => (name, value).hash(&mut whole),
                _ => (name, value).hash(&mut spec),
            }
        }
        let spec = spec.finish();
        spec.hash(&mut whole);
        Ok(Self { object: document.into_object()?, whole: whole.finish(), spec })
    }
}

/// Keeps the objects of a file that may be meant by a document that cannot be read, or that is yet to be written.
fn keep_lost(file: &mut File, before: File, source: &str, is_emptied: bool) {
    let present: BTreeSet<ObjectKey> = file.documents.iter().map(|loaded| loaded.key.clone()).collect();
    let kept: Vec<Loaded> = before.documents.into_iter().filter(|loaded| !present.contains(&loaded.key)).collect();
    if kept.is_empty() {
        return;
    }
    let objects = match kept.len() {
        1 => "the object that the file held before stays".to_owned(),
        count => format!("the {count} objects that the file held before stay"),
    };
    let (severity, until, remedy) = if is_emptied {
        let remedy = "write the file, or delete it to delete what it held".to_owned();
        (Severity::Warning, "it is not empty any more", Some(remedy))
    } else {
        (Severity::Note, "all of it can be read", None)
    };
    file.diagnostics.push(Diagnostic {
        severity,
        code: "last-good-version",
        source: source.into(),
        line: 0,
        column: 0,
        object: None,
        field: None,
        message: format!("{objects} in force until {until}"),
        remedy,
    });
    file.documents.extend(kept);
}

fn holds_private_key(value: &Value) -> bool {
    let text = |name| value.get(name).and_then(Value::as_str);
    let keys = |name| value.get(name).and_then(Value::as_object).is_some_and(|data| data.contains_key("tls.key"));
    text("kind") == Some("Secret") && text("apiVersion") == Some("v1") && (keys("data") || keys("stringData"))
}

fn unreadable(path: &Path, problem: &str, kept: usize) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: "unreadable",
        source: path.display().to_string().into(),
        line: 0,
        column: 0,
        object: None,
        field: None,
        message: match kept {
            0 => problem.to_owned(),
            kept => format!("{problem}; its {kept} objects stay in force as they were read last"),
        },
        remedy: None,
    }
}

fn duplicate(path: &Path, loaded: &Loaded, first_path: &Path, first: &Loaded) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: "duplicate-object",
        source: path.display().to_string().into(),
        line: loaded.line,
        column: 1,
        object: Some(loaded.key.clone()),
        field: None,
        message: format!(
            "the same object stands at {}:{}, which is used; this one is not",
            first_path.display(),
            first.line
        ),
        remedy: Some("keep one of the two, or give one another name or namespace".to_owned()),
    }
}

fn any_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

fn digest(content: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
