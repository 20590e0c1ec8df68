//! The objects that matter, by kind and name. Objects of other kinds are kept only as far as they refer to ours ([`crate::other`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use portcullis_api::endpoint_slice::{EndpointSlice, SERVICE_NAME_LABEL};
use portcullis_api::gateway::Gateway;
use portcullis_api::gateway_class::GatewayClass;
use portcullis_api::gateway_parameters::GatewayParameters;
use portcullis_api::http_route::HttpRoute;
use portcullis_api::meta::ObjectMeta;
use portcullis_api::namespace::{NAME_LABEL, Namespace};
use portcullis_api::reference_grant::ReferenceGrant;
use portcullis_api::secret::Secret;
use portcullis_api::service::Service;
use portcullis_api::{Extra, GATEWAY_GROUP, Object, ObjectKey};
use portcullis_model::ObjectName;

use crate::other::Other;
use crate::{own_addresses, parameters};

/// An object without what decides nothing, so that the echo of a status that was written changes nothing. One that is shared with whoever
/// gave it stays as it is unless it comes from an API server: a copy would cost more than it saves.
macro_rules! slim {
    ($object:expr $(, $status:ident)?) => {{
        let mut object = $object;
        let is_from_api_server = object.metadata.resource_version.is_some() $(|| object.$status.is_some())?;
        if is_from_api_server || Arc::get_mut(&mut object).is_some() {
            let object = Arc::make_mut(&mut object);
            slim(&mut object.metadata);
            $(object.$status = None;)?
        }
        object
    }};
}

/// The objects. Namespaced ones stand under their namespaced name, cluster-scoped ones under their name.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) gateway_classes: BTreeMap<Arc<str>, Arc<GatewayClass>>,
    pub(crate) gateways: BTreeMap<ObjectName, Arc<Gateway>>,
    pub(crate) http_routes: BTreeMap<ObjectName, Arc<HttpRoute>>,
    pub(crate) reference_grants: BTreeMap<ObjectName, Arc<ReferenceGrant>>,
    pub(crate) services: BTreeMap<ObjectName, Arc<Service>>,
    pub(crate) endpoint_slices: BTreeMap<ObjectName, Arc<EndpointSlice>>,
    pub(crate) secrets: BTreeMap<ObjectName, Arc<Secret>>,
    pub(crate) namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    pub(crate) gateway_parameters: BTreeMap<ObjectName, Arc<GatewayParameters>>,
    /// The addresses of each node.
    pub(crate) nodes: BTreeMap<Arc<str>, Arc<[IpAddr]>>,
    pub(crate) others: BTreeMap<ObjectKey, Arc<Other>>,
}

/// The kinds that are compiled, told apart by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    GatewayClass,
    Gateway,
    HttpRoute,
    ReferenceGrant,
    Service,
    EndpointSlice,
    Secret,
    Namespace,
    GatewayParameters,
    Node,
    Other,
}

impl Kind {
    pub(crate) fn of(key: &ObjectKey) -> Self {
        match (key.group(), key.kind()) {
            (GATEWAY_GROUP, "GatewayClass") => Self::GatewayClass,
            (GATEWAY_GROUP, "Gateway") => Self::Gateway,
            (GATEWAY_GROUP, "HTTPRoute") => Self::HttpRoute,
            (GATEWAY_GROUP, "ReferenceGrant") => Self::ReferenceGrant,
            ("", "Service") => Self::Service,
            ("discovery.k8s.io", "EndpointSlice") => Self::EndpointSlice,
            ("", "Secret") => Self::Secret,
            ("", "Namespace") => Self::Namespace,
            (parameters::GROUP, parameters::KIND) => Self::GatewayParameters,
            ("", "Node") => Self::Node,
            _ => Self::Other,
        }
    }
}

/// The namespaced name of a key.
pub(crate) fn name_of(key: &ObjectKey) -> ObjectName {
    ObjectName::new(key.namespace(), key.name())
}

/// The key of an object of the Gateway API.
pub(crate) fn gateway_api_key(kind: &str, name: &ObjectName) -> ObjectKey {
    ObjectKey::new(GATEWAY_GROUP, kind, &name.namespace, &name.name)
}

/// The Service whose endpoints a slice holds.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<ObjectName> {
    let service = slice.metadata.labels.get(SERVICE_NAME_LABEL)?;
    Some(ObjectName::new(slice.metadata.namespace.as_deref().unwrap_or_default(), service.as_str()))
}

