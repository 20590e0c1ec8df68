//! Tells in the log which ports are served, and which are not, when that changes.

use super::error::{Applied, BindError};
use portcullis_model::ObjectName;
use std::collections::BTreeMap;

/// What was told of each port last.
#[derive(Debug, Default)]
pub struct PortJournal {
    known: BTreeMap<(ObjectName, u16), Result<String, BindError>>,
}

impl PortJournal {
    /// Tells what differs from the last time.
    pub fn tell(&mut self, applied: &Applied) {
        let mut now = BTreeMap::new();
        for report in &applied.ports {
            let result = report.result.as_ref().map_err(Clone::clone).map(|bound| {
                let addresses: Vec<String> = bound.addresses.iter().map(ToString::to_string).collect();
                addresses.join(", ")
            });
            let key = (report.gateway.clone(), report.port);
            if self.known.get(&key) != Some(&result) {
                match &result {
                    Ok(address) => {
                        tracing::info!(gateway = %report.gateway, port = report.port, address = address.as_str(), "listening");
                    }
                    Err(error) => {
                        tracing::error!(gateway = %report.gateway, port = report.port, %error, "not listening")
                    }
                }
            }
            now.insert(key, result);
        }
        self.known = now;
    }
}
