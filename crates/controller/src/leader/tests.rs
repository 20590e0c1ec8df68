use super::*;
use crate::testing::ApiServer;

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/portcullis-system/leases/portcullis-controller";

fn options(identity: &str) -> LeaderOptions {
    LeaderOptions {
        namespace: "portcullis-system".into(),
        lease: "portcullis-controller".into(),
        identity: identity.into(),
        address: Some(format!("10.0.0.1/{identity}")),
        duration: Duration::from_secs(1),
        renew: Duration::from_millis(100),
        look: Duration::from_millis(50),
    }
}

fn candidate(identity: &str, server: &ApiServer) -> Elector {
    Elector::start(server.client(), options(identity), &Registry::new(0)).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn leads(elector: &Elector) {
    elector.watch().wait_for(|leadership| *leadership == Leadership::Leading).await.unwrap();
}

async fn follows(elector: &Elector, whom: &str) {
    let wanted = Leadership::Following { holder: whom.into(), address: Some(format!("10.0.0.1/{whom}")) };
    elector.watch().wait_for(|leadership| *leadership == wanted).await.unwrap();
}

#[test]
fn the_first_leads_the_second_follows_and_takes_over_what_is_given_back() {
    run(async {
        let server = ApiServer::start().await;
        let one = candidate("one", &server);
        leads(&one).await;
        let two = candidate("two", &server);
        follows(&two, "one").await;
        let lease = server.object(PATH).unwrap();
        assert_eq!(lease["spec"]["holderIdentity"], "one");
        assert_eq!(lease["spec"]["leaseTransitions"], 1);

        let watch = one.watch();
        one.release().await;
        assert_eq!(*watch.borrow(), Leadership::Unknown);
        leads(&two).await;
        assert_eq!(server.object(PATH).unwrap()["spec"]["leaseTransitions"], 2);
        two.release().await;
        assert_eq!(server.object(PATH).unwrap()["spec"]["holderIdentity"], "");
    });
}

#[test]
fn a_renewal_is_one_request() {
    run(async {
        let server = ApiServer::start().await;
        let one = candidate("one", &server);
        leads(&one).await;
        let puts = |log: &[String]| log.iter().filter(|line| line.starts_with("PUT")).count();
        while puts(&server.log()) < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let gets = server.log().iter().filter(|line| line.starts_with("GET")).count();
        assert_eq!(gets, 1, "{:?}", server.log());
    });
}

#[test]
fn whoever_cannot_renew_stops_before_another_starts() {
    run(async {
        let server = ApiServer::start().await;
        let (one, two) = (candidate("one", &server), options("two"));
        leads(&one).await;
        server.fail(|method, _| (method == Method::PUT).then_some(503));
        let mut watch = one.watch();
        watch.wait_for(|leadership| *leadership != Leadership::Leading).await.unwrap();
        // The lease as a second replica sees it from the last renewal on has not run out yet.
        let seen = Instant::now();
        let two = Elector::start(server.client(), two, &Registry::new(0)).unwrap();
        follows(&two, "one").await;
        drop(one.stop);
        one.task.abort();
        server.heal();
        leads(&two).await;
        assert!(seen.elapsed() >= Duration::from_secs(1));
    });
}

#[test]
fn an_api_server_that_never_answers_ends_leadership_too() {
    run(async {
        let server = ApiServer::start().await;
        let one = candidate("one", &server);
        leads(&one).await;
        server.fail(|_, _| Some(0));
        one.watch().wait_for(|leadership| *leadership == Leadership::Unknown).await.unwrap();
        server.heal();
        leads(&one).await;
    });
}

#[test]
fn a_lease_that_another_took_or_somebody_deleted_is_noticed() {
    run(async {
        let server = ApiServer::start().await;
        let one = candidate("one", &server);
        leads(&one).await;
        server.delete(PATH);
        while server.object(PATH).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        leads(&one).await;

        let mut lease = server.object(PATH).unwrap();
        lease["spec"]["holderIdentity"] = json!("two");
        lease["metadata"]["annotations"][ADDRESS] = json!("10.0.0.1/two");
        server.store(PATH, lease);
        follows(&one, "two").await;
        leads(&one).await;
    });
}

#[test]
fn a_replica_whose_process_was_restarted_goes_on() {
    run(async {
        let server = ApiServer::start().await;
        let one = candidate("one", &server);
        leads(&one).await;
        one.task.abort();
        let again = candidate("one", &server);
        leads(&again).await;
        assert_eq!(server.object(PATH).unwrap()["spec"]["leaseTransitions"], 1);
    });
}

#[test]
fn clocks_are_never_compared() {
    let server = run(ApiServer::start());
    let (leadership, _) = watch::channel(Leadership::Unknown);
    let registry = Registry::new(0);
    let gauge = registry.gauge("portcullis_leader", "For this test.").unwrap();
    let mut candidate = run(async {
        let client = server.client();
        Candidate {
            client,
            options: options("one"),
            leadership,
            gauge,
            held: None,
            leading_until: None,
            observed: None,
        }
    });
    let held = Verdict::Held { holder: "two".into(), address: None };
    let start = Instant::now();
    for renewed in ["1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z", "yesterday", ""] {
        let lease = |renewed: &str| json!({"spec": {"holderIdentity": "two", "leaseDurationSeconds": 15, "renewTime": renewed, "x": renewed}});
        let lease = lease(renewed);
        for (after, expected) in [(0, &held), (14, &held), (15, &Verdict::Free), (600, &Verdict::Free)] {
            assert_eq!(candidate.judge(&lease, start + Duration::from_secs(after)), *expected, "{renewed} {after}");
        }
    }
}

#[test]
fn what_others_put_beside_the_lease_stays() {
    run(async {
        let server = ApiServer::start().await;
        server.store(
            PATH,
            json!({
                "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
                "spec": {"holderIdentity": "", "strategy": "OldestEmulationVersion"},
            }),
        );
        let one = candidate("one", &server);
        leads(&one).await;
        let lease = server.object(PATH).unwrap();
        assert_eq!(lease["metadata"]["labels"]["a"], "b");
        assert_eq!(lease["metadata"]["annotations"]["c"], "d");
        assert_eq!(lease["spec"]["strategy"], "OldestEmulationVersion");
    });
}
