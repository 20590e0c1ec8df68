//! The text of a scrape, read back by a strict parser, and totals that must be exact.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis_runtime::metrics::{Buckets, Format, Kind, Label, Registry};
use proptest::prelude::*;

/// A family as it was read.
#[derive(Debug, Default)]
struct Parsed {
    kind: String,
    unit: Option<String>,
    help: String,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads OpenMetrics 1.0 and panics at the first deviation: `# EOF` last, families contiguous and named once, TYPE first, unit
/// and suffix in the names, labels escaped and unique, histograms complete and cumulative.
fn parse_open_metrics(text: &str) -> BTreeMap<String, Parsed> {
    let body = text.strip_suffix("# EOF\n").expect("ends in # EOF");
    let mut families: BTreeMap<String, Parsed> = BTreeMap::new();
    let mut current = String::new();
    for line in body.lines() {
        assert!(!line.chars().any(char::is_control) && !line.is_empty(), "{line:?}");
        if let Some(metadata) = line.strip_prefix("# ") {
            let mut words = metadata.splitn(3, ' ');
            let (word, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            if word == "TYPE" {
                assert!(!families.contains_key(name), "{name} stands twice");
                current = name.to_owned();
                families.insert(current.clone(), Parsed { kind: rest.to_owned(), ..Parsed::default() });
                continue;
            }
            assert_eq!(name, current, "metadata of another family");
            let family = families.get_mut(name).unwrap();
            assert!(family.samples.is_empty(), "{name}: metadata after samples");
            match word {
                "UNIT" => {
                    assert!(name.ends_with(&format!("_{rest}")), "{name} does not end in its unit {rest}");
                    family.unit = Some(rest.to_owned());
                }
                "HELP" => family.help = rest.to_owned(),
                _ => panic!("unknown metadata {line}"),
            }
            continue;
        }
        let family = families.get_mut(&current).expect("a sample after its TYPE");
        let (name, labels, value) = parse_sample(line);
        let suffix = name.strip_prefix(current.as_str()).unwrap_or_else(|| panic!("{name} in family {current}"));
        let allowed: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            kind => panic!("unknown type {kind}"),
        };
        assert!(allowed.contains(&suffix), "{name} in a {}", family.kind);
        family.samples.push((suffix.to_owned(), labels, value));
    }
    families.values().for_each(check_family);
    families
}

fn parse_sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").expect("label=\"");
            assert!(label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{label}");
            let mut value = String::new();
            let mut characters = after.char_indices();
            let close = loop {
                match characters.next().expect("a closing quote") {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next().unwrap().1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("escape \\{other}"),
                    }),
                    (_, character) => value.push(character),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "label {label} twice");
            rest = &after[close + 1..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').expect("}");
    }
    let value = rest.strip_prefix(' ').expect("one space");
    (name.to_owned(), labels, if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap() })
}

fn check_family(family: &Parsed) {
    assert!(!family.help.is_empty());
    let unique: BTreeSet<_> = family.samples.iter().map(|(suffix, labels, _)| (suffix, labels)).collect();
    assert_eq!(unique.len(), family.samples.len(), "a sample stands twice: {family:?}");
    if family.kind == "counter" {
        assert!(family.samples.iter().all(|(_, _, value)| *value >= 0.0));
    }
    if family.kind != "histogram" {
        return;
    }
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for (_, labels, value) in family.samples.iter().filter(|(suffix, _, _)| suffix == "_bucket") {
        let mut labels = labels.clone();
        let bound = labels.remove("le").unwrap();
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        series.entry(labels).or_default().push((bound, *value));
    }
    for (labels, buckets) in series {
        assert!(buckets.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1), "{buckets:?}");
        let (last_bound, last) = *buckets.last().unwrap();
        assert_eq!(last_bound, f64::INFINITY);
        let one =
            |wanted: &str| family.samples.iter().find(|(suffix, of, _)| suffix == wanted && *of == labels).unwrap().2;
        assert_eq!(one("_count"), last);
        assert!(one("_sum") >= 0.0);
    }
}

fn value(families: &BTreeMap<String, Parsed>, family: &str, suffix: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: BTreeMap<_, _> = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let found = families[family].samples.iter().find(|(of, labels, _)| of == suffix && *labels == wanted);
    found.unwrap_or_else(|| panic!("{family}{suffix} {labels:?} in {:?}", families[family])).2
}

