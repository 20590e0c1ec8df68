//! Someone who watches: what they have come to know, and whether each thing was told once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use portcullis_api::{Change, Object, ObjectKey};
use portcullis_cluster::{
    Event, Namespaces, Owned, OwnedState, Scope, SecretAccess, Selection, ServedSchema, Watch, connect,
};
use portcullis_model::ObjectName;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::server::Server;

pub struct Consumer {
    pub watch: Watch,
    pub events: mpsc::Receiver<Event>,
    pub objects: BTreeMap<ObjectKey, Object>,
    pub unparsable: BTreeMap<ObjectKey, String>,
    pub not_permitted: BTreeMap<ObjectKey, String>,
    pub owned: BTreeMap<(String, String), OwnedState>,
    pub listed: BTreeSet<String>,
    pub absent: BTreeSet<String>,
    pub unreadable: BTreeMap<(String, Option<String>), String>,
    pub served: BTreeMap<String, String>,
    pub schema: Option<ServedSchema>,
    pub all_listed: bool,
    pub wanted_read: u64,
    /// Changes that were told for a key.
    pub changes: BTreeMap<ObjectKey, usize>,
    /// Versions of an object may come again when its kind is read in another one.
    pub versions_may_repeat: bool,
}

pub fn selection() -> Selection {
    Selection::default()
}

pub fn listed(namespaces: &[&str], secrets: SecretAccess) -> Selection {
    let namespaces = Namespaces::Listed(namespaces.iter().map(|&name| name.to_owned()).collect());
    Selection { scope: Scope { namespaces, secrets }, owned: false }
}

pub async fn client(server: &Server) -> portcullis_cluster::Client {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    write_kubeconfig(&path, server);
    connect(Some(&path), None).await.unwrap()
}

fn write_kubeconfig(path: &Path, server: &Server) {
    let address = server.address;
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\ncontexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
         clusters: [{{name: test, cluster: {{server: 'http://{address}'}}}}]\nusers: [{{name: test, user: {{}}}}]\n"
    );
    std::fs::write(path, text).unwrap();
}

impl Consumer {
    pub async fn start(server: &Server, selection: Selection) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (watch, events) = Watch::start(client(server).await, selection);
        Self {
            watch,
            events,
            objects: BTreeMap::new(),
            unparsable: BTreeMap::new(),
            not_permitted: BTreeMap::new(),
            owned: BTreeMap::new(),
            listed: BTreeSet::new(),
            absent: BTreeSet::new(),
            unreadable: BTreeMap::new(),
            served: BTreeMap::new(),
            schema: None,
            all_listed: false,
            wanted_read: 0,
            changes: BTreeMap::new(),
            versions_may_repeat: false,
        }
    }

    /// Listens until something holds. That it never does is what a test fails of, not that it takes long.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        while !holds(self) {
            match timeout(Duration::from_secs(60), self.events.recv()).await {
                Ok(Some(event)) => self.take(event),
                Ok(None) => panic!("{what}: the watch has ended"),
                Err(_) => panic!(
                    "{what}: never; listed {:?}, absent {:?}, unreadable {:?}, objects {:?}",
                    self.listed,
                    self.absent,
                    self.unreadable,
                    self.objects.keys()
                ),
            }
        }
    }

    pub async fn until_all_listed(&mut self) {
        self.until("everything is listed", |consumer| consumer.all_listed).await;
    }

    /// Listens to whatever comes within a moment.
    pub async fn listen(&mut self, moment: Duration) {
        let end = tokio::time::Instant::now() + moment;
        while let Ok(Some(event)) = tokio::time::timeout_at(end, self.events.recv()).await {
            self.take(event);
        }
    }

    pub fn want(&self, secrets: &[(&str, &str)]) -> u64 {
        let names = secrets.iter().map(|(namespace, name)| ObjectName::new(*namespace, *name));
        self.watch.want(names.collect(), BTreeSet::new())
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Changes(changes) => changes.into_iter().for_each(|change| self.change(change)),
            Event::Unparsable { key, error } => {
                self.unparsable.insert(key, error.to_string());
            }
            Event::Owned(owned) => {
                for Owned { name, state, kind } in owned {
                    let key = (format!("{kind:?}"), name.to_string());
                    match state {
                        Some(state) => self.owned.insert(key, *state),
                        None => self.owned.remove(&key),
                    };
                }
            }
            Event::KindServed { kind, version } => {
                self.absent.remove(kind.kind);
                self.listed.remove(kind.kind);
                self.served.insert(kind.kind.to_owned(), version.to_string());
            }
            Event::KindListed(kind) => {
                self.listed.insert(kind.kind.to_owned());
                self.unreadable.retain(|(unreadable, _), _| *unreadable != kind.kind);
            }
            Event::KindUnreadable { kind, namespace, error } => {
                self.listed.remove(kind.kind);
                let key = (kind.kind.to_owned(), namespace.map(|namespace| namespace.to_string()));
                self.unreadable.insert(key, error.to_string());
            }
            Event::KindAbsent(kind) => {
                self.listed.remove(kind.kind);
                self.absent.insert(kind.kind.to_owned());
                assert!(!self.objects.keys().any(|key| key.kind() == kind.kind && key.group() == kind.group));
            }
            Event::NotPermitted { key, error } => {
                assert!(!self.objects.contains_key(&key), "{key} was told, but may not be read");
                self.not_permitted.insert(key, error.to_string());
            }
            Event::ServedSchema(schema) => {
                assert_ne!(self.schema.as_ref(), Some(&schema), "the schema is told when it changes");
                self.schema = Some(schema);
            }
            Event::AllListed => {
                assert!(!self.all_listed && self.schema.is_some());
                self.all_listed = true;
            }
            Event::WantedRead(number) => {
                assert!(number > self.wanted_read);
                self.wanted_read = number;
            }
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Upsert(object) => {
                let key = object.key();
                *self.changes.entry(key.clone()).or_default() += 1;
                self.unparsable.remove(&key);
                self.not_permitted.remove(&key);
                let before = self.objects.insert(key.clone(), object.clone());
                assert!(self.versions_may_repeat || before.as_ref() != Some(&object), "{key} was told twice");
            }
            Change::Delete(key) => {
                *self.changes.entry(key.clone()).or_default() += 1;
                let known = self.objects.remove(&key).is_some();
                let unparsable = self.unparsable.remove(&key).is_some();
                let refused = self.not_permitted.remove(&key).is_some();
                assert!(known || unparsable || refused, "{key} is gone, but was never told");
            }
        }
    }

    /// Kind, namespace and name with the version, of what is known of these kinds.
    pub fn versions(&self, kinds: &[&str]) -> BTreeMap<(String, String, String), String> {
        let of_kinds = self.objects.iter().filter(|(key, _)| kinds.contains(&key.kind()));
        of_kinds
            .map(|(key, object)| {
                let key = (key.kind().to_owned(), key.namespace().to_owned(), key.name().to_owned());
                (key, object.metadata().resource_version.clone().unwrap_or_default())
            })
            .collect()
    }

    pub fn has(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let mut keys = self.objects.keys();
        keys.any(|key| (key.kind(), key.namespace(), key.name()) == (kind, namespace, name))
    }
}
