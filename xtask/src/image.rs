//! `cargo xtask image`: the container image, without Docker.
//!
//! What flows in: the workspace. What flows out: an OCI image layout in one tar file, with the static program and its bill
//! of materials, and that bill as a file beside it. The same sources and toolchain give the same bytes.

mod elf;
mod layout;
mod sbom;

use crate::step::{Outcome, Step, in_ci, installed, root, say, target};
use clap::Args;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// What can be chosen.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The archive; without it, target/image/portcullis-VERSION.tar.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The profile of the build: `image` is quick to build, `release` is optimised as a whole.
    #[arg(long, value_name = "PROFILE", default_value = "image")]
    profile: String,
}

impl Options {
    /// The quick build, into that file.
    pub(crate) fn to(output: &Path) -> Self {
        Self { output: Some(output.to_owned()), profile: "image".to_owned() }
    }
}

/// Builds the program and writes the archive.
pub(crate) fn run(options: &Options) -> Outcome {
    image(options).map(drop)
}

/// The same, and gives the program's path.
pub(crate) fn image(options: &Options) -> Result<PathBuf, String> {
    require_toolchain()?;
    let path = build(&options.profile)?;
    let program = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    elf::require_static(&program)?;
    let package = Package::of_workspace()?;
    let bill = sbom::bill_of_materials(&package.version, TARGET)?;
    let commit = Commit::head();
    let archive = layout::archive(&layout::Image {
        reference: &format!("localhost/portcullis:{}", package.version),
        version: &package.version,
        license: &package.license,
        description: &package.description,
        revision: commit.as_ref().map(|commit| commit.revision.as_str()),
        seconds: commit.as_ref().map_or(0, |commit| commit.seconds),
        program: &program,
        bill: bill.as_bytes(),
    })?;

    let output = options
        .output
        .clone()
        .unwrap_or_else(|| target().join("image").join(format!("portcullis-{}.tar", package.version)));
    write(&output, &archive.bytes)?;
    let bill_file = output.with_extension("cdx.json");
    write(&bill_file, bill.as_bytes())?;
    say(&format!(
        "{}: {}, {:.1} MiB (program {:.1} MiB), manifest {}",
        output.display(),
        archive.reference,
        mebibytes(archive.bytes.len()),
        mebibytes(program.len()),
        archive.manifest,
    ));
    say(&format!("{}: bill of materials", bill_file.display()));
    Ok(path)
}

/// The target of the program: static, so that the image holds nothing else.
const TARGET: &str = "x86_64-unknown-linux-musl";

pub(crate) fn require_toolchain() -> Outcome {
    if !installed("musl-gcc") {
        return Err("musl-gcc is missing, which compiles the cryptographic library; install it with: apt-get install musl-tools".to_owned());
    }
    let there = Step::new("rustup", &["target", "list", "--installed"]).quiet().output();
    // Without rustup, the build itself tells what is missing.
    if there.is_ok_and(|targets| !targets.lines().any(|line| line == TARGET)) {
        if !in_ci() && !crate::step::asked_to_install() {
            return Err(format!(
                "the standard library for {TARGET} is missing; install it with: rustup target add {TARGET}  (or set PORTCULLIS_INSTALL=1)"
            ));
        }
        Step::new("rustup", &["target", "add", TARGET]).run()?;
    }
    Ok(())
}

/// Builds the program, and gives its path.
fn build(profile: &str) -> Result<PathBuf, String> {
    let arguments = [
        "build",
        "--locked",
        "--package",
        "portcullis",
        "--bin",
        "portcullis",
        "--target",
        TARGET,
        "--profile",
        profile,
        "--message-format",
        "json-render-diagnostics",
    ];
    let messages = Step::cargo(&arguments)
        .environment("CC_x86_64_unknown_linux_musl", "musl-gcc")
        // Paths of the machine that builds have no place in the program.
        .environment("CARGO_ENCODED_RUSTFLAGS", &neutral_paths("--remap-path-prefix", "\u{1f}"))
        .environment("CFLAGS_x86_64_unknown_linux_musl", &neutral_paths("-ffile-prefix-map", " "))
        .output()?;
    let executable = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let ours = message["target"]["name"] == "portcullis";
        ours.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    });
    executable.ok_or_else(|| "cargo did not say where it put the program".to_owned())
}

/// The compiler's options that make it name sources relative to the workspace and to cargo's folder.
fn neutral_paths(option: &str, separator: &str) -> String {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo"));
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home);
    let folders = [(Some(root().to_owned()), "."), (cargo, "cargo"), (Some(target()), "target")];
    let options =
        folders.into_iter().filter_map(|(folder, name)| Some(format!("{option}={}={name}", folder?.display())));
    options.collect::<Vec<_>>().join(separator)
}

/// What the manifest of the program's crate says.
struct Package {
    version: String,
    license: String,
    description: String,
}

impl Package {
    fn of_workspace() -> Result<Self, String> {
        let metadata = sbom::metadata(&["--no-deps"])?;
        let package = metadata["packages"]
            .as_array()
            .and_then(|packages| packages.iter().find(|package| package["name"] == "portcullis"))
            .ok_or("the workspace has no package portcullis")?;
        let text = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
        Ok(Self { version: text("version"), license: text("license"), description: text("description") })
    }
}

/// What was built from: the last commit, if nothing differs from it.
struct Commit {
    revision: String,
    seconds: u64,
}

impl Commit {
    fn head() -> Option<Self> {
        let git = |arguments: &[&str]| Step::new("git", arguments).quiet().output().ok();
        let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
        if !changed.trim().is_empty() {
            return None;
        }
        let head = git(&["log", "-1", "--format=%H %ct"])?;
        let (revision, seconds) = head.trim().split_once(' ')?;
        Some(Self { revision: revision.to_owned(), seconds: seconds.parse().ok()? })
    }
}

fn write(path: &Path, bytes: &[u8]) -> Outcome {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, bytes).map_err(failed)
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn mebibytes(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