fn example() -> Registry {
    let registry = Registry::new(2);
    let (one, two) = (registry.claim(0).unwrap(), registry.claim(1).unwrap());
    let labels = [Label::open("gateway"), Label::closed("code_class")];
    let requests = registry.counters("portcullis_requests_total", "Requests answered.", labels, 100).unwrap();
    requests.with(["infra/edge", "2xx"]).add(&one, 3);
    requests.with(["infra/edge", "2xx"]).increment(&two);
    requests.with(["a\"b\\c\nd\u{1b}", "5xx"]).increment(&two);
    let open = registry.gauge("portcullis_open_connections", "Open connections.").unwrap();
    open.add(&one, 5);
    open.add(&two, -2);
    let latency = registry
        .histograms(
            "portcullis_request_duration_seconds",
            "Time to answer.",
            [Label::open("route")],
            10,
            Buckets::LATENCY,
        )
        .unwrap();
    latency.with(["infra/shop"]).observe(&one, Duration::from_micros(500));
    latency.with(["infra/shop"]).observe(&two, Duration::from_millis(3));
    latency.with(["infra/shop"]).observe(&two, Duration::from_secs(90));
    registry
        .collect("portcullis_config_age_seconds", "Age of the config.", Kind::Gauge, |samples| samples.add(&[], 1.5))
        .unwrap();
    registry.build_info(&[("version", "0.1.0"), ("revision", "abc")]).unwrap();
    registry
}

#[test]
fn open_metrics_reads_back() {
    let families = parse_open_metrics(&example().render(Format::OpenMetrics));
    let edge = [("gateway", "infra/edge"), ("code_class", "2xx")];
    assert_eq!(value(&families, "portcullis_requests", "_total", &edge), 4.0);
    let foreign = [("gateway", "a\"b\\c\nd\\u001b"), ("code_class", "5xx")];
    assert_eq!(value(&families, "portcullis_requests", "_total", &foreign), 1.0);
    assert_eq!(value(&families, "portcullis_open_connections", "", &[]), 3.0);
    let latency = "portcullis_request_duration_seconds";
    assert_eq!(families[latency].unit.as_deref(), Some("seconds"));
    for (bound, count) in [("0.0005", 1.0), ("0.001", 1.0), ("0.005", 2.0), ("60.0", 2.0), ("+Inf", 3.0)] {
        assert_eq!(value(&families, latency, "_bucket", &[("route", "infra/shop"), ("le", bound)]), count, "{bound}");
    }
    assert_eq!(value(&families, latency, "_sum", &[("route", "infra/shop")]), 90.0035);
    assert_eq!(value(&families, "portcullis_build", "_info", &[("version", "0.1.0"), ("revision", "abc")]), 1.0);
    assert_eq!(value(&families, "portcullis_config_age_seconds", "", &[]), 1.5);
    assert_eq!(value(&families, "portcullis_metrics_series", "", &[("metric", "portcullis_requests_total")]), 2.0);
    assert!(value(&families, "process_resident_memory_bytes", "", &[]) > 4096.0);
    assert_eq!(families["process_cpu_seconds"].unit.as_deref(), Some("seconds"));
    for process in ["process_open_fds", "process_start_time_seconds", "process_max_fds", "process_threads"] {
        assert!(families.contains_key(process), "{process}");
    }
}