/// The objects whose names are in a namespace.
pub(crate) fn in_namespace<'a, T>(
    objects: &'a BTreeMap<ObjectName, T>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a ObjectName, &'a T)> {
    objects.range(ObjectName::new(namespace, "")..).take_while(move |(name, _)| *name.namespace == *namespace)
}

impl Snapshot {
    /// Takes an object in, in place of the one with the same key. Says whether anything changed.
    pub(crate) fn upsert(&mut self, key: &ObjectKey, object: Object) -> bool {
        let name = name_of(key);
        let unreadable = Kind::of(key) != Kind::Other && self.others.remove(key).is_some();
        let changed = match object {
            Object::GatewayClass(object) => replace(&mut self.gateway_classes, name.name, slim!(object, status)),
            Object::Gateway(object) => replace(&mut self.gateways, name, slim!(object, status)),
            Object::HttpRoute(object) => replace(&mut self.http_routes, name, slim!(object, status)),
            Object::ReferenceGrant(object) => replace(&mut self.reference_grants, name, slim!(object)),
            Object::Service(object) => replace(&mut self.services, name, slim!(object, status)),
            Object::EndpointSlice(object) => replace(&mut self.endpoint_slices, name, slim!(object)),
            Object::Secret(object) => replace(&mut self.secrets, name, slim!(object)),
            Object::Namespace(object) => replace(&mut self.namespaces, name.name, slim!(object)),
            Object::GatewayParameters(object) => replace(&mut self.gateway_parameters, name, slim!(object, status)),
            Object::Node(object) => replace(&mut self.nodes, name.name, own_addresses::of_node(&object)),
            // A version of one of these kinds that cannot be read takes the place of the one that could: what it says is unknown.
            other if Kind::of(key) != Kind::Other => {
                self.remove(key);
                self.others.insert(key.clone(), Arc::new(Other::unreadable(&other)));
                true
            }
            other => match Other::read(&other) {
                Some(other) => replace(&mut self.others, key.clone(), Arc::new(other)),
                None => self.others.remove(key).is_some(),
            },
        };
        changed || unreadable
    }

    /// Takes an object out. Says whether it was there.
    pub(crate) fn remove(&mut self, key: &ObjectKey) -> bool {
        let name = name_of(key);
        let removed = match Kind::of(key) {
            Kind::GatewayClass => self.gateway_classes.remove(&name.name).is_some(),
            Kind::Gateway => self.gateways.remove(&name).is_some(),
            Kind::HttpRoute => self.http_routes.remove(&name).is_some(),
            Kind::ReferenceGrant => self.reference_grants.remove(&name).is_some(),
            Kind::Service => self.services.remove(&name).is_some(),
            Kind::EndpointSlice => self.endpoint_slices.remove(&name).is_some(),
            Kind::Secret => self.secrets.remove(&name).is_some(),
            Kind::Namespace => self.namespaces.remove(&name.name).is_some(),
            Kind::GatewayParameters => self.gateway_parameters.remove(&name).is_some(),
            Kind::Node => self.nodes.remove(&name.name).is_some(),
            Kind::Other => false,
        };
        self.others.remove(key).is_some() || removed
    }

    /// The labels of a namespace, with the label of its name, which an API server puts on every one; and whether the Namespace is declared.
    pub(crate) fn namespace_labels(&self, namespace: &str) -> (BTreeMap<String, String>, bool) {
        let object = self.namespaces.get(namespace);
        let mut labels = object.map(|object| object.metadata.labels.clone()).unwrap_or_default();
        labels.insert(NAME_LABEL.to_owned(), namespace.to_owned());
        (labels, object.is_some())
    }
}

fn replace<K: Ord, T: PartialEq>(values: &mut BTreeMap<K, T>, key: K, value: T) -> bool {
    if values.get(&key).is_some_and(|known| *known == value) {
        return false;
    }
    values.insert(key, value);
    true
}

/// Takes out of metadata what decides nothing. It is more than half of most objects, and changes with every write of a status.
fn slim(metadata: &mut ObjectMeta) {
    metadata.resource_version = None;
    metadata.deletion_timestamp = None;
    metadata.annotations.clear();
    metadata.owner_references = Vec::new();
    metadata.finalizers = Vec::new();
    metadata.extra = Extra::default();
}

/// By what the older of two objects is found: creation time (none is younger than any), then namespace and name.
pub(crate) fn age(metadata: &ObjectMeta) -> (bool, i64) {
    match metadata.creation_timestamp.as_deref().and_then(crate::text::seconds) {
        Some(created) => (false, created),
        None => (true, 0),
    }
}
