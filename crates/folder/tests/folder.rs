//! A folder on a real file system: what each reading gives out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use portcullis_api::diagnostic::Severity;
use portcullis_api::{Change, ObjectKey};
use portcullis_folder::{Folder, Options, Update, Watch};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

struct Setup {
    dir: TempDir,
    folder: Folder,
}

impl Setup {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(vec![dir.path().join("in")], options);
        fs::create_dir(dir.path().join("in")).unwrap();
        Self { dir, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("in").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads, and gives the changes as `+Service default/a@1` and `-Service default/a`.
    fn read(&mut self) -> (Vec<String>, Vec<&'static str>) {
        let update = self.folder.read();
        let codes = codes(&update);
        (changes(&update), codes)
    }
}

fn changes(update: &Update) -> Vec<String> {
    let show = |key: &ObjectKey| format!("{} {}/{}", key.kind(), key.namespace(), key.name());
    update
        .changes
        .iter()
        .map(|change| match change {
            Change::Upsert(object) => {
                format!("+{}@{}", show(&object.key()), object.metadata().generation.unwrap_or_default())
            }
            Change::Delete(key) => format!("-{}", show(key)),
        })
        .collect()
}

fn codes(update: &Update) -> Vec<&'static str> {
    update.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

fn service(name: &str, port: i32) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n")
}

#[test]
fn files_are_created_changed_and_deleted() {
    let mut setup = Setup::new();
    assert_eq!(setup.read(), (vec![], vec![]));
    setup.write("a.yaml", &service("a", 80));
    setup.write("deep/er/b.yml", &service("b", 80));
    setup.write("notes.txt", "not ours");
    setup.write(".hidden.yaml", &service("hidden", 80));
    assert_eq!(setup.read().0, ["+Service default/a@1", "+Service default/b@1"]);
    assert_eq!(setup.read().0, [""; 0]);
    setup.write("a.yaml", &service("a", 81));
    assert_eq!(setup.read().0, ["+Service default/a@2"]);
    setup.write("a.yaml", &format!("# a comment\n{}", service("a", 81)));
    assert_eq!(setup.read().0, [""; 0]);
    fs::rename(setup.path("a.yaml"), setup.path("c.yaml")).unwrap();
    assert_eq!(setup.read().0, [""; 0]);
    fs::remove_file(setup.path("c.yaml")).unwrap();
    fs::remove_dir_all(setup.path("deep")).unwrap();
    assert_eq!(setup.read().0, ["-Service default/a", "-Service default/b"]);
}

#[test]
fn a_change_of_labels_alone_is_no_new_generation() {
    let mut setup = Setup::new();
    setup.write("a.yaml", &service("a", 80));
    setup.read();
    setup.write("a.yaml", &service("a", 80).replace("  name: a\n", "  name: a\n  labels: {app: web}\n"));
    assert_eq!(setup.read().0, ["+Service default/a@1"]);
}

#[test]
fn a_broken_document_keeps_its_last_good_version_and_harms_no_other() {
    let mut setup = Setup::new();
    setup.write("all.yaml", &format!("{}---\n{}", service("a", 80), service("b", 80)));
    assert_eq!(setup.read().0, ["+Service default/a@1", "+Service default/b@1"]);
    // Invalid, but it says which object it is.
    setup.write("all.yaml", &format!("{}---\n{}", service("a", 70_000), service("b", 81)));
    let (changes, codes) = setup.read();
    assert_eq!(changes, ["+Service default/b@2"]);
    assert!(codes.contains(&"last-good-version"), "{codes:?}");
    // No YAML at all: it may be either.
    setup.write("all.yaml", &format!("{}---\n{}", "kind: [\n", service("b", 82)));
    let (changes, codes) = setup.read();
    assert_eq!(changes, ["+Service default/b@3"]);
    assert!(codes.contains(&"last-good-version"), "{codes:?}");
    // Whole again, without `a`.
    setup.write("all.yaml", &service("b", 82));
    assert_eq!(setup.read(), (vec!["-Service default/a".to_owned()], vec![]));
}

