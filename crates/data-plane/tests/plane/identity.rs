//! Without an identity nothing is served; with one, it is kept fresh.

use crate::authority::Authority;
use crate::config::config;
use crate::controller::Controller;
use crate::world::{World, answers, backend, run, until};
use portcullis_data_plane::Options;
use std::time::Duration;

#[test]
fn nobody_is_trusted_but_the_authority() {
    run(async {
        let controller = Controller::new();
        controller.publish(config(1, &[80], backend("one").await));
        for wrong in [Authority::new().pem(), String::new(), "no PEM".to_owned()] {
            controller.kill().await;
            let put = |options: &mut Options| std::fs::write(&options.ca_file, &wrong).unwrap();
            let world = World::with(controller.clone(), put).await;
            until("tries", async || world.metric("portcullis_identity_failures_total").await >= Some(2.0)).await;
            assert_eq!((world.ready().await, controller.streams.get()), (503, 0));
            assert_eq!(controller.asked.get(), 0, "no token is shown to who is not trusted");

            world.write("ca.crt", &controller.authority.borrow().pem());
            until("readiness", async || world.ready().await == 200).await;
            assert_eq!(answers(world.port(80).await).await, "one");
            controller.streams.set(0);
            controller.asked.set(0);
        }
    });
}

#[test]
fn a_refused_token_is_read_again() {
    run(async {
        let controller = Controller::new();
        controller.publish(config(1, &[80], backend("one").await));
        let put = |options: &mut Options| std::fs::write(&options.token_file, "expired").unwrap();
        let world = World::with(controller.clone(), put).await;
        until("tries", async || world.metric("portcullis_identity_failures_total").await >= Some(2.0)).await;
        assert_eq!((world.ready().await, controller.streams.get()), (503, 0));
        world.write("token", "token-1");
        until("readiness", async || world.ready().await == 200).await;
    });
}

#[test]
fn certificates_are_renewed_and_no_request_notices() {
    run(async {
        let controller = Controller::new();
        controller.lifetime.set(Duration::from_secs(3));
        let world = World::with(controller, |_| ()).await;
        let address = world.serve(1, backend("one").await).await;
        until("three certificates", async || {
            assert_eq!(answers(address).await, "one");
            world.controller.shown.borrow().len() >= 3
        })
        .await;
        assert_eq!(world.ready().await, 200);
        assert_eq!(world.metric("portcullis_controller_reconnects_total").await, Some(0.0), "on purpose only");
        assert_eq!(world.metric("portcullis_identity_failures_total").await, Some(0.0));
    });
}

#[test]
fn a_new_authority_is_followed() {
    run(async {
        let world = World::new().await;
        let address = world.serve(1, backend("one").await).await;
        world.controller.kill().await;
        world.controller.authority.replace(Authority::new());
        world.controller.start().await;
        until("failures", async || world.metric("portcullis_controller_reconnects_total").await >= Some(2.0)).await;
        assert_eq!(answers(address).await, "one");
        world.write("ca.crt", &world.controller.authority.borrow().pem());
        until("a stream", async || world.metric("portcullis_controller_connected").await == Some(1.0)).await;
        until("the acknowledgement", async || world.controller.events.borrow().len() >= 2).await;
        assert_eq!(world.controller.shown.borrow().len(), 2);
    });
}
