//! Configurations: the first one, those that follow, those that do not come.

use crate::config::{config, web};
use crate::controller::Controller;
use crate::world::{World, answers, backend, get, run, until};
use portcullis_model::{ConfigDelta, ObjectName};
use portcullis_proxy::PortMap;
use portcullis_xds::{StreamEvent, UnboundPorts};
use std::cell::Cell;
use std::rc::Rc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

#[test]
fn ready_and_served_with_the_first_configuration_and_not_before() {
    run(async {
        let world = World::new().await;
        until("a stream", async || world.metric("portcullis_controller_connected").await == Some(1.0)).await;
        assert_eq!(world.ready().await, 503);
        assert_eq!(world.metric("portcullis_controller_last_config_timestamp_seconds").await, None);
        let address = world.serve(7, backend("one").await).await;
        assert_eq!(world.ready().await, 200);
        assert_eq!(answers(address).await, "one");
        assert!(world.metric("portcullis_controller_last_config_timestamp_seconds").await > Some(0.0));
        assert_eq!(world.metric("portcullis_controller_reconnects_total").await, Some(0.0));
        assert!(world.metric("portcullis_identity_not_after_timestamp_seconds").await > Some(0.0));
    });
}

#[test]
fn without_a_controller_the_last_configuration_is_served() {
    run(async {
        let world = World::new().await;
        let (one, two) = (backend("one").await, backend("two").await);
        let address = world.serve(1, one).await;
        world.controller.kill().await;
        until("the loss", async || world.metric("portcullis_controller_connected").await == Some(0.0)).await;
        assert_eq!((world.ready().await, &*answers(address).await), (200, "one"));

        // Other content while it was away; no request fails while it is swapped.
        world.controller.catalog.take();
        world.controller.publish(config(2, &[80], two));
        world.controller.start().await;
        let mut seen = String::new();
        until("the new content", async || {
            let answer = answers(address).await;
            let is_new = answer == "two";
            seen = answer;
            is_new
        })
        .await;
        until("the acknowledgement", async || world.controller.acknowledged() == Some(2)).await;
        assert_eq!((&*seen, world.port(80).await), ("two", address));
        let sent = world.controller.sent.borrow().clone();
        let expected = ["endpoints/shop/echo:80", "gateway", "commit"].map(|name| format!("infra/web/{name}"));
        assert_eq!(sent, expected, "only what differs");
        assert!(world.metric("portcullis_controller_reconnects_total").await >= Some(1.0));
    });
}

#[test]
fn the_same_content_is_not_sent_again() {
    run(async {
        let world = World::new().await;
        world.serve(1, backend("one").await).await;
        world.controller.kill().await;
        world.controller.start().await;
        until("the second acknowledgement", async || world.controller.events.borrow().len() == 2).await;
        assert_eq!(*world.controller.sent.borrow(), ["infra/web/commit"]);
    });
}

#[test]
fn a_controller_that_falls_silent_is_left() {
    run(async {
        // What is between the two stops to carry anything, and closes nothing.
        let controller = Controller::new();
        let (target, _) = controller.start().await;
        let is_frozen = Rc::new(Cell::new(false));
        let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = relay.local_addr().unwrap();
        let frozen = is_frozen.clone();
        tokio::task::spawn_local(async move {
            loop {
                let (mut client, _) = relay.accept().await.unwrap();
                let frozen = frozen.clone();
                tokio::task::spawn_local(async move {
                    let mut server = TcpStream::connect(target).await.unwrap();
                    let freeze = async {
                        while !frozen.get() {
                            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                        }
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        () = freeze => std::future::pending().await,
                    }
                });
            }
        });
        controller.kill().await;
        let world = World::with(controller, |options| options.controller = address.to_string().parse().unwrap()).await;
        let served = world.serve(1, backend("one").await).await;
        is_frozen.set(true);
        until("the loss", async || world.metric("portcullis_controller_connected").await == Some(0.0)).await;
        assert_eq!(answers(served).await, "one");
        is_frozen.set(false);
        until("another stream", async || world.metric("portcullis_controller_connected").await == Some(1.0)).await;
    });
}

#[test]
fn a_port_that_cannot_be_bound_is_named_and_the_others_are_served() {
    run(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let mut ports = PortMap::default();
        ports.insert(80, 0);
        ports.insert(81, number);
        let world = World::with(Controller::new(), |options| options.proxy.port_map = ports).await;
        world.controller.publish(config(3, &[80, 81], backend("one").await));
        until("the refusal", async || !world.controller.events.borrow().is_empty()).await;
        let event = world.controller.events.borrow()[0].clone();
        let StreamEvent::Refused { message, .. } = event else { panic!("{event:?}") };
        assert!(message.contains(&format!("port 81: cannot listen on 127.0.0.1:{number}")), "{message}");
        assert_eq!(answers(world.port(80).await).await, "one");
        let unbound = UnboundPorts::parse(&message).unwrap();
        assert_eq!((unbound.gateway_generation, unbound.ports.into_keys().collect::<Vec<_>>()), (3, vec![81]));
        assert_eq!(world.ready().await, 200, "one listener's port takes nothing from the others");
        assert_eq!(world.metric("portcullis_controller_refused_configs_total").await, Some(1.0));

        drop(taken);
        until("the acknowledgement", async || world.controller.acknowledged() == Some(3)).await;
        assert_eq!(answers(world.port(81).await).await, "one");
        assert_eq!(world.ready().await, 200);
    });
}

#[test]
fn a_pod_that_listens_nowhere_is_not_ready() {
    run(async {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ports = PortMap::default();
        ports.insert(81, taken.local_addr().unwrap().port());
        let world = World::with(Controller::new(), |options| options.proxy.port_map = ports).await;
        world.controller.publish(config(3, &[81], backend("one").await));
        until("the refusal", async || !world.controller.events.borrow().is_empty()).await;
        let event = world.controller.events.borrow()[0].clone();
        let StreamEvent::Refused { message, .. } = event else { panic!("{event:?}") };
        assert!(message.starts_with("port 81: cannot listen on"), "{message}");
        assert_eq!(world.ready().await, 503);
        drop(taken);
        until("the acknowledgement", async || world.controller.acknowledged() == Some(3)).await;
        assert_eq!(world.ready().await, 200);
    });
}

#[test]
fn a_removed_gateway_is_served_no_more() {
    run(async {
        let world = World::new().await;
        let backend = backend("one").await;
        let address = world.serve(1, backend).await;
        world.controller.publish(ConfigDelta::Remove { gateway: web() });
        until("the end", async || get(address, "/").await.is_err()).await;
        until("the gate", async || world.ready().await == 503).await;
        let address = world.serve(2, backend).await;
        assert_eq!((world.ready().await, &*answers(address).await), (200, "one"));
    });
}

#[test]
fn another_gateways_configuration_is_not_to_be_had() {
    run(async {
        let controller = Controller::new();
        // As if the certificate were another Gateway's.
        controller.gateway.replace(ObjectName::new("infra", "other"));
        controller.publish(config(1, &[80], backend("one").await));
        let world = World::with(controller, |_| ()).await;
        until("tries", async || world.metric("portcullis_controller_reconnects_total").await >= Some(3.0)).await;
        assert_eq!(world.ready().await, 503);
        assert!(world.plane.proxy().apply(Vec::new()).await.ports.is_empty());
        assert!(world.controller.sent.borrow().is_empty());
    });
}
