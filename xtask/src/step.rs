//! One command that a task runs.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Done, or what went wrong.
pub(crate) type Outcome = Result<(), String>;

/// A command, run in the root of the repository.
pub(crate) struct Step {
    command: Command,
    line: String,
    quiet: bool,
}

impl Step {
    /// A program with its arguments.
    pub(crate) fn new(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(root());
        // Set by the cargo that runs this; another toolchain must not inherit it.
        command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("CARGO_MANIFEST_DIR");
        Self { command, line: format!("{program} {}", arguments.join(" ")), quiet: false }
    }

    /// The cargo that runs this.
    pub(crate) fn cargo(arguments: &[&str]) -> Self {
        Self::new("cargo", arguments)
    }

    /// With an environment variable.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Without its output.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Runs the command, and gives what it wrote to standard output.
    pub(crate) fn output(mut self) -> Result<String, String> {
        let line = self.line;
        if !self.quiet {
            say(&line);
            self.command.stderr(Stdio::inherit());
        }
        let output = self.command.output().map_err(|error| format!("{line}: {error}"))?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{line}: {}\n{}", output.status, told.trim_end()).trim_end().to_owned());
        }
        String::from_utf8(output.stdout).map_err(|_| format!("{line}: its output is not UTF-8"))
    }

    /// Prints the command, runs it, and gives the code with which it ended.
    pub(crate) fn status(mut self) -> Result<i32, String> {
        let line = self.line;
        say(&line);
        let status = self.command.status().map_err(|error| format!("{line}: {error}"))?;
        status.code().ok_or_else(|| format!("{line}: {status}"))
    }

    /// Prints the command and runs it.
    pub(crate) fn run(mut self) -> Outcome {
        let line = self.line;
        if self.quiet {
            self.command.stdout(Stdio::null()).stderr(Stdio::null());
        } else {
            say(&line);
        }
        match self.command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{line}: {status}")),
            Err(error) => Err(format!("{line}: {error}")),
        }
    }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Tells the contributor something.
pub(crate) fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "xtask: {line}"));
}

/// Whether this runs in continuous integration, where nothing may be left out.
pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some()
}

/// Whether missing tools are to be installed.
pub(crate) fn asked_to_install() -> bool {
    env::var_os("PORTCULLIS_INSTALL").is_some()
}

/// Whether the Gateway API's Go module is at hand, whose examples a test of `api` reads.
pub(crate) fn upstream_examples() -> bool {
    let cache = || Some(Path::new(&env::var_os("HOME")?).join("go/pkg/mod/sigs.k8s.io/gateway-api@v1.7.0"));
    env::var_os("GATEWAY_API_DIR").map(Into::into).or_else(cache).is_some_and(|folder| folder.is_dir())
}

/// Whether a program can be found.
pub(crate) fn installed(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

/// The names of the fuzz targets.
pub(crate) fn fuzz_targets() -> Result<Vec<String>, String> {
    let folder = root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut targets: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .collect();
    targets.sort();
    Ok(targets)
}
