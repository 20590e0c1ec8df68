//! One thing at a time.

use crate::support::*;
use portcullis_model::{Config, ConfigDelta};
use portcullis_xds::proto::{DeltaDiscoveryRequest, Status, code};
use portcullis_xds::{
    CHUNK_BYTES, COMMIT_TYPE_URL, Catalog, ClientStream, ConfigVersion, RESPONSE_LIMIT, Refused, ServerStream,
    StreamEvent,
};
use prost::Message;

fn catalog(services: usize) -> Catalog {
    let mut catalog = Catalog::default();
    let mut upserted = vec![gateway(&web(), 3)];
    upserted.extend((0..services).map(|number| endpoints(number, 2)));
    assert_eq!(catalog.publish(&[change(&web(), upserted, &[])]), [web()]);
    catalog
}

#[test]
fn a_first_configuration_is_served_and_acknowledged() {
    let catalog = catalog(2);
    let mut pair = Pair::new();
    pair.settle(&catalog);
    assert_eq!(pair.served[&web()].endpoints.len(), 2);
    let version = catalog.version(&web()).unwrap();
    assert_eq!(pair.client.version(), version);
    assert_eq!(pair.events, [StreamEvent::Acknowledged { version, gateway_generation: 3 }]);
    let received = ["endpoints/shop/service-0:80", "endpoints/shop/service-1:80", "gateway", "commit"];
    assert_eq!(pair.received, received.map(|name| format!("infra/web/{name}")));
}

#[test]
fn a_change_sends_what_it_touches() {
    let mut catalog = catalog(5000);
    let mut pair = Pair::new();
    pair.settle(&catalog);
    pair.received.clear();
    let delta = change(&web(), vec![endpoints(7, 3), endpoints(8, 2)], &[endpoints(9, 2), endpoints(9999, 2)]);
    let changed = catalog.publish(&[delta]);
    pair.on_change(&changed, &catalog);
    pair.settle(&catalog);
    assert_eq!(pair.received, ["infra/web/endpoints/shop/service-7:80", "infra/web/commit"]);
    assert_eq!(pair.served[&web()].endpoints.len(), 4999);
}

#[test]
fn the_same_again_is_no_change() {
    let mut catalog = catalog(2);
    let version = catalog.version(&web());
    assert!(
        catalog.publish(&[change(&web(), vec![gateway(&web(), 3), endpoints(1, 2)], &[endpoints(5, 1)])]).is_empty()
    );
    assert!(catalog.publish(&[change(&name("infra/other"), vec![endpoints(1, 2)], &[])]).is_empty());
    assert_eq!(catalog.version(&web()), version);
    assert_eq!(catalog.version(&name("infra/other")), None);
}

#[test]
fn another_replica_with_the_same_content_sends_nothing_again() {
    let (first, mut second) = (catalog(200), Catalog::default());
    second.publish(&[change(&web(), vec![endpoints(1, 7), gateway(&web(), 3)], &[])]);
    second.publish(&[change(&web(), (0..200).rev().map(|number| endpoints(number, 2)).collect(), &[])]);
    assert_eq!(first.version(&web()), second.version(&web()));
    let mut pair = Pair::new();
    pair.settle(&first);
    pair.connect();
    pair.settle(&second);
    assert_eq!(pair.received, ["infra/web/commit"]);
    assert_eq!(pair.events.len(), 2);
    // And goes on with what changes there.
    let changed = second.publish(&[change(&web(), vec![endpoints(3, 3)], &[])]);
    pair.on_change(&changed, &second);
    pair.settle(&second);
    assert_eq!(pair.received.len(), 3);
    assert_eq!(pair.client.version(), second.version(&web()).unwrap());
}

#[test]
fn what_changed_while_away_is_caught_up() {
    let mut catalog = catalog(10);
    let mut pair = Pair::new();
    pair.settle(&catalog);
    catalog.publish(&[change(&web(), vec![endpoints(3, 3), endpoints(11, 2)], &[endpoints(4, 2)])]);
    pair.connect();
    pair.settle(&catalog);
    let received = ["endpoints/shop/service-11:80", "endpoints/shop/service-3:80", "commit"];
    assert_eq!(pair.received, received.map(|name| format!("infra/web/{name}")));
    assert!(!pair.served[&web()].endpoints.contains_key(&backend_key(4)));
}

