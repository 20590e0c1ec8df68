//! What controls the cluster, where only some namespaces are read: the API server's Service and the controller's own, with the addresses of
//! all replicas behind it. No route may lead there, and what is not known cannot be kept out.
//!
//! In flow events of the watch, which does not look into the namespaces of these Services. Out flow the same events, and beside them changes
//! of these Services and their EndpointSlices alone. They are read again and again, by name where that is possible, for a watch takes more
//! rights. Nothing goes on before they have been read once, or reading them is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use portcullis_api::{Change, Object, ObjectKey};
use portcullis_cluster::{Event, Namespaces};
use portcullis_model::ObjectName;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::request::{self, Failure};

/// The API server's Service, and its EndpointSlice, which has the same name.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// A right: group, resource, verb.
pub type NamedRight = (&'static str, &'static str, &'static str);

/// What is read in the namespace `default`, of objects that are named `kubernetes`, unless that namespace is watched.
pub const API_SERVER_RIGHTS: &[NamedRight] = &[("", "services", "get"), ("discovery.k8s.io", "endpointslices", "get")];

/// What is read in the controller's own namespace, unless that is watched: its Service by name, and all EndpointSlices, for Kubernetes gives
/// them names of its own.
pub const OWN_RIGHTS: &[NamedRight] = &[("", "services", "get"), ("discovery.k8s.io", "endpointslices", "list")];

/// How often they are read.
const INTERVAL: Duration = Duration::from_secs(5);
/// How soon again when that failed.
const RETRY: Duration = Duration::from_secs(1);
/// One request.
const LIMIT: Duration = Duration::from_secs(5);

/// One Service whose addresses are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    service: ObjectName,
    /// The path of the EndpointSlices: of one, or of a list.
    slices: String,
}

/// The Services that the watch does not see.
pub(crate) fn unwatched(namespaces: &Namespaces, own: &ObjectName) -> Vec<Place> {
    let slices =
        |namespace: &str, rest: &str| format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices{rest}");
    let (namespace, name) = API_SERVER;
    let api_server =
        Place { service: ObjectName::new(namespace, name), slices: slices(namespace, &format!("/{name}")) };
    let selector = format!("?labelSelector=kubernetes.io%2Fservice-name%3D{}", own.name);
    let own = Place { service: own.clone(), slices: slices(&own.namespace, &selector) };
    [api_server, own].into_iter().filter(|place| !namespaces.contains(&place.service.namespace)).collect()
}

/// The events, with the changes in these places beside them. Needs a tokio runtime; ends with the events, or when nobody listens.
pub(crate) fn beside(
    mut events: mpsc::Receiver<Event>,
    client: kube::Client,
    places: Vec<Place>,
) -> mpsc::Receiver<Event> {
    if places.is_empty() {
        return events;
    }
    let (told, changes) = mpsc::channel(1);
    tokio::spawn(Reader::new(client, places).run(told));
    let (merged, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut changes = changes;
        // The first word comes before everything else.
        let mut next = changes.recv().await.map(Event::Changes);
        while let Some(event) = next {
            if merged.send(event).await.is_err() {
                return;
            }
            next = tokio::select! {
                event = events.recv() => event,
                Some(changes) = changes.recv() => Some(Event::Changes(changes)),
            };
        }
    });
    receiver
}

struct Reader {
    client: kube::Client,
    places: Vec<(Place, Standing)>,
}

/// What is known of a place.
#[derive(Default)]
struct Standing {
    objects: BTreeMap<ObjectKey, Object>,
    is_refused: bool,
}

impl Reader {
    fn new(client: kube::Client, places: Vec<Place>) -> Self {
        Self { client, places: places.into_iter().map(|place| (place, Standing::default())).collect() }
    }

