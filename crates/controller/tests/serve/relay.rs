//! What data planes say to a follower is known to the holder of the lease.

use std::time::Duration;

use portcullis_controller::serve::{DataPlaneEvent, LeaderAddress};
use tonic::Code;

use crate::authority::forge;
use crate::data_plane::{Channel, DataPlane, following};
use crate::kube::ApiServer;
use crate::world::{self, BANK, EDGE, Installed, Replica, gateway};

const RELAYING: &str = "portcullis_relay_connected";

async fn replicas() -> (ApiServer, Replica, Replica) {
    let api = world::api_server().await;
    let leader = Replica::start(&api, "controller-0", true).await;
    let follower = Replica::start(&api, "controller-1", false).await;
    for replica in [&leader, &follower] {
        replica.publish_all();
    }
    (api, leader, follower)
}

fn follow(follower: &Replica, leader: &Replica) {
    follower.server.follow(Some(LeaderAddress(leader.server.stream_address())));
}

fn connected(of: Installed) -> DataPlaneEvent {
    DataPlaneEvent::Connected { gateway: of.name(), pod: of.pod_name().into() }
}

fn acknowledged(of: Installed, replica: &Replica, gateway_generation: i64) -> DataPlaneEvent {
    let version = replica.server.version(&of.name()).unwrap();
    DataPlaneEvent::Acknowledged { gateway: of.name(), pod: of.pod_name().into(), gateway_generation, version }
}

fn gone(of: Installed) -> DataPlaneEvent {
    DataPlaneEvent::Gone { gateway: of.name(), pod: of.pod_name().into() }
}