#[test]
fn large_configurations_come_in_chunks() {
    let mut catalog = catalog(0);
    let mut large: Vec<_> = (0..100).map(|number| listener(number, 60_000)).collect();
    large.push(listener(100, 3 * CHUNK_BYTES));
    catalog.publish(&[change(&web(), large, &[])]);
    let mut pair = Pair::new();
    while pair.to_client.is_empty() {
        pair.step(&catalog);
    }
    assert!(pair.to_client.len() > 6);
    for response in &pair.to_client {
        let size = response.encoded_len();
        let types = response.resources.iter().map(|resource| &resource.resource.as_ref().unwrap().type_url);
        assert!(types.clone().all(|type_url| *type_url == response.type_url));
        assert!(size < CHUNK_BYTES + 1024 || (response.resources.len() == 1 && size < RESPONSE_LIMIT), "{size}");
    }
    assert_eq!(pair.to_client.back().unwrap().type_url, COMMIT_TYPE_URL);
    pair.settle(&catalog);
    assert_eq!(pair.served[&web()].listeners.len(), 101);
}

#[test]
fn held_versions_come_in_chunks_too() {
    let catalog = catalog(30_000);
    let mut pair = Pair::new();
    pair.settle(&catalog);
    pair.connect();
    assert!(pair.to_server.len() > 8);
    assert!(pair.to_server.iter().all(|request| request.encoded_len() < portcullis_xds::REQUEST_LIMIT / 2));
    pair.settle(&catalog);
    assert_eq!(pair.received, ["infra/web/commit"]);
}

#[test]
fn nothing_is_sent_before_the_answer_and_the_last_of_each_after_it() {
    let mut catalog = catalog(2);
    let mut pair = Pair::new();
    while pair.to_client.is_empty() {
        pair.step(&catalog);
    }
    let first = pair.to_client.len();
    for content in 3..100 {
        let changed = catalog.publish(&[change(&web(), vec![endpoints(0, content)], &[])]);
        pair.on_change(&changed, &catalog);
    }
    assert!(pair.server.is_waiting());
    assert_eq!(pair.to_client.len(), first);
    pair.settle(&catalog);
    assert_eq!(pair.received.len(), 4 + 2);
    assert_eq!(pair.served[&web()].endpoints[&backend_key(0)].endpoints.len(), 99 % 4 - 1);
}

#[test]
fn nothing_is_sent_before_there_is_something_and_then_all() {
    let mut catalog = Catalog::default();
    let mut pair = Pair::new();
    pair.settle(&catalog);
    assert!(pair.received.is_empty());
    let changed = catalog.publish(&[change(&web(), vec![gateway(&web(), 1)], &[])]);
    pair.on_change(&changed, &catalog);
    pair.settle(&catalog);
    assert!(pair.served.contains_key(&web()));
}

#[test]
fn a_removed_gateway_goes_and_may_come_back() {
    let mut catalog = catalog(3);
    let mut pair = Pair::new();
    pair.settle(&catalog);
    let changed = catalog.publish(&[ConfigDelta::Remove { gateway: web() }]);
    pair.on_change(&changed, &catalog);
    pair.settle(&catalog);
    assert!(pair.served.is_empty());
    assert_eq!(pair.client.version(), ConfigVersion::default());
    let changed = catalog.publish(&[change(&web(), vec![gateway(&web(), 4), endpoints(1, 2)], &[])]);
    pair.on_change(&changed, &catalog);
    pair.settle(&catalog);
    assert_eq!(pair.served[&web()].endpoints.len(), 1);
}