#[test]
fn a_file_that_is_being_written_anew_keeps_its_objects() {
    let mut setup = Setup::new();
    setup.write("all.yaml", &format!("{}---\n{}", service("a", 80), service("b", 80)));
    setup.read();
    setup.write("all.yaml", "");
    let (changes, codes) = setup.read();
    assert_eq!((changes.len(), codes), (0, vec!["last-good-version"]));
    setup.write("all.yaml", &service("b", 81));
    assert_eq!(setup.read().0, ["-Service default/a", "+Service default/b@2"]);
    setup.write("all.yaml", "# nothing any more\n");
    assert_eq!(setup.read().0, ["-Service default/b"]);
}

#[test]
fn an_object_that_was_never_good_is_not_given_out() {
    let mut setup = Setup::new();
    setup.write("a.yaml", &service("a", 70_000));
    let (changes, codes) = setup.read();
    assert_eq!(changes, [""; 0]);
    assert_eq!(codes, ["invalid-value"]);
}

#[test]
fn a_vanished_folder_keeps_everything() {
    let mut setup = Setup::new();
    setup.write("a.yaml", &service("a", 80));
    setup.read();
    fs::rename(setup.dir.path().join("in"), setup.dir.path().join("away")).unwrap();
    let update = setup.folder.read();
    assert_eq!((changes(&update), codes(&update)), (vec![], vec!["unreadable"]));
    assert!(update.unreadable.is_empty(), "{:?}", update.unreadable);
    fs::rename(setup.dir.path().join("away"), setup.dir.path().join("in")).unwrap();
    setup.write("b.yaml", &service("b", 80));
    assert_eq!(setup.read(), (vec!["+Service default/b@1".to_owned()], vec![]));
}

#[test]
fn a_path_that_never_existed_is_unreadable() {
    let mut folder = Folder::new(vec![PathBuf::from("/nonexistent/portcullis")], Options::default());
    let update = folder.read();
    assert_eq!(update.unreadable, [Path::new("/nonexistent/portcullis")]);
    assert_eq!(codes(&update), ["unreadable"]);
}

#[test]
fn the_first_of_two_documents_with_one_name_is_used() {
    let mut setup = Setup::new();
    setup.write("a.yaml", &service("a", 80));
    setup.write("b.yaml", &service("a", 81));
    let (changes, codes) = setup.read();
    assert_eq!(changes, ["+Service default/a@1"]);
    assert_eq!(codes, ["duplicate-object"]);
    fs::remove_file(setup.path("a.yaml")).unwrap();
    assert_eq!(setup.read(), (vec!["+Service default/a@2".to_owned()], vec![]));
}

#[test]
fn links_are_followed_inside_the_folder_and_not_out_of_it() {
    let mut setup = Setup::new();
    // As a projected volume is made.
    setup.write("..2026_11_23/a.yaml", &service("a", 80));
    symlink("..2026_11_23", setup.path("..data")).unwrap();
    symlink("..data/a.yaml", setup.path("a.yaml")).unwrap();
    fs::write(setup.dir.path().join("outside.yaml"), service("outside", 80)).unwrap();
    symlink("../outside.yaml", setup.path("b.yaml")).unwrap();
    symlink("nowhere.yaml", setup.path("c.yaml")).unwrap();
    symlink(".", setup.path("loop")).unwrap();
    let (changes, codes) = setup.read();
    assert_eq!(changes, ["+Service default/a@1"]);
    assert!(codes.iter().filter(|code| **code == "unreadable").count() >= 2, "{codes:?}");
    // The volume is swapped.
    setup.write("..2026_11_24/a.yaml", &service("a", 81));
    symlink("..2026_11_24", setup.path("..new")).unwrap();
    fs::rename(setup.path("..new"), setup.path("..data")).unwrap();
    assert_eq!(setup.read().0, ["+Service default/a@2"]);
}

