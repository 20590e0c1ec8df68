//! The linked matcher against a scan that is written from the specification, and incremental linking against a fresh one.

#[path = "support/support.rs"]
mod support;

use portcullis_decide::Linked;
use proptest::prelude::*;
use support::check::decide;
use support::naive;
use support::world::{self, Source};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_matcher_does_what_the_specification_says(
        config in prop::collection::vec(any::<u8>(), 0..1200),
        requests in prop::collection::vec(prop::collection::vec(any::<u8>(), 24), 24),
    ) {
        let config = world::config(&mut Source(&config));
        let linked = Linked::link(&config, None);
        for request in requests {
            let request = world::request(&mut Source(&request));
            prop_assert_eq!(decide(&linked, &request), naive::decide(&config, &request), "{:?}", request);
        }
    }

    #[test]
    fn linking_a_change_is_linking_the_result(
        config in prop::collection::vec(any::<u8>(), 0..800),
        changes in prop::collection::vec((0usize..12, 0usize..4, prop::collection::vec(any::<u8>(), 80)), 1..8),
        requests in prop::collection::vec(prop::collection::vec(any::<u8>(), 24), 12),
    ) {
        let mut config = world::config(&mut Source(&config));
        let mut linked = Linked::link(&config, None);
        for (at, kind, bytes) in changes {
            let mut source = Source(&bytes);
            let before = config.clone();
            match kind {
                0 => world::add_listener(&mut config, ["l0", "l1", "l2", "l3", "l4", "l5"][at % 6], &mut source),
                1 => drop(config.routes.keys().nth(at).cloned().and_then(|key| config.routes.remove(&key))),
                _ => world::add_route(&mut config, at, &mut source),
            }
            if at == 11 {
                let first = config.listeners.keys().next().cloned();
                first.and_then(|key| config.listeners.remove(&key));
            }
            let keys = before.routes.keys().chain(config.routes.keys());
            let touched = keys.filter(|key| before.routes.get(key) != config.routes.get(key)).cloned().collect();
            let relinked = Linked::relink(&config, &linked, &touched);
            linked = Linked::link(&config, Some(&linked));
            let fresh = Linked::link(&config, None);
            prop_assert_eq!(linked.problems(), fresh.problems());
            prop_assert_eq!(relinked.problems(), fresh.problems());
            for request in &requests {
                let request = world::request(&mut Source(request));
                prop_assert_eq!(decide(&linked, &request), decide(&fresh, &request), "{:?}", request);
                prop_assert_eq!(decide(&relinked, &request), decide(&fresh, &request), "{:?}", request);
            }
            if at % 2 == 0 {
                linked = relinked;
            }
        }
    }
}