#[test]
fn a_gateway_that_went_and_came_while_nobody_looked_is_the_new_one() {
    let mut catalog = catalog(3);
    let mut pair = Pair::new();
    pair.settle(&catalog);
    catalog.publish(&[ConfigDelta::Remove { gateway: web() }]);
    let changed = catalog.publish(&[change(&web(), vec![gateway(&web(), 1), endpoints(1, 2)], &[])]);
    pair.on_change(&changed, &catalog);
    pair.settle(&catalog);
    assert_eq!(pair.served[&web()].endpoints.keys().collect::<Vec<_>>(), [&backend_key(1)]);
    assert_eq!(pair.client.version(), catalog.version(&web()).unwrap());
}

#[test]
fn a_replica_that_does_not_know_the_gateway_takes_nothing_away() {
    let mut pair = Pair::new();
    pair.settle(&catalog(3));
    pair.connect();
    pair.settle(&Catalog::default());
    assert_eq!(pair.served[&web()].endpoints.len(), 3);
    assert!(pair.received.is_empty());
}

#[test]
fn a_stream_that_lags_behind_what_is_remembered_gets_everything() {
    let mut catalog = catalog(3);
    let mut pair = Pair::new();
    pair.settle(&catalog);
    for number in 10..6000 {
        catalog.publish(&[change(&web(), vec![endpoints(number, 2)], &[])]);
        catalog.publish(&[change(&web(), Vec::new(), &[endpoints(number, 2)])]);
    }
    let changed = catalog.publish(&[change(&web(), Vec::new(), &[endpoints(0, 2)])]);
    pair.received.clear();
    pair.on_change(&changed, &catalog);
    pair.settle(&catalog);
    assert_eq!(pair.received.len(), 4);
    assert_eq!(pair.served[&web()].endpoints.len(), 2);
}

#[test]
fn an_unreadable_piece_is_named_and_nothing_is_served_until_it_is_right() {
    let mut catalog = catalog(3);
    let mut pair = Pair::new();
    pair.settle(&catalog);
    let served = pair.served.clone();
    let changed = catalog.publish(&[change(&web(), vec![endpoints(0, 3), backend(1, 0)], &[endpoints(2, 2)])]);
    pair.on_change(&changed, &catalog);
    let response = pair.to_client.iter_mut().find(|response| response.type_url.ends_with("Backend")).unwrap();
    let any = response.resources[0].resource.as_mut().unwrap();
    any.value = String::from_utf8(any.value.to_vec()).unwrap().replace("HTTP1", "HTTP9").into();
    pair.settle(&catalog);
    assert_eq!(pair.served, served);
    let Some(StreamEvent::Refused { version, message }) = pair.events.last() else { panic!("{:?}", pair.events) };
    assert_eq!(Some(*version), catalog.version(&web()));
    assert!(message.starts_with("backend/shop/service-1:80: unknown variant `HTTP9`"), "{message}");

    // Another change alone does not help; what was refused with it is not sent again.
    let changed = catalog.publish(&[change(&web(), vec![endpoints(0, 6)], &[])]);
    pair.received.clear();
    pair.on_change(&changed, &catalog);
    pair.settle(&catalog);
    assert_eq!(pair.served, served);
    assert_eq!(pair.received.len(), 2);

    let changed = catalog.publish(&[change(&web(), vec![backend(1, 1)], &[])]);
    pair.on_change(&changed, &catalog);
    pair.settle(&catalog);
    assert!(matches!(pair.events.last(), Some(StreamEvent::Acknowledged { .. })));
    assert_eq!(pair.served[&web()].endpoints.len(), 2);
    assert_eq!(pair.served[&web()].backends.len(), 1);
}

#[test]
fn a_piece_of_a_type_from_the_future_is_unreadable() {
    let catalog = catalog(1);
    let mut pair = Pair::new();
    while pair.to_client.is_empty() {
        pair.step(&catalog);
    }
    let any = pair.to_client[0].resources[0].resource.as_mut().unwrap();
    any.type_url = any.type_url.replace("Endpoints", "Policy");
    pair.settle(&catalog);
    assert!(pair.served.is_empty());
    let Some(StreamEvent::Refused { message, .. }) = pair.events.last() else { panic!("{:?}", pair.events) };
    assert!(message.contains("Policy is not known"), "{message}");
}

