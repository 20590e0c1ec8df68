//! The word to stop.

use crate::world::{World, answers, backend, get, run, until};
use portcullis_runtime::signals::Reload;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[test]
fn readiness_goes_first_then_the_sockets_then_what_is_open() {
    run(async {
        let world = World::new().await;
        // A backend that answers when it is told to.
        let slow = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = world.serve(1, slow.local_addr().unwrap()).await;
        let telemetry = world.plane.telemetry_address().unwrap();
        let mut open = TcpStream::connect(address).await.unwrap();
        open.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let (mut waiting, _) = slow.accept().await.unwrap();

        let stop = world.stop.clone();
        let plane = world.plane;
        let ended = tokio::task::spawn_local({
            let stop = stop.clone();
            async move { plane.run(&stop, Reload::new().watch()).await }
        });
        stop.begin(Duration::from_secs(30));
        assert_eq!(get(telemetry, "/readyz").await.unwrap().0, 503);
        drop(TcpStream::connect(address).await.unwrap());
        until("the closed sockets", async || TcpStream::connect(address).await.is_err()).await;
        assert!(!ended.is_finished());
        waiting.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").await.unwrap();
        let mut response = String::new();
        open.read_to_string(&mut response).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("late"), "{response}");
        assert!(ended.await.unwrap().unwrap().cut.is_empty());
        assert_eq!(get(telemetry, "/healthz").await.unwrap().0, 200);
    });
}

#[test]
fn configurations_are_still_taken_while_traffic_leaves() {
    run(async {
        let world = World::with(crate::controller::Controller::new(), |options| {
            options.shutdown_delay = Duration::from_secs(30);
        })
        .await;
        let address = world.serve(1, backend("one").await).await;
        let (stop, plane, controller) = (world.stop.clone(), world.plane, world.controller);
        let ended = tokio::task::spawn_local({
            let stop = stop.clone();
            async move { plane.run(&stop, Reload::new().watch()).await }
        });
        stop.begin(Duration::from_secs(60));
        controller.publish(crate::config::config(2, &[80], backend("two").await));
        until("the new content", async || answers(address).await == "two").await;
        // The second signal.
        stop.force();
        ended.await.unwrap().unwrap();
    });
}

#[test]
fn a_pod_that_never_served_ends_at_once() {
    run(async {
        let world = World::with(crate::controller::Controller::new(), |options| {
            options.shutdown_delay = Duration::from_secs(3600);
        })
        .await;
        world.stop.begin(Duration::from_secs(3600));
        world.plane.run(&world.stop, Reload::new().watch()).await.unwrap();
    });
}