#[test]
fn a_private_key_that_others_can_read_is_a_warning_or_strictly_an_error() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: certificate\n  tls.key: key\n";
    for (mode, strict, expected, taken) in [
        (0o600, false, None, true),
        (0o600, true, None, true),
        (0o640, false, Some(Severity::Warning), true),
        (0o604, true, Some(Severity::Error), false),
    ] {
        let mut setup = Setup::with(Options { strict, ..Options::default() });
        setup.write("s.yaml", secret);
        fs::set_permissions(setup.path("s.yaml"), Permissions::from_mode(mode)).unwrap();
        let update = setup.folder.read();
        let severity = update
            .diagnostics
            .iter()
            .find(|diagnostic| diagnostic.code == "shared-private-key")
            .map(|diagnostic| diagnostic.severity);
        assert_eq!(severity, expected, "{mode:o} {strict}");
        assert_eq!(!update.changes.is_empty(), taken, "{mode:o} {strict}");
    }
}

#[test]
fn what_is_no_text_is_refused_and_the_rest_is_read() {
    let mut setup = Setup::new();
    fs::write(setup.path("a.yaml"), b"\xff\xfe").unwrap();
    setup.write("b.yaml", &service("b", 80));
    let (changes, codes) = setup.read();
    assert_eq!(changes, ["+Service default/b@1"]);
    assert_eq!(codes, ["unreadable"]);
}

#[test]
fn a_change_wakes_the_watch() {
    let setup = Setup::new();
    let (watch, problems) = Watch::new(&[setup.dir.path().join("in")]);
    assert!(problems.is_empty(), "{problems:?}");
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        watch.wait(Duration::from_secs(60));
        told.send(()).unwrap();
    });
    // The watch may begin after the first writes: write until it is heard.
    for attempt in 0..600 {
        setup.write("a.yaml", &service("a", 80 + attempt));
        if heard.recv_timeout(Duration::from_millis(50)).is_ok() {
            return;
        }
    }
    panic!("nothing was heard");
}

#[test]
fn a_folder_that_was_replaced_is_watched_anew() {
    let setup = Setup::new();
    let folder = setup.dir.path().join("in");
    let (mut watch, problems) = Watch::new(std::slice::from_ref(&folder));
    assert!(problems.is_empty(), "{problems:?}");
    fs::create_dir(setup.dir.path().join("new")).unwrap();
    fs::remove_dir(&folder).unwrap();
    fs::rename(setup.dir.path().join("new"), &folder).unwrap();
    let problems = watch.add(std::slice::from_ref(&folder));
    assert!(problems.is_empty(), "{problems:?}");
    // What was told about the replacement itself is taken first.
    watch.wait(Duration::from_millis(200));
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        watch.wait(Duration::from_secs(60));
        told.send(()).unwrap();
    });
    for attempt in 0..600 {
        setup.write("a.yaml", &service("a", 80 + attempt));
        if heard.recv_timeout(Duration::from_millis(50)).is_ok() {
            return;
        }
    }
    panic!("nothing was heard");
}

#[test]
fn a_file_that_is_being_written_is_waited_for() {
    let mut setup = Setup::new();
    setup.write("a.yaml", &format!("{}---\n{}", service("a", 80), service("b", 80)));
    assert_eq!(setup.read().0, ["+Service default/a@1", "+Service default/b@1"]);
    let (watch, problems) = Watch::new(&[setup.dir.path().join("in")]);
    assert!(problems.is_empty(), "{problems:?}");
    let path = setup.path("a.yaml");
    let writer = std::thread::spawn(move || {
        let mut file = fs::File::create(path).unwrap();
        file.write_all(format!("{}---\n", service("a", 81)).as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        file.write_all(service("b", 81).as_bytes()).unwrap();
    });
    watch.wait(Duration::from_secs(60));
    assert_eq!(setup.read().0, ["+Service default/a@2", "+Service default/b@2"]);
    writer.join().unwrap();
}