    async fn run(mut self, told: mpsc::Sender<Vec<Change>>) {
        let (mut changes, mut has_begun) = (Vec::new(), false);
        loop {
            let mut is_certain = true;
            for (place, standing) in &mut self.places {
                is_certain &= standing.take(place, place.read(&self.client).await, &mut changes);
            }
            let is_first = is_certain && !has_begun;
            if is_first || (has_begun && !changes.is_empty()) {
                has_begun = true;
                if told.send(std::mem::take(&mut changes)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                () = sleep(if is_certain { INTERVAL } else { RETRY }) => {}
                () = told.closed() => return,
            }
        }
    }
}

impl Standing {
    /// Takes in what was read. False when it has to be read again soon.
    fn take(
        &mut self,
        place: &Place,
        read: Result<BTreeMap<ObjectKey, Object>, Failure>,
        to: &mut Vec<Change>,
    ) -> bool {
        match read {
            Ok(found) => {
                self.is_refused = false;
                let gone = self.objects.keys().filter(|key| !found.contains_key(*key));
                to.extend(gone.cloned().map(Change::Delete));
                let new = found.iter().filter(|(key, object)| self.objects.get(*key) != Some(*object));
                to.extend(new.map(|(_, object)| Change::Upsert(object.clone())));
                self.objects = found;
                true
            }
            Err(error @ Failure::Refused { .. }) => {
                if !std::mem::replace(&mut self.is_refused, true) {
                    tracing::warn!(
                        service = %place.service, %error,
                        "addresses that no route may lead to cannot be read; give the controller the rights of its chart for fewer namespaces"
                    );
                }
                true
            }
            Err(error) => {
                tracing::debug!(service = %place.service, %error, "addresses that no route may lead to are read again");
                false
            }
        }
    }
}

impl Place {
    /// The Service and its EndpointSlices; what does not exist is left out.
    async fn read(&self, client: &kube::Client) -> Result<BTreeMap<ObjectKey, Object>, Failure> {
        let ObjectName { namespace, name } = &self.service;
        let service = get(client, &format!("/api/v1/namespaces/{namespace}/services/{name}")).await?;
        let slices = get(client, &self.slices).await?;
        let mut objects = BTreeMap::new();
        let mut add = |api_version: &str, kind: &str, mut value: Value| {
            // In a list the items go without.
            value["apiVersion"] = json!(api_version);
            value["kind"] = json!(kind);
            let object = Object::from_value(value).map_err(|error| Failure::Unreachable(error.to_string()))?;
            objects.insert(object.key(), object);
            Ok(())
        };
        if let Some(service) = service.filter(Value::is_object) {
            add("v1", "Service", service)?;
        }
        let slices = match slices {
            Some(Value::Object(mut list)) if list.contains_key("items") => match list.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            },
            slice => slice.into_iter().collect(),
        };
        for slice in slices.into_iter().filter(Value::is_object) {
            add("discovery.k8s.io/v1", "EndpointSlice", slice)?;
        }
        Ok(objects)
    }
}