#[test]
fn content_under_another_name_is_unreadable() {
    let catalog = catalog(2);
    let mut pair = Pair::new();
    while pair.to_client.is_empty() {
        pair.step(&catalog);
    }
    let value = encoded(&endpoints(1, 2)).into();
    pair.to_client[0].resources[0].resource.as_mut().unwrap().value = value;
    pair.settle(&catalog);
    assert!(pair.served.is_empty());
    let Some(StreamEvent::Refused { message, .. }) = pair.events.last() else { panic!("{:?}", pair.events) };
    assert!(message.contains("another name"), "{message}");
}

#[test]
fn a_lost_response_is_noticed_and_everything_comes_anew() {
    let mut catalog = catalog(5);
    let mut pair = Pair::new();
    pair.settle(&catalog);
    let changed = catalog.publish(&[change(&web(), vec![endpoints(0, 3), backend(0, 1)], &[])]);
    pair.on_change(&changed, &catalog);
    pair.to_client.pop_front();
    pair.settle(&catalog);
    assert_eq!(pair.client.version(), catalog.version(&web()).unwrap());
    assert_eq!(pair.served[&web()].backends.len(), 1);
    assert!(matches!(&*pair.events, [.., StreamEvent::Refused { .. }, StreamEvent::Acknowledged { .. }]));
}

#[test]
fn a_server_that_never_agrees_is_left() {
    let catalog = catalog(2);
    let mut pair = Pair::new();
    let wrong = |pair: &mut Pair| {
        while pair.to_client.is_empty() {
            pair.step(&catalog);
        }
        let first = pair.to_client.iter_mut().find(|response| !response.resources.is_empty()).unwrap();
        first.resources[0].version = "0".into();
    };
    wrong(&mut pair);
    while !pair.to_client.is_empty() {
        pair.step(&catalog);
    }
    wrong(&mut pair);
    let last = pair.to_client.pop_back().unwrap();
    while pair.step(&catalog) {}
    let error = pair.client.on_response(last).unwrap_err();
    assert!(error.to_string().contains("version"), "{error}");
    assert!(pair.served.is_empty());
}

