//! From what a Gateway's data plane must look like to the objects that make it so.
//!
//! In flow [`Infrastructure`], [`RenderOptions`] and what the Gateway's Services are now ([`Services`]). Out flow objects for server-side
//! apply: the same ones for the same input. Nothing of listeners is in the Deployment, so that no listener ever rolls a pod; ports stand in
//! the Services and the NetworkPolicy.

pub(crate) mod deployment;
mod network_policy;
mod scale;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use portcullis_compile::{Infrastructure, TransportProtocol};
use serde_json::{Value, json};

use super::address::{Asked, Place, places};
use super::kind::Kind;
use super::names::{CONTROLLER_NAME, Names, names};

/// What is the same for all Gateways.
#[derive(Clone, Debug)]
pub struct RenderOptions {
    /// The image of data planes.
    pub image: String,
    /// `imagePullPolicy`; the API server's default if there is none.
    pub image_pull_policy: Option<String>,
    /// Host and port of the stream of configurations.
    pub controller: String,
    /// Host and port of the identity service.
    pub identity: String,
    /// The controller's name (`spec.controllerName` of its classes): whose the objects are.
    pub controller_name: String,
    /// The CA that the two servers' certificates are from, in PEM.
    pub ca_bundle: String,
}

/// What a Gateway's Services are, and what they may show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services {
    /// By name.
    pub(crate) asked: BTreeMap<String, Asked>,
    /// Ports that may be shown now.
    pub(crate) ports: BTreeSet<(u16, TransportProtocol)>,
    /// Ports that are not wanted any more, and that data planes still serve while load balancers hear of it.
    pub(crate) closing: BTreeSet<(u16, TransportProtocol)>,
}

/// One object as it must be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) body: Value,
}

/// What the parts have in common.
struct Context<'a> {
    infrastructure: &'a Infrastructure,
    parameters: &'a portcullis_api::gateway_parameters::DataPlane,
    options: &'a RenderOptions,
    names: Names,
}

/// The objects of a Gateway's data plane; nothing while its parameters are not known. A Service without ports cannot exist: without any
/// port there is none in the output, and one that exists is to be left as it is.
pub(crate) fn render(
    infrastructure: &Infrastructure,
    options: &RenderOptions,
    services: &Services,
) -> Option<Vec<Rendered>> {
    let parameters = infrastructure.parameters.as_deref()?;
    let names = names(&infrastructure.gateway, &infrastructure.gateway_class);
    let context = Context { infrastructure, parameters, options, names };
    let mut objects = vec![context.service_account(), context.ca()];
    if !services.ports.is_empty() {
        let places = places(infrastructure, &context.names, &services.asked);
        objects.extend(places.iter().map(|place: &Place| context.service(place, &services.ports)));
    }
    objects.extend(context.network_policy(&infrastructure.ports | &services.closing));
    objects.extend(context.disruption_budget());
    objects.push(context.deployment());
    objects.extend(context.autoscaler());
    Some(objects)
}

impl Context<'_> {
    fn service_account(&self) -> Rendered {
        self.object(Kind::ServiceAccount, json!({"automountServiceAccountToken": false}))
    }

    fn ca(&self) -> Rendered {
        self.object(Kind::ConfigMap, json!({"data": {"ca.crt": self.options.ca_bundle}}))
    }

    /// An object with the plain name.
    fn object(&self, kind: Kind, content: Value) -> Rendered {
        self.named(kind, &self.names.base, content, &BTreeMap::new(), &BTreeMap::new())
    }

    fn named(
        &self,
        kind: Kind,
        name: &str,
        content: Value,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Rendered {
        let infrastructure = self.infrastructure;
        let mut all_annotations = overlaid([&infrastructure.annotations, annotations, &self.names.annotations()]);
        all_annotations.insert(CONTROLLER_NAME.to_owned(), self.options.controller_name.clone());
        let mut body = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": {
                "name": name,
                "namespace": &*infrastructure.gateway.namespace,
                "labels": overlaid([&infrastructure.labels, labels, &self.names.labels()]),
                "annotations": all_annotations,
                "ownerReferences": [{
                    "apiVersion": "gateway.networking.k8s.io/v1",
                    "kind": "Gateway",
                    "name": &*infrastructure.gateway.name,
                    "uid": &*infrastructure.uid,
                    "controller": true,
                    // The Gateway goes at once; what it owns follows.
                    "blockOwnerDeletion": false,
                }],
            },
        });
        if let (Value::Object(body), Value::Object(content)) = (&mut body, content) {
            body.extend(content);
        }
        Rendered { kind, name: name.to_owned(), body }
    }
}

/// Later ones win.
fn overlaid<const N: usize>(maps: [&BTreeMap<String, String>; N]) -> BTreeMap<String, String> {
    maps.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
}
