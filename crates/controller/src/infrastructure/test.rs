//! Tests of the parts together: what is rendered, and the provisioner against an API server made for the purpose.

mod api_server;
mod provision;
mod rendered;

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_compile::{Infrastructure, TransportProtocol};
use portcullis_model::ObjectName;

use super::render::RenderOptions;

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

pub(super) fn options() -> RenderOptions {
    RenderOptions {
        image: "localhost/portcullis:test".to_owned(),
        image_pull_policy: None,
        controller: "portcullis-controller.portcullis-system.svc:8443".to_owned(),
        identity: "portcullis-controller.portcullis-system.svc:8444".to_owned(),
        controller_name: "portcullis.dev/gateway-controller".to_owned(),
        ca_bundle: "CA".to_owned(),
    }
}