#[tokio::test]
async fn the_leader_knows_what_data_planes_tell_a_follower() {
    let (_, mut leader, mut follower) = replicas().await;
    // One from before the relay, the others while it lasts.
    let (mut stream, mut held, _) = following(&follower, EDGE).await;
    follow(&follower, &leader);
    assert_eq!(leader.event().await, connected(EDGE));
    assert_eq!(leader.event().await, acknowledged(EDGE, &follower, 1));
    follower.wait_metric(RELAYING, 1).await;
    assert_eq!(leader.metric(r#"portcullis_data_planes_connected{replica="own"}"#), 0);
    assert_eq!(leader.metric(r#"portcullis_data_planes_connected{replica="any"}"#), 1);

    follower.server.publish(vec![gateway(EDGE, 2)]);
    held.take(&mut stream).await;
    assert_eq!(leader.event().await, acknowledged(EDGE, &follower, 2));

    follower.server.publish(vec![gateway(EDGE, 3)]);
    let (version, ..) = held.receive(&mut stream).await;
    held.answer(&stream, Err("no".to_owned())).await;
    let (gateway, pod, message) = (EDGE.name(), EDGE.pod_name().into(), "no".into());
    assert_eq!(leader.event().await, DataPlaneEvent::Refused { gateway, pod, version, message });

    let (other, ..) = following(&follower, BANK).await;
    assert_eq!(leader.event().await, connected(BANK));
    assert_eq!(leader.event().await, acknowledged(BANK, &follower, 1));
    drop(other);
    assert_eq!(leader.event().await, gone(BANK));
    // The follower's own reader got its own picture all along.
    assert_eq!(follower.event().await, connected(EDGE));
}

#[tokio::test]
async fn a_data_plane_that_moves_to_another_replica_is_never_gone() {
    let (_, mut leader, follower) = replicas().await;
    follow(&follower, &leader);
    let (stream, mut held, certified) = following(&follower, EDGE).await;
    assert_eq!(leader.event().await, connected(EDGE));
    assert_eq!(leader.event().await, acknowledged(EDGE, &follower, 1));

    // The whole replica is gone at once, and its data planes come back elsewhere within the grace.
    follower.drain.force();
    drop((follower, stream));
    let mut stream = DataPlane::open(&leader, &certified).await;
    held.start(&stream).await;
    assert_eq!(held.take(&mut stream).await.2, 0);
    let mut told = vec![leader.event().await, leader.event().await];
    // Nothing more comes, also when the grace of the lost replica is over.
    if let Ok(more) = tokio::time::timeout(Duration::from_secs(12), leader.events.recv()).await {
        told.push(more.unwrap());
    }
    assert_eq!(told, [connected(EDGE), acknowledged(EDGE, &leader, 1)]);
}

#[tokio::test]
async fn data_planes_of_a_replica_that_stays_away_are_gone_after_a_grace() {
    let (_, mut leader, follower) = replicas().await;
    follow(&follower, &leader);
    let (stream, ..) = following(&follower, EDGE).await;
    assert_eq!(leader.event().await, connected(EDGE));
    assert_eq!(leader.event().await, acknowledged(EDGE, &follower, 1));
    let began = std::time::Instant::now();
    // The relay ends, the stream does not.
    leader.server.follow(Some(LeaderAddress(([127, 0, 0, 1], 1).into())));
    assert_eq!(leader.event().await, gone(EDGE));
    assert!(began.elapsed() >= Duration::from_secs(10));
    drop(stream);
}

#[tokio::test]
async fn after_a_broken_relay_the_whole_picture_is_told_again() {
    let (_, mut leader, follower) = replicas().await;
    follow(&follower, &leader);
    let (edge, ..) = following(&follower, EDGE).await;
    let (_bank, ..) = following(&follower, BANK).await;
    for expected in
        [connected(EDGE), acknowledged(EDGE, &follower, 1), connected(BANK), acknowledged(BANK, &follower, 1)]
    {
        assert_eq!(leader.event().await, expected);
    }
    // While the relay is broken a data plane goes.
    follower.server.follow(Some(LeaderAddress(([127, 0, 0, 1], 1).into())));
    follower.wait_metric(RELAYING, 0).await;
    drop(edge);
    follower.wait_metric(r#"portcullis_data_planes_connected{replica="own"}"#, 1).await;
    follow(&follower, &leader);
    assert_eq!(leader.event().await, gone(EDGE));
    assert_eq!(leader.metric(r#"portcullis_data_planes_connected{replica="any"}"#), 1);
}

#[tokio::test]
async fn a_new_leader_gets_to_know_everything() {
    let (_, leader, mut follower) = replicas().await;
    let (_on_leader, ..) = following(&leader, EDGE).await;
    let (_on_follower, ..) = following(&follower, BANK).await;
    assert_eq!(follower.event().await, connected(BANK));
    assert_eq!(follower.event().await, acknowledged(BANK, &follower, 1));
    follower.server.follow(None);
    follow(&leader, &follower);
    assert_eq!(follower.event().await, connected(EDGE));
    assert_eq!(follower.event().await, acknowledged(EDGE, &leader, 1));
    leader.wait_metric(RELAYING, 1).await;
}

#[tokio::test]
async fn a_replica_that_does_not_hold_the_lease_takes_no_relay() {
    let (api, _, follower) = replicas().await;
    let controller = forge(&api, "spiffe://portcullis.dev/controller/controller-2", |_| {});
    let channel = Channel::open(&follower, Some(&controller)).await.unwrap();
    let status = channel.call("/portcullis.controller.v1.Relay/Tell").await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_replica_tells_nobody_who_is_no_replica() {
    // A leader of another installation: its certificates are of another authority.
    let (_, leader, follower) = replicas().await;
    let stranger = Replica::start(&world::api_server().await, "controller-0", true).await;
    stranger.publish_all();
    follow(&follower, &stranger);
    let (_stream, ..) = following(&follower, EDGE).await;
    stranger.wait_counted(r#"portcullis_config_rejected_connections_total{reason="handshake"}"#).await;
    assert_eq!(stranger.metric(r#"portcullis_data_planes_connected{replica="any"}"#), 0);
    // Back to the right one.
    follow(&follower, &leader);
    follower.wait_metric(RELAYING, 1).await;
}
