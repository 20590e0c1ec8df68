//! `portcullis version`.

use crate::cli::{Version, VersionFormat};
use crate::exit::Exit;
use crate::output;
use serde_json::json;

/// The version of the program.
pub(crate) const SHORT: &str = env!("CARGO_PKG_VERSION");
/// The version of the Gateway API whose types and rules are built in.
const GATEWAY_API: &str = "v1.7.0";

/// Prints the version.
pub(crate) fn run(arguments: &Version) -> Exit {
    let version = json!({
        "version": SHORT,
        "gatewayAPI": GATEWAY_API,
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    });
    match arguments.output {
        None => output::line(&format!("portcullis {SHORT} (Gateway API {GATEWAY_API})")),
        Some(VersionFormat::Json) => output::json(&version),
        Some(VersionFormat::Yaml) => output::yaml(&version),
    }
}
