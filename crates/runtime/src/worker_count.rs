//! How many workers: as many as the CPUs that this process may use, rounded up.
//!
//! In flow the affinity of the process and the CPU quota of its control group (version 1 and 2). Out flows a number, at least
//! one. `std::thread::available_parallelism` reads the same sources but rounds a quota down, so that a limit of 1.9 CPUs would
//! leave 0.9 of them unused; a quota of half a CPU is one worker either way.

use std::fmt;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// What the machine allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkerCount {
    /// Workers to start.
    pub workers: NonZeroUsize,
    /// CPUs that the scheduler may place this process on.
    pub cpus: NonZeroUsize,
    /// The CPU quota of the control group, in CPUs, if there is one.
    pub quota: Option<f64>,
}

impl fmt::Display for WorkerCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} workers for {} CPUs", self.workers, self.cpus)?;
        match self.quota {
            Some(quota) => write!(f, " with a quota of {quota}"),
            None => Ok(()),
        }
    }
}

impl WorkerCount {
    /// Reads `/proc` and `/sys/fs/cgroup`. Never fails: what cannot be read does not limit.
    pub fn detect() -> Self {
        Self::detect_in(Path::new("/"))
    }

    fn detect_in(root: &Path) -> Self {
        let cpus =
            allowed_cpus(root).or_else(|| std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let quota = quota(root);
        let by_quota = quota.map_or(usize::MAX, |quota| quota.ceil() as usize);
        let workers = NonZeroUsize::new(by_quota.min(cpus.get())).unwrap_or(NonZeroUsize::MIN);
        Self { workers, cpus, quota }
    }
}

fn allowed_cpus(root: &Path) -> Option<NonZeroUsize> {
    let status = fs::read_to_string(root.join("proc/self/status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    NonZeroUsize::new(cpus_in_list(list.trim())?)
}

/// The number of CPUs in a list such as `0-3,8`.
fn cpus_in_list(list: &str) -> Option<usize> {
    list.split(',').try_fold(0usize, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// The smallest quota of this process's control group and its ancestors.
fn quota(root: &Path) -> Option<f64> {
    let membership = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mounts = root.join("sys/fs/cgroup");
    let quotas = membership.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next().unwrap_or_default();
        let path = fields.next().unwrap_or_default().trim_start_matches('/');
        match controllers {
            "" => quotas_of(&[mounts.clone(), mounts.join("unified")], path, quota_v2),
            _ if controllers.split(',').any(|controller| controller == "cpu") => {
                quotas_of(&[mounts.join(controllers), mounts.join("cpu")], path, quota_v1)
            }
            _ => Vec::new(),
        }
    });
    quotas.min_by(f64::total_cmp)
}

/// Quotas of the group and its ancestors. Inside of a container the path may be the host's, of which only the root is there.
fn quotas_of(mounts: &[PathBuf], path: &str, read: fn(&Path) -> Option<f64>) -> Vec<f64> {
    let Some(mount) = mounts.iter().find(|mount| mount.is_dir()) else { return Vec::new() };
    // A path with .. leads out of what a container sees of its groups.
    let inside = if path.split('/').any(|part| part == "..") { Path::new("") } else { Path::new(path) };
    inside.ancestors().filter_map(|group| read(&mount.join(group))).collect()
}

/// `cpu.max`: `QUOTA PERIOD` in microseconds, or `max PERIOD`.
fn quota_v2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let mut words = text.split_ascii_whitespace();
    ratio(words.next()?, words.next()?)
}

/// `cpu.cfs_quota_us`, -1 for none, and `cpu.cfs_period_us`.
fn quota_v1(group: &Path) -> Option<f64> {
    let quota = fs::read_to_string(group.join("cpu.cfs_quota_us")).ok()?;
    let period = fs::read_to_string(group.join("cpu.cfs_period_us")).ok()?;
    ratio(quota.trim(), period.trim())
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> WorkerCount {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        WorkerCount::detect_in(root.path())
    }

    const EIGHT: (&str, &str) = ("proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n");
    const V2: (&str, &str) = ("proc/self/cgroup", "0::/kubepods/pod1\n");

    #[test]
    fn quota_rounds_up_and_affinity_bounds() {
        let table: [(&str, usize); 7] = [
            ("max 100000", 8),
            ("50000 100000", 1),
            ("100000 100000", 1),
            ("100001 100000", 2),
            ("250000 100000", 3),
            ("1600000 100000", 8),
            ("garbage", 8),
        ];
        for (cpu_max, workers) in table {
            let found = machine(&[EIGHT, V2, ("sys/fs/cgroup/kubepods/pod1/cpu.max", cpu_max)]);
            assert_eq!(found.workers.get(), workers, "{cpu_max}");
        }
    }

    #[test]
    fn the_narrowest_ancestor_counts_and_a_hidden_path_falls_back_to_the_root() {
        let pod = ("sys/fs/cgroup/kubepods/pod1/cpu.max", "400000 100000");
        let found = machine(&[EIGHT, V2, pod, ("sys/fs/cgroup/kubepods/cpu.max", "150000 100000")]);
        assert_eq!((found.workers.get(), found.quota), (2, Some(1.5)));
        assert_eq!(found.to_string(), "2 workers for 8 CPUs with a quota of 1.5");
        let container =
            machine(&[EIGHT, ("proc/self/cgroup", "0::/../../pod9\n"), ("sys/fs/cgroup/cpu.max", "300000 100000")]);
        assert_eq!(container.workers.get(), 3);
    }

    #[test]
    fn version_1_quotas() {
        let group = "sys/fs/cgroup/cpu,cpuacct/docker/a";
        let membership = ("proc/self/cgroup", "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n0::/\n");
        let quota = format!("{group}/cpu.cfs_quota_us");
        let period = format!("{group}/cpu.cfs_period_us");
        let found = machine(&[EIGHT, membership, (&quota, "120000\n"), (&period, "100000\n")]);
        assert_eq!(found.workers.get(), 2);
        let found = machine(&[EIGHT, membership, (&quota, "-1\n"), (&period, "100000\n")]);
        assert_eq!((found.workers.get(), found.quota), (8, None));
    }

    #[test]
    fn cpu_lists() {
        for (list, count) in
            [("0", Some(1)), ("0-3", Some(4)), ("0-1,4,6-7", Some(5)), ("", None), ("3-1", None), ("x", None)]
        {
            assert_eq!(cpus_in_list(list), count, "{list}");
        }
    }

    #[test]
    fn this_machine_has_at_least_one() {
        let found = WorkerCount::detect();
        assert!(found.workers <= found.cpus);
    }
}