#[test]
fn prometheus_text_names_samples_as_families() {
    let text = example().render(Format::Prometheus);
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    for line in [
        "# TYPE portcullis_requests_total counter",
        "# TYPE portcullis_build_info gauge",
        "# TYPE portcullis_request_duration_seconds histogram",
        "# HELP portcullis_open_connections Open connections.",
        r#"portcullis_requests_total{gateway="infra/edge",code_class="2xx"} 4"#,
        r#"portcullis_request_duration_seconds_bucket{route="infra/shop",le="+Inf"} 3"#,
        "portcullis_open_connections 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn a_retired_gateway_leaves_the_output() {
    let registry = example();
    assert_eq!(registry.retire(&[("gateway", "infra/edge")]), 1);
    let text = registry.render(Format::OpenMetrics);
    parse_open_metrics(&text);
    assert!(!text.contains("infra/edge"));
    assert!(text.contains("infra/shop"));
}

#[test]
fn totals_are_exact_after_increments_from_several_threads_while_others_scrape() {
    const WORKERS: usize = 4;
    const EACH: u64 = 50_000;
    let registry = Registry::new(WORKERS);
    let requests = registry.counters("portcullis_requests_total", "Requests.", [Label::open("route")], 100).unwrap();
    let open = registry.gauge("portcullis_open", "Open.").unwrap();
    let latency = registry.histogram("portcullis_took_seconds", "Latency.", Buckets::LATENCY).unwrap();
    let shared = registry.counter("portcullis_rare_total", "Rare events.").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scrape = scope.spawn(|| {
            let mut before = 0.0;
            while !done.load(Ordering::Relaxed) {
                let families = parse_open_metrics(&registry.render(Format::OpenMetrics));
                let now = value(&families, "portcullis_took_seconds", "_count", &[]);
                assert!(now >= before, "a count went backwards");
                before = now;
            }
        });
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (registry, requests) = (&registry, &requests);
                let (open, latency, shared) = (open.clone(), latency.clone(), shared.clone());
                scope.spawn(move || {
                    let shard = registry.claim(worker).unwrap();
                    let own = requests.with([&worker.to_string()]);
                    let common = requests.with(["common"]);
                    for number in 0..EACH {
                        own.increment(&shard);
                        common.add(&shard, 2);
                        open.add(&shard, if number % 2 == 0 { 3 } else { -1 });
                        latency.observe(&shard, Duration::from_millis(number % 7));
                        shared.add_shared(1);
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, Ordering::Relaxed);
        scrape.join().unwrap();
    });
    let all = WORKERS as u64 * EACH;
    (0..WORKERS).for_each(|worker| assert_eq!(requests.with([&worker.to_string()]).value(), EACH));
    assert_eq!(requests.with(["common"]).value(), 2 * all);
    assert_eq!(open.value(), all as i64);
    assert_eq!(shared.value(), all);
    let nanoseconds: u64 = (0..EACH).map(|number| number % 7 * 1_000_000).sum();
    assert_eq!(latency.totals(), (all, nanoseconds * WORKERS as u64));
}

proptest! {
    #[test]
    fn sums_over_shards_equal_a_plain_count(
        steps in proptest::collection::vec((0usize..3, 0u64..100_000_000_000, -50i64..50), 0..200),
    ) {
        let registry = Registry::new(3);
        let shards: Vec<_> = (0..3).map(|worker| registry.claim(worker).unwrap()).collect();
        let counter = registry.counter("portcullis_c_total", "Count.").unwrap();
        let gauge = registry.gauge("portcullis_g", "Level.").unwrap();
        let histogram = registry.histogram("portcullis_h_seconds", "Time.", Buckets::LATENCY).unwrap();
        for (shard, nanoseconds, step) in &steps {
            counter.add(&shards[*shard], *nanoseconds);
            gauge.add(&shards[*shard], *step);
            histogram.observe(&shards[*shard], Duration::from_nanos(*nanoseconds));
        }
        let sum: u64 = steps.iter().map(|(_, nanoseconds, _)| nanoseconds).sum();
        prop_assert_eq!(counter.value(), sum);
        prop_assert_eq!(gauge.value(), steps.iter().map(|(_, _, step)| step).sum::<i64>());
        prop_assert_eq!(histogram.totals(), (steps.len() as u64, sum));
        let families = parse_open_metrics(&registry.render(Format::OpenMetrics));
        for (suffix, labels, found) in &families["portcullis_h_seconds"].samples {
            if suffix == "_bucket" {
                let bound: f64 = if labels["le"] == "+Inf" { f64::INFINITY } else { labels["le"].parse().unwrap() };
                let expected = steps.iter().filter(|(_, nanoseconds, _)| *nanoseconds as f64 / 1e9 <= bound).count();
                prop_assert_eq!(*found, expected as f64, "{}", bound);
            }
        }
    }

    #[test]
    fn any_label_value_reads_back(values in proptest::collection::vec(".{0,40}", 1..20)) {
        let registry = Registry::new(1);
        let family = registry.counters("portcullis_c_total", "Count.", [Label::open("route")], 1000).unwrap();
        for value in &values {
            family.with([value.as_str()]).add_shared(1);
        }
        let families = parse_open_metrics(&registry.render(Format::OpenMetrics));
        let sum: f64 = families["portcullis_c"].samples.iter().map(|(_, _, value)| value).sum();
        prop_assert_eq!(sum, values.len() as f64);
    }

    #[test]
    fn a_family_never_exceeds_its_bound_and_loses_nothing(
        steps in proptest::collection::vec((0u8..30, any::<bool>()), 0..200),
        bound in 0usize..10,
    ) {
        let registry = Registry::new(1);
        let family = registry.counters("portcullis_c_total", "Count.", [Label::open("route")], bound).unwrap();
        let other = family.with(["other"]);
        let mut expected: BTreeMap<u8, u64> = BTreeMap::new();
        let mut folded = 0;
        for (route, retire) in steps {
            let name = route.to_string();
            if retire {
                prop_assert_eq!(family.retire([&name]), expected.remove(&route).is_some());
                continue;
            }
            family.with([&name]).add_shared(1);
            let fits = expected.len() < bound;
            match expected.get_mut(&route) {
                Some(count) => *count += 1,
                None if fits => drop(expected.insert(route, 1)),
                None => folded += 1,
            }
        }
        prop_assert_eq!(other.value(), folded);
        for (route, count) in expected {
            prop_assert_eq!(family.with([&route.to_string()]).value(), count);
        }
    }
}
