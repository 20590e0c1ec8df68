//! What the kernel says about this process, read from `/proc` when somebody scrapes.
//!
//! The names are the ones that every Prometheus client library uses. A file that cannot be read leaves its metrics out.

use std::fs;
use std::path::Path;

use super::registry::{Kind, Registry, Samples};

/// Ticks per second in `/proc/self/stat` when the auxiliary vector cannot be read: the value on every platform that we build for.
const DEFAULT_TICKS_PER_SECOND: u64 = 100;

pub(super) fn register(registry: &Registry) {
    let gauge = |name, help, read: fn() -> Option<f64>| registry.own(name, help, Kind::Gauge, sample(read));
    let cpu = "CPU time of this process in user and system mode, in seconds.";
    registry.own("process_cpu_seconds_total", cpu, Kind::Counter, sample(cpu_seconds));
    gauge("process_resident_memory_bytes", "Resident memory of this process.", || status_bytes("VmRSS:"));
    gauge("process_virtual_memory_bytes", "Virtual memory of this process.", || status_bytes("VmSize:"));
    gauge("process_open_fds", "Open file descriptors.", open_files);
    gauge("process_max_fds", "Largest number of open file descriptors that is allowed.", max_files);
    gauge("process_start_time_seconds", "When this process started, in seconds since 1970.", start_seconds);
    gauge("process_threads", "Threads of this process.", || status_number("Threads:"));
}

fn sample(read: fn() -> Option<f64>) -> impl Fn(&mut Samples) + Send + Sync {
    move |samples| {
        if let Some(value) = read() {
            samples.add(&[], value);
        }
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = stat_field(&stat, 14)? + stat_field(&stat, 15)?;
    Some(ticks as f64 / ticks_per_second() as f64)
}

fn start_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot as f64 + stat_field(&stat, 22)? as f64 / ticks_per_second() as f64)
}

/// A field of `/proc/self/stat` by its number in proc(5). The second field, the name, may hold spaces and brackets.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

/// AT_CLKTCK of the auxiliary vector (getauxval(3)).
fn ticks_per_second() -> u64 {
    const CLOCK_TICKS: usize = 17;
    const WORD: usize = size_of::<usize>();
    let vector = fs::read("/proc/self/auxv").unwrap_or_default();
    let words = vector.chunks_exact(WORD).filter_map(|word| word.try_into().ok().map(usize::from_ne_bytes));
    let words: Vec<_> = words.collect();
    let found = words.chunks_exact(2).find(|pair| pair[0] == CLOCK_TICKS).map(|pair| pair[1] as u64);
    found.filter(|ticks| *ticks > 0).unwrap_or(DEFAULT_TICKS_PER_SECOND)
}

fn status_number(key: &str) -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(key))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

fn status_bytes(key: &str) -> Option<f64> {
    status_number(key).map(|kibibytes| kibibytes * 1024.0)
}

fn open_files() -> Option<f64> {
    // The descriptor that reads the directory is one of them.
    Some(fs::read_dir(Path::new("/proc/self/fd")).ok()?.count().saturating_sub(1) as f64)
}

fn max_files() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let value = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match value.split_ascii_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        soft => soft.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields_are_counted_after_the_name() {
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14";
        assert_eq!(stat_field(stat, 4), Some(1));
        assert_eq!(stat_field(stat, 14), Some(150));
        assert_eq!(stat_field(stat, 15), Some(50));
        assert_eq!(stat_field(stat, 99), None);
        assert_eq!(stat_field("garbage", 14), None);
    }

    #[test]
    fn this_process_can_be_read() {
        assert!((1..=10_000).contains(&ticks_per_second()));
        assert!(cpu_seconds().unwrap() >= 0.0);
        assert!(status_bytes("VmRSS:").unwrap() > 4096.0);
        assert!(open_files().unwrap() >= 1.0);
        assert!(max_files().unwrap() >= 1.0);
        assert!(start_seconds().unwrap() > 1_500_000_000.0);
        assert!(status_number("Threads:").unwrap() >= 1.0);
    }
}
