//! The writer against an API server over real sockets.

use serde_json::{Value, json};

use super::*;
use crate::testing::ApiServer;

const US: &str = "portcullis.dev/gateway-controller";
const PATH: &str = "/apis/gateway.networking.k8s.io/v1beta1/namespaces/shop/httproutes/cart";

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn writer(server: &ApiServer) -> StatusWriter {
    let options = StatusOptions { controller_name: US.into(), request_limit: Duration::from_secs(5) };
    let registry = Registry::new(1);
    let writer = StatusWriter::start(server.client(), options, &registry, registry.claim(0)).unwrap();
    writer.lead(true);
    writer
}

fn route(generation: i64, status: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "HTTPRoute",
        "metadata": {"name": "cart", "namespace": "shop", "uid": "u1", "generation": generation},
        "spec": {"parentRefs": [{"name": "web"}]}, "status": status,
    })
}

fn entry(controller: &str, generation: i64) -> Value {
    json!({
        "parentRef": {"name": "web"}, "controllerName": controller,
        "conditions": [{"type": "Accepted", "status": "True", "observedGeneration": generation, "reason": "Accepted", "message": ""}],
    })
}

fn desired(generation: i64) -> News {
    let status = json!({"parents": [entry(US, generation)]});
    News::Desired(key(), Some(ObjectStatus::Route(serde_json::from_value(status).unwrap())))
}

fn key() -> ObjectKey {
    ObjectKey::new(portcullis_api::GATEWAY_GROUP, "HTTPRoute", "shop", "cart")
}

fn seen(object: Value) -> News {
    News::Seen(Object::from_value(object).unwrap())
}

async fn idle(writer: &StatusWriter) {
    while !writer.is_idle() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn stored(server: &ApiServer) -> Value {
    server.object(PATH).unwrap()["status"]["parents"].clone()
}

#[test]
fn a_route_costs_one_request_and_its_echo_none() {
    run(async {
        let server = ApiServer::start().await;
        let object = server.store(PATH, route(1, json!({"parents": []})));
        let writer = writer(&server);
        writer.update([seen(object), desired(1)]);
        idle(&writer).await;
        assert_eq!(server.log(), [format!("PUT {PATH}/status")]);
        assert_eq!(stored(&server)[0]["controllerName"], US);
        assert!(stored(&server)[0]["conditions"][0]["lastTransitionTime"].is_string());

        writer.update([seen(server.object(PATH).unwrap()), desired(1)]);
        idle(&writer).await;
        assert_eq!(server.log().len(), 1);
    });
}

#[test]
fn what_is_not_ours_is_read_as_it_is_stored() {
    run(async {
        let server = ApiServer::start().await;
        let mut theirs = entry("example.com/controller", 7);
        theirs["odd"] = json!([]);
        theirs["conditions"] = json!([]);
        let object = server.store(PATH, route(1, json!({"parents": [theirs.clone()], "unknown": null})));
        let writer = writer(&server);
        writer.update([seen(object), desired(1)]);
        idle(&writer).await;
        assert_eq!(server.log(), [format!("GET {PATH}"), format!("PUT {PATH}/status")]);
        assert_eq!(stored(&server)[0], theirs);
        assert_eq!(stored(&server)[1]["controllerName"], US);
    });
}

#[test]
fn a_conflict_is_read_again_at_once() {
    run(async {
        let server = ApiServer::start().await;
        let old = server.store(PATH, route(1, json!({"parents": []})));
        server.store(PATH, route(1, json!({"parents": [entry("example.com/controller", 1)]})));
        let writer = writer(&server);
        writer.update([seen(old), desired(1)]);
        idle(&writer).await;
        let log = server.log();
        assert_eq!(log.iter().filter(|line| line.starts_with("PUT")).count(), 2, "{log:?}");
        assert_eq!(stored(&server).as_array().unwrap().len(), 2);
    });
}

#[test]
fn a_newer_generation_is_left_to_what_will_be_said_about_it() {
    run(async {
        let server = ApiServer::start().await;
        let object = server.store(PATH, route(2, json!({"parents": []})));
        let writer = writer(&server);
        writer.update([seen(object), desired(1)]);
        idle(&writer).await;
        assert!(server.log().is_empty());
        writer.update([desired(2)]);
        idle(&writer).await;
        assert_eq!(stored(&server)[0]["conditions"][0]["observedGeneration"], 2);
    });
}

#[test]
fn entries_that_are_not_ours_to_keep_are_taken_away() {
    run(async {
        let server = ApiServer::start().await;
        let object = server.store(PATH, route(1, json!({"parents": [entry(US, 1)]})));
        let writer = writer(&server);
        writer.update([seen(object)]);
        idle(&writer).await;
        assert_eq!(stored(&server), json!([]));
    });
}

#[test]
fn a_busy_api_server_is_asked_again_and_a_deleted_object_is_not() {
    run(async {
        let server = ApiServer::start().await;
        let object = server.store(PATH, route(1, json!({"parents": []})));
        let failures = AtomicUsize::new(0);
        server.fail(move |_, _| [Some(503), Some(429), None][failures.fetch_add(1, Ordering::SeqCst).min(2)]);
        let writer = writer(&server);
        writer.update([seen(object), desired(1)]);
        idle(&writer).await;
        assert_eq!(server.log().len(), 3);
        assert_eq!(stored(&server)[0]["controllerName"], US);

        server.delete(PATH);
        writer.update([desired(2)]);
        idle(&writer).await;
        assert_eq!(server.log().len(), 4, "{:?}", server.log());
    });
}

#[test]
fn another_object_of_the_same_name_is_waited_for() {
    run(async {
        let server = ApiServer::start().await;
        let old = server.store(PATH, route(1, json!({"parents": []})));
        let mut new = route(1, json!({"parents": []}));
        new["metadata"]["uid"] = json!("u2");
        let new = server.store(PATH, new);
        let writer = writer(&server);
        writer.update([seen(old), desired(1)]);
        idle(&writer).await;
        assert_eq!(stored(&server), json!([]));
        writer.update([seen(new)]);
        idle(&writer).await;
        assert_eq!(stored(&server)[0]["controllerName"], US);
    });
}

#[test]
fn a_hundred_objects_are_written_and_none_while_another_leads() {
    run(async {
        let server = ApiServer::start().await;
        let writer = writer(&server);
        writer.lead(false);
        let news: Vec<_> = (0..100)
            .flat_map(|index| {
                let name = format!("cart-{index}");
                let mut object = route(1, json!({"parents": []}));
                object["metadata"]["name"] = json!(name);
                let object = server.store(&PATH.replace("cart", &name), object);
                let key = ObjectKey::new(portcullis_api::GATEWAY_GROUP, "HTTPRoute", "shop", &name);
                let News::Desired(_, status) = desired(1) else { unreachable!() };
                [seen(object), News::Desired(key, status)]
            })
            .collect();
        writer.update(news);
        tokio::task::yield_now().await;
        assert!(server.log().is_empty());
        writer.lead(true);
        idle(&writer).await;
        assert_eq!(server.log().len(), 100);
    });
}