async fn get(client: &kube::Client, path: &str) -> Result<Option<Value>, Failure> {
    match request::send(client, Method::GET, path, None, LIMIT).await {
        Ok(value) => Ok(Some(value)),
        Err(Failure::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use portcullis_compile::Compiler;

    use super::*;
    use crate::testing::ApiServer;

    const SERVICE: &str = "/api/v1/namespaces/portcullis-system/services/portcullis-controller";
    const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/portcullis-system/endpointslices";
    const API_SERVICE: &str = "/api/v1/namespaces/default/services/kubernetes";
    const API_SLICE: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    const LONG: Duration = Duration::from_secs(30);

    fn own() -> ObjectName {
        ObjectName::new("portcullis-system", "portcullis-controller")
    }

    fn service(namespace: &str, name: &str, ip: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name}, "spec": {"clusterIP": ip, "clusterIPs": [ip]}})
    }

    fn slice(namespace: &str, name: &str, service: &str, port: u16, addresses: &[&str]) -> Value {
        let labels = json!({"kubernetes.io/service-name": service});
        let endpoints: Vec<_> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
        json!({
            "metadata": {"namespace": namespace, "name": name, "labels": labels}, "addressType": "IPv4",
            "endpoints": endpoints, "ports": [{"name": "p", "port": port}]
        })
    }

    /// Its own slices come as a list.
    fn replicas(api: &ApiServer, addresses: &[&str]) {
        let slice = slice("portcullis-system", "portcullis-controller-x7x", "portcullis-controller", 8443, addresses);
        api.store(SLICES, json!({"items": [slice]}));
    }

    async fn cluster() -> ApiServer {
        let api = ApiServer::start().await;
        api.store(API_SERVICE, service("default", "kubernetes", "10.96.0.1"));
        api.store(API_SLICE, slice("default", "kubernetes", "kubernetes", 6443, &["192.168.0.1"]));
        api.store(SERVICE, service("portcullis-system", "portcullis-controller", "10.96.0.9"));
        replicas(&api, &["10.244.0.7", "10.244.1.8"]);
        api
    }

    /// The Gateway `a/gw`, whose data planes are to know the addresses.
    fn gateway() -> Vec<Change> {
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "c"},
            "spec": {"controllerName": "portcullis.dev/gateway-controller"}
        });
        let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"namespace": "a", "name": "gw", "uid": "u"},
            "spec": {"gatewayClassName": "c", "listeners": listeners}
        });
        [class, gateway].map(|value| Change::Upsert(Object::from_value(value).unwrap())).into()
    }

    /// What the data planes of a controller are told that reads the namespace `a` alone.
    struct World {
        compiler: Compiler,
        events: mpsc::Receiver<Event>,
        _watch: mpsc::Sender<Event>,
    }

    impl World {
        fn start(api: &ApiServer) -> Self {
            let options = portcullis_compile::Options {
                control_plane: BTreeSet::from([ObjectName::new("default", "kubernetes"), own()]),
                ..Default::default()
            };
            let mut compiler = Compiler::new(options);
            compiler.apply(gateway());
            let (watch, events) = mpsc::channel(1);
            let places = unwatched(&Namespaces::Listed(vec!["a".to_owned()]), &own());
            Self { compiler, events: beside(events, api.client(), places), _watch: watch }
        }

        async fn next(&mut self) -> Vec<String> {
            let event =
                tokio::time::timeout(LONG, self.events.recv()).await.expect("an event").expect("the reader lives");
            let Event::Changes(changes) = event else { panic!("{event:?}") };
            self.compiler.apply(changes);
            let config = &self.compiler.configs()[&ObjectName::new("a", "gw")];
            config.gateway.upstreams.control_plane.iter().map(ToString::to_string).collect()
        }
    }

    #[tokio::test]
    async fn the_control_plane_is_known_where_its_namespaces_are_not_watched() {
        let api = cluster().await;
        let mut world = World::start(&api);
        let known = ["10.96.0.1:0", "10.96.0.9:0", "10.244.0.7:0", "10.244.1.8:0", "192.168.0.1:0"];
        assert_eq!(world.next().await, known);
        assert_eq!(
            api.log().iter().map(|line| line.trim_start_matches("GET ")).collect::<Vec<_>>()[..4],
            [API_SERVICE, API_SLICE, SERVICE, SLICES]
        );
        // A replica comes, one goes.
        replicas(&api, &["10.244.1.8", "10.244.2.9"]);
        let known = ["10.96.0.1:0", "10.96.0.9:0", "10.244.1.8:0", "10.244.2.9:0", "192.168.0.1:0"];
        assert_eq!(world.next().await, known);
        api.delete(SLICES);
        assert_eq!(world.next().await, ["10.96.0.1:0", "10.96.0.9:0", "192.168.0.1:0"]);
    }

    #[tokio::test]
    async fn nothing_goes_on_before_they_are_known() {
        let api = cluster().await;
        api.fail(|_, path| (path == SERVICE).then_some(503));
        let mut world = World::start(&api);
        while !api.log().iter().any(|line| line.ends_with(SERVICE)) {
            sleep(Duration::from_millis(5)).await;
        }
        world._watch.send(Event::AllListed).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(100), world.events.recv()).await.is_err());
        api.heal();
        assert_eq!(world.next().await.len(), 5);
        assert!(matches!(world.events.recv().await, Some(Event::AllListed)));
    }

    #[tokio::test]
    async fn what_may_not_be_read_holds_up_nothing_and_what_was_known_stays_known() {
        let api = cluster().await;
        api.fail(|_, path| (path == API_SLICE).then_some(403));
        let mut world = World::start(&api);
        assert_eq!(world.next().await, ["10.96.0.9:0", "10.244.0.7:0", "10.244.1.8:0"]);
        api.heal();
        assert_eq!(world.next().await.len(), 5);
        api.fail(|_, path| path.contains("portcullis-system").then_some(403));
        api.delete(API_SLICE);
        assert_eq!(world.next().await.len(), 4);
    }

    #[test]
    fn what_is_watched_is_not_read_twice() {
        let listed = |names: &[&str]| Namespaces::Listed(names.iter().map(|name| (*name).to_owned()).collect());
        for (namespaces, expected) in [
            (Namespaces::All, &[][..]),
            (listed(&["a"]), &["default/kubernetes", "portcullis-system/portcullis-controller"]),
            (listed(&["a", "default"]), &["portcullis-system/portcullis-controller"]),
            (listed(&["portcullis-system"]), &["default/kubernetes"]),
            (listed(&["portcullis-system", "default"]), &[]),
        ] {
            let places: Vec<_> = unwatched(&namespaces, &own()).iter().map(|place| place.service.to_string()).collect();
            assert_eq!(places, expected, "{namespaces:?}");
        }
    }
}
