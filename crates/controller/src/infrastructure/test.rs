//! Tests of the parts together.

use portcullis_compile::{Infrastructure, TransportProtocol};
use portcullis_model::ObjectName;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A Gateway `infra/edge` with one port.
pub(super) fn infrastructure() -> Infrastructure {
    Infrastructure {
        gateway: ObjectName::new("infra", "edge"),
        uid: "6d2b".into(),
        generation: 1,
        gateway_class: "portcullis".into(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ports: [(80, TransportProtocol::Tcp)].into(),
        addresses: Vec::new(),
        parameters: Some(Arc::default()),
    }
}
