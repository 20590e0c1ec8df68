//! Any sequence of changes, lost connections and restarts ends with a data plane that serves what the controller has.

use crate::support::*;
use portcullis_model::{Config, ConfigDelta, ObjectName};
use portcullis_xds::{Catalog, StreamEvent};
use proptest::prelude::*;
use std::collections::BTreeMap;

const SERVICES: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    /// The objects change; a replica hears of it with `Publish`.
    Change {
        generation: Option<i64>,
        put: Vec<(bool, usize, u8)>,
        gone: Vec<usize>,
    },
    Remove,
    Publish {
        replica: usize,
    },
    Deliver {
        messages: usize,
    },
    /// The next response is lost, as a defect of a proxy in between would do.
    Lose,
    Connect {
        replica: usize,
    },
    Restart {
        replica: usize,
    },
    RestartClient,
}

fn step() -> impl Strategy<Value = Step> {
    let replica = 0..2usize;
    let put = prop::collection::vec((any::<bool>(), 0..SERVICES, any::<u8>()), 0..4);
    let change = (prop::option::of(1..5i64), put, prop::collection::vec(0..SERVICES, 0..3));
    prop_oneof![
        6 => change.prop_map(|(generation, put, gone)| Step::Change { generation, put, gone }),
        1 => Just(Step::Remove),
        6 => replica.clone().prop_map(|replica| Step::Publish { replica }),
        8 => (1..12usize).prop_map(|messages| Step::Deliver { messages }),
        1 => Just(Step::Lose),
        2 => replica.clone().prop_map(|replica| Step::Connect { replica }),
        1 => replica.prop_map(|replica| Step::Restart { replica }),
        1 => Just(Step::RestartClient),
    ]
}

/// A replica of the controller: what it has published, and what it has not heard of yet.
#[derive(Default)]
struct Replica {
    catalog: Catalog,
    configs: BTreeMap<ObjectName, Config>,
    unheard: Vec<ConfigDelta>,
}

struct World {
    truth: BTreeMap<ObjectName, Config>,
    replicas: [Replica; 2],
    connected: usize,
    pair: Pair,
}

impl World {
    fn new() -> Self {
        let mut world = Self { truth: BTreeMap::new(), replicas: Default::default(), connected: 0, pair: Pair::new() };
        world.change(change(&web(), vec![gateway(&web(), 1)], &[]));
        world
    }

    fn change(&mut self, delta: ConfigDelta) {
        Config::apply(&mut self.truth, &delta);
        self.replicas.iter_mut().for_each(|replica| replica.unheard.push(delta.clone()));
    }

    fn publish(&mut self, replica: usize) {
        let heard = &mut self.replicas[replica];
        let deltas = std::mem::take(&mut heard.unheard);
        deltas.iter().for_each(|delta| Config::apply(&mut heard.configs, delta));
        let changed = heard.catalog.publish(&deltas);
        if replica == self.connected {
            self.pair.on_change(&changed, &self.replicas[replica].catalog);
        }
    }

    fn connect(&mut self, replica: usize) {
        self.connected = replica;
        self.pair.connect();
    }

    fn deliver(&mut self, messages: usize) {
        for _ in 0..messages {
            let had_gateway = !self.pair.served.is_empty();
            self.pair.step(&self.replicas[self.connected].catalog);
            // A data plane never serves a part of a configuration.
            let is_whole = self.pair.served.values().all(|config| config.gateway.name == web());
            assert!(is_whole || had_gateway);
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Change { generation, put, gone } => {
                let mut upserted: Vec<_> =
                    generation.map(|generation| gateway(&web(), generation)).into_iter().collect();
                let piece = |&(is_backend, number, content): &(bool, usize, u8)| match is_backend {
                    true => backend(number, content),
                    false => endpoints(number, content),
                };
                upserted.extend(put.iter().map(piece));
                let gone: Vec<_> = gone.iter().flat_map(|&number| [endpoints(number, 0), backend(number, 0)]).collect();
                self.change(change(&web(), upserted, &gone));
            }
            Step::Remove => self.change(ConfigDelta::Remove { gateway: web() }),
            Step::Publish { replica } => self.publish(replica),
            Step::Deliver { messages } => self.deliver(messages),
            Step::Lose => drop(self.pair.to_client.pop_front_if(|response| !response.type_url.ends_with("Commit"))),
            Step::Connect { replica } => self.connect(replica),
            Step::Restart { replica } => {
                let Replica { configs, unheard, .. } = std::mem::take(&mut self.replicas[replica]);
                let mut catalog = Catalog::default();
                configs.values().for_each(|config| drop(catalog.publish(&[whole(config)])));
                self.replicas[replica] = Replica { catalog, configs, unheard };
                if replica == self.connected {
                    self.connect(replica);
                }
            }
            Step::RestartClient => {
                self.pair = Pair::new();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn ends_with_what_the_controller_has(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        let losses = steps.iter().filter(|step| matches!(step, Step::Lose)).count();
        for step in steps {
            world.run(step);
        }
        world.change(change(&web(), vec![gateway(&web(), 9)], &[]));
        [0, 1].into_iter().for_each(|replica| world.publish(replica));
        world.deliver(1000);
        prop_assert!(world.pair.broken <= losses);
        prop_assert_eq!(&world.pair.served, &world.truth);
        let [first, second] = &world.replicas;
        prop_assert_eq!(first.catalog.version(&web()), second.catalog.version(&web()));
        prop_assert_eq!(Some(world.pair.client.version()), first.catalog.version(&web()));
        let acknowledged = StreamEvent::Acknowledged { version: world.pair.client.version(), gateway_generation: 9 };
        prop_assert_eq!(world.pair.events.last(), Some(&acknowledged));

        // The other replica has the same, and sends nothing but the commit.
        world.connect(1 - world.connected);
        world.deliver(1000);
        prop_assert_eq!(&world.pair.received, &["infra/web/commit"]);
        prop_assert_eq!(&world.pair.served, &world.truth);
    }
}
