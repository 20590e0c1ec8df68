//! The whole configuration of one Gateway, and changes to it.

use crate::{
    Backend, BackendKey, Certificate, CertificateKey, Endpoints, Listener, ListenerKey, ObjectName, Route, RouteKey,
    Upstreams,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Everything that the proxies of one Gateway need, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    /// The Gateway itself.
    pub gateway: Arc<Gateway>,
    /// Its listeners.
    pub listeners: BTreeMap<ListenerKey, Arc<Listener>>,
    /// The routes attached to them.
    pub routes: BTreeMap<RouteKey, Arc<Route>>,
    /// The backends that the routes name.
    pub backends: BTreeMap<BackendKey, Arc<Backend>>,
    /// The backends' endpoints.
    pub endpoints: BTreeMap<BackendKey, Arc<Endpoints>>,
    /// The listeners' certificates.
    pub certificates: BTreeMap<CertificateKey, Arc<Certificate>>,
}

/// What concerns a Gateway as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Its name.
    pub name: ObjectName,
    /// Its class.
    pub gateway_class: Arc<str>,
    /// Addresses asked for (`spec.addresses` of type IPAddress); empty for all of the machine's or pod's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// The `metadata.generation` that this was made of; 0 if unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: i64,
    /// What the guard of upstream addresses needs to know.
    #[serde(default, skip_serializing_if = "Upstreams::is_empty")]
    pub upstreams: Upstreams,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// One keyed piece of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Resource {
    /// The Gateway itself.
    Gateway(Arc<Gateway>),
    /// A listener.
    Listener(Arc<Listener>),
    /// A route.
    Route(Arc<Route>),
    /// A backend.
    Backend(Arc<Backend>),
    /// A backend's endpoints.
    Endpoints(Arc<Endpoints>),
    /// A certificate.
    Certificate(Arc<Certificate>),
}

/// The key of a [`Resource`] that can be removed. The Gateway itself goes with [`ConfigDelta::Remove`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ResourceKey {
    /// A listener.
    Listener(ListenerKey),
    /// A route.
    Route(RouteKey),
    /// A backend.
    Backend(BackendKey),
    /// A backend's endpoints.
    Endpoints(BackendKey),
    /// A certificate.
    Certificate(CertificateKey),
}

/// A change of one Gateway's configuration, to be applied as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ConfigDelta {
    /// New and changed pieces, and keys of those that are gone. The first one for a Gateway holds
    /// [`Resource::Gateway`].
    Change {
        /// Whose configuration.
        gateway: ObjectName,
        /// New or changed, in the order of their keys.
        upserted: Vec<Resource>,
        /// Gone.
        removed: Vec<ResourceKey>,
    },
    /// The Gateway is gone, or no longer ours.
    Remove {
        /// Whose configuration.
        gateway: ObjectName,
    },
}

impl ConfigDelta {
    /// Whose configuration changes.
    pub fn gateway(&self) -> &ObjectName {
        match self {
            Self::Change { gateway, .. } | Self::Remove { gateway } => gateway,
        }
    }
}

impl Config {
    /// A configuration with nothing in it but the Gateway.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        Self {
            gateway,
            listeners: BTreeMap::new(),
            routes: BTreeMap::new(),
            backends: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            certificates: BTreeMap::new(),
        }
    }

    /// Applies a change to the configurations of all Gateways.
    ///
    /// A change for an unknown Gateway that does not bring the Gateway itself is ignored: there is nothing to serve.
    pub fn apply(configs: &mut BTreeMap<ObjectName, Self>, delta: &ConfigDelta) {
        match delta {
            ConfigDelta::Remove { gateway } => {
                configs.remove(gateway);
            }
            ConfigDelta::Change { gateway, upserted, removed } => {
                if !configs.contains_key(gateway) {
                    let new = upserted.iter().find_map(|resource| match resource {
                        Resource::Gateway(gateway) => Some(Self::new(gateway.clone())),
                        _ => None,
                    });
                    let Some(new) = new else { return };
                    configs.insert(gateway.clone(), new);
                }
                if let Some(config) = configs.get_mut(gateway) {
                    removed.iter().for_each(|key| config.remove(key));
                    upserted.iter().cloned().for_each(|resource| config.upsert(resource));
                }
            }
        }
    }

    /// Puts a piece in, in place of the one with the same key.
    pub fn upsert(&mut self, resource: Resource) {
        match resource {
            Resource::Gateway(gateway) => self.gateway = gateway,
            Resource::Listener(listener) => drop(self.listeners.insert(listener.key.clone(), listener)),
            Resource::Route(route) => drop(self.routes.insert(route.key.clone(), route)),
            Resource::Backend(backend) => drop(self.backends.insert(backend.key.clone(), backend)),
            Resource::Endpoints(endpoints) => drop(self.endpoints.insert(endpoints.key.clone(), endpoints)),
            Resource::Certificate(certificate) => {
                drop(self.certificates.insert(certificate.key.clone(), certificate));
            }
        }
    }

    /// Takes a piece out.
    pub fn remove(&mut self, key: &ResourceKey) {
        match key {
            ResourceKey::Listener(key) => drop(self.listeners.remove(key)),
            ResourceKey::Route(key) => drop(self.routes.remove(key)),
            ResourceKey::Backend(key) => drop(self.backends.remove(key)),
            ResourceKey::Endpoints(key) => drop(self.endpoints.remove(key)),
            ResourceKey::Certificate(key) => drop(self.certificates.remove(key)),
        }
    }
}