#[test]
fn a_client_that_never_agrees_is_left() {
    let catalog = catalog(1);
    let mut server = ServerStream::new(web());
    let mut client = ClientStream::new(web(), "pod-1");
    let mut nonce = String::new();
    for request in client.start() {
        nonce = server.on_request(request, &catalog).unwrap().responses.pop().map_or(nonce, |response| response.nonce);
    }
    let mut refused = None;
    for _ in 0..10 {
        let request = DeltaDiscoveryRequest {
            type_url: COMMIT_TYPE_URL.into(),
            resource_names_subscribe: vec!["infra/web/*".into()],
            response_nonce: nonce.clone(),
            error_detail: Some(Status { code: code::DATA_LOSS, message: String::new() }),
            ..DeltaDiscoveryRequest::default()
        };
        match server.on_request(request, &catalog) {
            Ok(step) => nonce = step.responses.last().unwrap().nonce.clone(),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert_eq!(refused.unwrap().code, code::RESOURCE_EXHAUSTED);
}

#[test]
fn names_of_others_are_refused() {
    let mut catalog = catalog(1);
    catalog.publish(&[change(&name("infra/web-2"), vec![gateway(&name("infra/web-2"), 1)], &[])]);
    let ask = |change: fn(&mut DeltaDiscoveryRequest)| {
        let mut request = ClientStream::new(web(), "pod-1").start().pop().unwrap();
        change(&mut request);
        ServerStream::new(web()).on_request(request, &catalog).map(|step| step.responses.len())
    };
    assert_eq!(ask(|_| ()), Ok(3));
    let denied: [fn(&mut DeltaDiscoveryRequest); 7] = [
        |request| request.resource_names_subscribe = vec!["infra/web-2/*".into()],
        |request| request.resource_names_subscribe.push("infra/other/*".into()),
        |request| request.resource_names_subscribe = vec!["*".into()],
        |request| request.resource_names_subscribe = vec![String::new()],
        |request| request.resource_names_unsubscribe = vec!["other/web/gateway".into()],
        |request| drop(request.initial_resource_versions.insert("infra/web-2/gateway".into(), "1".into())),
        |request| request.node = Some(portcullis_xds::proto::Node { id: String::new(), cluster: "infra/web-2".into() }),
    ];
    for change in denied {
        assert!(matches!(ask(change), Err(Refused { code: code::PERMISSION_DENIED, .. })));
    }
    let invalid: [fn(&mut DeltaDiscoveryRequest); 2] = [
        |request| request.resource_names_subscribe = vec!["infra/web/gateway".into()],
        |request| request.type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster".into(),
    ];
    for change in invalid {
        assert!(matches!(ask(change), Err(Refused { code: code::INVALID_ARGUMENT, .. })));
    }
}

#[test]
fn too_many_held_versions_are_refused() {
    let catalog = catalog(1);
    let mut server = ServerStream::new(web());
    let refused = (0..40).find_map(|round| {
        let held = |number| (format!("infra/web/endpoints/a/{round}-{number}:80"), "v".repeat(32));
        let request = DeltaDiscoveryRequest {
            type_url: COMMIT_TYPE_URL.into(),
            initial_resource_versions: (0..10_000).map(held).collect(),
            ..DeltaDiscoveryRequest::default()
        };
        server.on_request(request, &catalog).err()
    });
    assert_eq!(refused.unwrap().code, code::RESOURCE_EXHAUSTED);
}

#[test]
fn foreign_resources_are_a_violation() {
    let catalog = catalog(1);
    let mut pair = Pair::new();
    while pair.to_client.is_empty() {
        pair.step(&catalog);
    }
    let mut response = pair.to_client.pop_front().unwrap();
    response.resources[0].name = "infra/web-2/endpoints/shop/service-0:80".into();
    assert!(pair.client.on_response(response).is_err());
}

#[test]
fn what_could_not_be_bound_is_told_and_served_otherwise() {
    let catalog = catalog(1);
    let mut pair = Pair::new();
    loop {
        if let Some(request) = pair.to_server.pop_front() {
            pair.to_client.extend(pair.server.on_request(request, &catalog).unwrap().responses);
            continue;
        }
        let response = pair.to_client.pop_front().unwrap();
        let Some(commit) = pair.client.on_response(response).unwrap().commit else { continue };
        commit.deltas.iter().for_each(|delta| Config::apply(&mut pair.served, delta));
        break;
    }
    let request = pair.client.applied(Err("port 80: taken".into())).unwrap();
    assert_eq!(request.error_detail.as_ref().unwrap().code, code::FAILED_PRECONDITION);
    let step = pair.server.on_request(request, &catalog).unwrap();
    let version = catalog.version(&web()).unwrap();
    assert_eq!(step.event, Some(StreamEvent::Refused { version, message: "port 80: taken".into() }));
    assert!(step.responses.is_empty() && pair.client.applied(Ok(())).is_none());
}

#[test]
fn long_messages_are_cut() {
    let catalog = catalog(1);
    let mut server = ServerStream::new(web());
    let mut nonce = String::new();
    for request in ClientStream::new(web(), "pod-1").start() {
        nonce = server.on_request(request, &catalog).unwrap().responses.pop().map_or(nonce, |response| response.nonce);
    }
    let request = DeltaDiscoveryRequest {
        type_url: COMMIT_TYPE_URL.into(),
        response_nonce: nonce,
        error_detail: Some(Status { code: code::INVALID_ARGUMENT, message: "ü".repeat(10_000) }),
        ..DeltaDiscoveryRequest::default()
    };
    let Some(StreamEvent::Refused { message, .. }) = server.on_request(request, &catalog).unwrap().event else {
        panic!()
    };
    assert!(message.len() <= 4096);
}
