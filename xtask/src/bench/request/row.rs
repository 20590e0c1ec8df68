//! A row: one shape, one number of connections, one column of configuration, measured with every proxy.
//!
//! What flows in: the plan, the proxies. What flows out: JSON with each round and what follows from all of them. A proxy that cannot start or that errs once
//! has no figures in this row, but the reason; the others have theirs.

use super::load::Load;
use super::peers::{Peer, Running, Site};
use super::shapes::Shape;
use super::{Logs, Plan};
use crate::step::say;
use serde_json::{Map, Value, json};
use std::thread::sleep;
use std::time::Duration;

/// A proxy in this row.
struct Subject {
    peer: Peer,
    /// Or why there is none.
    running: Result<Running, String>,
    rounds: Vec<Round>,
    system_calls: Option<f64>,
    /// All units that it did.
    units: u64,
}

/// What one round gave.
struct Round {
    /// CPU microseconds for each unit; user and system are not numbers if the time was too short to tell them apart.
    user: f64,
    system: f64,
    total: f64,
    units_per_second: f64,
    /// CPU seconds in each second.
    busy: f64,
    /// Microseconds.
    latency: Value,
    /// KiB, with all connections open.
    resident: u64,
}

pub(super) fn measure(plan: &Plan, site: &Site<'_>, shape: Shape) -> Result<Value, String> {
    let start = |found: &super::Found| Subject {
        peer: found.peer,
        running: found.start(site),
        rounds: Vec::new(),
        system_calls: None,
        units: 0,
    };
    let mut subjects: Vec<Subject> = plan.proxies.iter().map(start).collect();
    for round in 0..plan.rounds {
        // Each is asked after another one each time.
        let first = round % subjects.len();
        subjects.rotate_left(first);
        for subject in &mut subjects {
            subject.attempt(|subject, running| subject.round(running, plan, site, shape));
        }
        subjects.rotate_right(first);
    }
    if plan.counter.is_some() {
        for subject in &mut subjects {
            subject.attempt(|subject, running| subject.count(running, plan, site, shape));
        }
    }
    if site.logs == Logs::On {
        // What is still to be logged is written within a second.
        sleep(Duration::from_millis(1200));
    }
    let mut proxies = Map::new();
    let reference = reference(&subjects);
    for subject in subjects {
        proxies.insert(subject.peer.name().to_owned(), subject.finish(site, shape, reference));
    }
    Ok(json!({
        "shape": shape.name,
        "unit": shape.unit,
        "connections": site.connections,
        "streamsOnEach": shape.streams(site.connections),
        "logs": site.logs == Logs::On,
        "proxies": proxies,
    }))
}

/// The CPU time of the better of nginx and HAProxy.
fn reference(subjects: &[Subject]) -> Option<f64> {
    let theirs = subjects.iter().filter(|subject| matches!(subject.peer, Peer::Nginx | Peer::Haproxy));
    let measured = theirs.filter(|subject| subject.running.is_ok() && !subject.rounds.is_empty());
    measured.map(|subject| median(subject.rounds.iter().map(|round| round.total))).min_by(f64::total_cmp)
}

impl Subject {
    /// Does something with the proxy if it is still without fault; a fault ends it for this row.
    fn attempt(&mut self, work: impl FnOnce(&mut Self, &Running) -> Result<(), String>) {
        let running = std::mem::replace(&mut self.running, Err(String::new()));
        self.running = match running {
            Ok(running) => work(self, &running).map(|()| running),
            gone => gone,
        };
    }

    fn round(&mut self, proxy: &Running, plan: &Plan, site: &Site<'_>, shape: Shape) -> Result<(), String> {
        let mut load = Load::start(site, proxy, shape, plan.seconds)?;
        let before = proxy.usage();
        let came = load.go()?;
        let after = proxy.usage();
        drop(load);
        let used = after.since(&before);
        let each = |seconds: f64| seconds * 1e6 / came.units as f64;
        self.units += came.all_units;
        self.rounds.push(Round {
            user: each(used.user),
            system: each(used.system),
            total: each(used.total),
            units_per_second: came.units as f64 / came.seconds,
            busy: used.total / came.seconds,
            latency: came.latency,
            resident: after.resident(),
        });
        Ok(())
    }

    /// In a pass of its own, for counting costs time.
    fn count(&mut self, proxy: &Running, plan: &Plan, site: &Site<'_>, shape: Shape) -> Result<(), String> {
        let Some(counter) = plan.counter else { return Ok(()) };
        let mut load = Load::start(site, proxy, shape, plan.seconds.min(1.0))?;
        let counting = counter.attach(&proxy.pids(), site.folder)?;
        let came = load.go()?;
        self.units += came.all_units;
        self.system_calls = Some(counting.end()? as f64 / came.units as f64);
        Ok(())
    }

    fn finish(self, site: &Site<'_>, shape: Shape, reference: Option<f64>) -> Value {
        let records = match self.running {
            Ok(running) => running.stop(),
            Err(problem) => {
                say(&format!("{} has no figures in this row: {problem}", self.peer.name()));
                return json!({ "problem": problem });
            }
        };
        let all = |value: fn(&Round) -> f64| spread(self.rounds.iter().map(value));
        let total = median(self.rounds.iter().map(|round| round.total));
        let logged = site.logs == Logs::On && shape.is_logged();
        json!({
            "cpuMicroseconds": {
                "user": all(|round| round.user),
                "system": all(|round| round.system),
                "total": all(|round| round.total),
            },
            "ratio": reference.map(|reference| total / reference),
            "unitsPerSecond": all(|round| round.units_per_second),
            "busy": all(|round| round.busy),
            "p99Microseconds": all(|round| round.latency["p99"].as_f64().unwrap_or(f64::NAN)),
            "residentKiB": self.rounds.iter().map(|round| round.resident).max(),
            "systemCalls": self.system_calls,
            "recordsOfEachUnit": logged.then(|| records as f64 / self.units as f64),
            "rounds": self.rounds.iter().map(|round| json!({
                "user": round.user,
                "system": round.system,
                "total": round.total,
                "unitsPerSecond": round.units_per_second,
                "busy": round.busy,
                "latencyMicroseconds": round.latency,
                "residentKiB": round.resident,
            })).collect::<Vec<_>>(),
        })
    }
}

fn spread(values: impl Iterator<Item = f64>) -> Value {
    let values: Vec<f64> = values.filter(|value| !value.is_nan()).collect();
    if values.is_empty() {
        return Value::Null;
    }
    let (least, most) =
        values.iter().fold((f64::MAX, f64::MIN), |(least, most), value| (least.min(*value), most.max(*value)));
    json!({ "median": median(values.into_iter()), "min": least, "max": most })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(value), 1) => *value,
        (Some(upper), _) => f64::midpoint(values[middle - 1], *upper),
    }
}

#[cfg(test)]
mod tests {
    use super::{median, spread};

    #[test]
    fn medians_and_spreads() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert!(median(std::iter::empty()).is_nan());
        assert_eq!(
            spread([3.0, 1.0, f64::NAN, 2.0].into_iter()),
            serde_json::json!({"median": 2.0, "min": 1.0, "max": 3.0})
        );
        assert!(spread([f64::NAN].into_iter()).is_null());
    }
}
