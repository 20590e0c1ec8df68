//! Programs that a bench starts on a core of its choice, measures, and stops.
//!
//! What flows in: a command line. What flows out: when it listens, what CPU time and memory it and its children used, and what it said when it
//! could not start. All that is started here ends with the value that stands for it.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How a program is started.
#[derive(Debug)]
pub(super) struct Program<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [String],
    /// The only core on which it runs.
    pub(super) core: usize,
    /// How many files it may have open.
    pub(super) open_files: usize,
    /// Where its output goes, but for the output of one that is spoken with.
    pub(super) log: PathBuf,
}

/// A program that runs.
pub(super) struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

const PATIENCE: Duration = Duration::from_secs(20);
/// How long it has for its end before it is killed.
const END: Duration = Duration::from_secs(5);

impl Program<'_> {
    fn command(&self) -> Result<(Command, File), String> {
        let log = File::create(&self.log).map_err(|error| format!("{}: {error}", self.log.display()))?;
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={0}:{0}", self.open_files)).args(["taskset", "-c", &self.core.to_string()]);
        command.arg(self.program).args(self.arguments);
        Ok((command, log))
    }

    /// Starts a server.
    pub(super) fn start(&self) -> Result<Process, String> {
        let (mut command, log) = self.command()?;
        let output = log.try_clone().map_err(|error| format!("{}: {error}", self.log.display()))?;
        command.stdin(Stdio::null()).stdout(output).stderr(log);
        self.spawn(command)
    }

    /// Starts a program that is spoken with over its standard input and output.
    pub(super) fn converse(&self) -> Result<(Process, ChildStdin, ChildStdout), String> {
        let (mut command, log) = self.command()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = self.spawn(command)?;
        let ends = (process.child.stdin.take(), process.child.stdout.take());
        let (Some(input), Some(output)) = ends else { return Err(format!("{}: it has no pipes", process.name)) };
        Ok((process, input, output))
    }

    fn spawn(&self, mut command: Command) -> Result<Process, String> {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|error| format!("{name} cannot be started with prlimit: {error}"))?;
        Ok(Process { child, name, log: self.log.clone() })
    }
}

impl Process {
    /// Waits until it listens on a port.
    pub(super) fn wait_for(&mut self, port: u16) -> Result<(), String> {
        let start = Instant::now();
        loop {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return Err(format!("{} ended before it listened on port {port}: {}", self.name, self.said()));
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("{} does not listen on port {port}: {}", self.name, self.said()));
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// The last of what it said.
    pub(super) fn said(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let mut last: Vec<&str> = text.lines().rev().filter(|line| !line.trim().is_empty()).take(5).collect();
        last.reverse();
        if last.is_empty() { "it said nothing".to_owned() } else { last.join("\n") }
    }

    /// Its process and those that came of it.
    pub(super) fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = pids.get(next).copied() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        pids
    }

    /// What it and its children have used until now.
    pub(super) fn usage(&self) -> Usage {
        self.pids().into_iter().map(Usage::of).fold(Usage::default(), |sum, one| Usage {
            nanoseconds: sum.nanoseconds + one.nanoseconds,
            user_ticks: sum.user_ticks + one.user_ticks,
            system_ticks: sum.system_ticks + one.system_ticks,
            resident: sum.resident + one.resident,
        })
    }

    /// Waits for its end for some time; how it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let start = Instant::now();
        while start.elapsed() < END {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        signal("TERM", &self.pids());
        if self.ended().is_none() {
            signal("KILL", &self.pids());
            // It cannot go on.
            let _ = self.child.wait();
        }
    }
}

/// Sends a signal. The shell's own `kill` is on every machine.
pub(super) fn signal(name: &str, pids: &[u32]) {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let command = format!("kill -{name} {}", pids.join(" "));
    // Some may have ended meanwhile.
    let _ = Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status();
}

/// CPU time and memory.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Usage {
    /// On a core, as the scheduler counts it (`schedstat` of each thread), exact.
    nanoseconds: u64,
    /// Ticks of 10 ms in the program and in the kernel, as `stat` has them: good for the ratio of the two, for the kernel finds out which it is by
    /// looking 250 times a second or so.
    user_ticks: u64,
    system_ticks: u64,
    /// Bytes.
    resident: u64,
}

/// CPU time in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    /// In the program and in the kernel, not a number if the time was too short to tell them apart.
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) total: f64,
}

impl Usage {
    fn of(pid: u32) -> Self {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ').collect();
        let field = |place: usize| fields.get(place).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        // utime, stime (in ticks) and rss (in pages of 4 KiB): proc_pid_stat(5).
        let (user_ticks, system_ticks, resident) = (field(11), field(12), field(21) * 4096);
        let nanoseconds = scheduled(pid).unwrap_or((user_ticks + system_ticks) * 10_000_000);
        Self { nanoseconds, user_ticks, system_ticks, resident }
    }

    /// What was used since an earlier look.
    pub(super) fn since(&self, before: &Self) -> Cpu {
        let total = self.nanoseconds.saturating_sub(before.nanoseconds) as f64 / 1e9;
        let user = self.user_ticks.saturating_sub(before.user_ticks) as f64;
        let system = self.system_ticks.saturating_sub(before.system_ticks) as f64;
        let share = user / (user + system);
        Cpu { user: total * share, system: total * (1.0 - share), total }
    }

    /// Resident memory in KiB.
    pub(super) fn resident(&self) -> u64 {
        self.resident / 1024
    }
}

/// Nanoseconds on a core of all threads; nothing where the kernel does not count them.
fn scheduled(pid: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let of_thread = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    threads.filter_map(|entry| of_thread(entry.ok()?)).reduce(|sum, one| sum + one)
}

/// Ports that nobody listens on now, each another.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    // All are held until the last is found.
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
        *port = listener.local_addr().map_err(|error| format!("no free port: {error}"))?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// How many files this process may let its children open.
pub(super) fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default();
    hard.parse().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Program, Usage};
    use std::path::Path;

    #[test]
    fn a_program_is_measured_and_ends_with_its_value() {
        let folder = std::env::temp_dir().join(format!("portcullis-process-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = |script: &str, name: &str| {
            let arguments = ["-c".to_owned(), script.to_owned()];
            let program = Path::new("sh");
            let log = folder.join(name);
            Program { program, arguments: &arguments, core: crate::bench::machine::cores()[0], open_files: 64, log }
                .start()
        };
        let process = program("while :; do :; done", "busy").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let used = process.usage().since(&Usage::default());
        assert!(used.total > 0.0, "{used:?}");
        assert!(process.usage().resident() > 0);
        let pid = process.pids()[0];
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());

        let mut failed = program("echo no such thing >&2; exit 1", "failed").unwrap();
        let [port] = super::free_ports().unwrap();
        let told = failed.wait_for(port).unwrap_err();
        assert!(told.contains("no such thing"), "{told}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_ratio_of_user_and_system_divides_the_exact_total() {
        let before = Usage { nanoseconds: 1_000_000_000, user_ticks: 10, system_ticks: 10, resident: 0 };
        let after = Usage { nanoseconds: 3_000_000_000, user_ticks: 60, system_ticks: 160, resident: 0 };
        let used = after.since(&before);
        assert_eq!((used.user, used.system, used.total), (0.5, 1.5, 2.0));
        assert!(before.since(&before).user.is_nan());
    }
}
