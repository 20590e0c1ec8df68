//! The access log: workers never wait for it.
//!
//! In flow records, each prepared by a worker in a buffer of its own. Out flow whole lines on stdout or in a file, written by one
//! thread. Each worker has a bounded buffer; when that is full because the target is slow, records are dropped and counted.
//!
//! ```
//! use portcullis_runtime::log::{AccessLog, AccessLogOptions, JsonLine};
//!
//! let log = AccessLog::start(AccessLogOptions::default())?;
//! let mut handle = log.handle();
//! handle.write(|out| JsonLine::write(out, |line| {
//!     line.text("path", "/cart").number("status", 200);
//! }));
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Buffers are written at every interval, when one is half full, and at the end. The lock of a buffer is held for a copy by the
//! worker and for a swap by the writer; a worker that finds it taken keeps its record and hands it over with the next one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, mpsc};
use std::thread::Thread;
use std::time::Duration;

use crate::metrics::{Kind, MetricError, Registry};

/// Longest record in bytes; a longer one is dropped and counted.
const RECORD_LIMIT: usize = 64 * 1024;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// The process's standard output.
    Stdout,
    /// A file that is appended to, created with mode 0640, and opened again by [`AccessLog::reopen`].
    File(PathBuf),
}

/// How the access log behaves.
#[derive(Clone, Debug)]
pub struct AccessLogOptions {
    /// Where lines go.
    pub target: AccessLogTarget,
    /// Bytes that one worker's records may take while they wait.
    pub buffer_per_worker: usize,
    /// Longest time that a record waits.
    pub flush_interval: Duration,
}

impl Default for AccessLogOptions {
    fn default() -> Self {
        Self { target: AccessLogTarget::Stdout, buffer_per_worker: 256 * 1024, flush_interval: Duration::from_secs(1) }
    }
}

/// The writer of access records. Dropping it writes what is left, for five seconds at most.
#[derive(Debug)]
pub struct AccessLog {
    shared: Arc<Shared>,
    writer: Thread,
    /// Taken by the first who waits for the end.
    done: Mutex<Option<mpsc::Receiver<()>>>,
}

impl AccessLog {
    /// Opens the target and starts the writer thread.
    ///
    /// # Errors
    /// When the file cannot be opened or the thread cannot be started.
    pub fn start(options: AccessLogOptions) -> io::Result<Self> {
        let target = Target::open(&options.target)?;
        Self::start_with(target, options)
    }

    fn start_with(target: Target, options: AccessLogOptions) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            slots: Mutex::default(),
            options,
            stop: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            retired: Counts::default(),
        });
        let (tell, done) = mpsc::channel();
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write_until_stopped(&for_thread, target);
            // The receiver may be gone: then nobody waits.
            let _ = tell.send(());
        })?;
        Ok(Self { shared, writer: thread.thread().clone(), done: Mutex::new(Some(done)) })
    }

    /// A handle for one worker, with a buffer of its own.
    pub fn handle(&self) -> AccessLogHandle {
        let slot = Arc::new(Slot::default());
        lock(&self.shared.slots).push(slot.clone());
        AccessLogHandle {
            slot,
            record: Vec::with_capacity(1024),
            pending: Vec::new(),
            capacity: self.shared.options.buffer_per_worker,
            writer: self.writer.clone(),
        }
    }

    /// Opens the file again before the next write (log rotation). If that fails, the file that is open stays in use.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::Release);
        self.writer.unpark();
    }

    /// Records that were dropped: because a buffer was full, a record was too long, or the target could not be written.
    pub fn dropped(&self) -> u64 {
        self.shared.sum(|counts| &counts.dropped)
    }

    /// Registers `portcullis_access_log_records_total` and `portcullis_access_log_dropped_records_total`.
    ///
    /// # Errors
    /// When another access log was registered.
    pub fn register(&self, registry: &Registry) -> Result<(), MetricError> {
        let written = self.shared.clone();
        registry.collect(
            "portcullis_access_log_records_total",
            "Access records that workers handed over, dropped ones included.",
            Kind::Counter,
            move |samples| samples.add(&[], written.sum(|counts| &counts.records) as f64),
        )?;
        let dropped = self.shared.clone();
        registry.collect(
            "portcullis_access_log_dropped_records_total",
            "Access records lost because a buffer was full, a record was too long or the target could not be written.",
            Kind::Counter,
            move |samples| samples.add(&[], dropped.sum(|counts| &counts.dropped) as f64),
        )
    }

    /// Writes what is left and ends the writer. False when that took longer than `limit`: the target does not take the lines.
    pub fn close(self, limit: Duration) -> bool {
        self.finish(limit)
    }

    fn finish(&self, limit: Duration) -> bool {
        self.shared.stop.store(true, Ordering::Release);
        self.writer.unpark();
        let Some(done) = lock(&self.done).take() else { return true };
        // A writer that has ended already has dropped its end.
        !matches!(done.recv_timeout(limit), Err(mpsc::RecvTimeoutError::Timeout))
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.finish(Duration::from_secs(5));
    }
}

/// One worker's end of the access log.
#[derive(Debug)]
pub struct AccessLogHandle {
    slot: Arc<Slot>,
    record: Vec<u8>,
    /// Lines that found the lock taken.
    pending: Vec<u8>,
    capacity: usize,
    writer: Thread,
}

impl AccessLogHandle {
    /// Adds one record, which `write` appends to the buffer. Never waits. A missing newline is added; a control character inside
    /// the record becomes `?`, so that one record is one line.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.record.clear();
        write(&mut self.record);
        let counts = &self.slot.counts;
        counts.records.fetch_add(1, Ordering::Relaxed);
        if self.record.is_empty() || self.record.len() > RECORD_LIMIT {
            counts.dropped.fetch_add(1, Ordering::Relaxed);
            self.record.shrink_to(RECORD_LIMIT);
            return;
        }
        make_one_line(&mut self.record);
        let free = match self.slot.lines.try_lock() {
            Ok(lines) => Some(lines),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let Some(mut lines) = free else {
            append(&mut self.pending, &self.record, self.capacity, counts);
            return;
        };
        append(&mut lines, &self.pending, self.capacity, counts);
        append(&mut lines, &self.record, self.capacity, counts);
        let waiting = lines.len();
        drop(lines);
        self.pending.clear();
        let half_full = waiting >= self.capacity / 2;
        if half_full && !self.slot.asked.swap(true, Ordering::AcqRel) {
            self.writer.unpark();
        }
    }
}

impl Drop for AccessLogHandle {
    fn drop(&mut self) {
        append(&mut lock(&self.slot.lines), &self.pending, self.capacity, &self.slot.counts);
        self.slot.gone.store(true, Ordering::Release);
    }
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot {
    /// Whole lines that wait for the writer.
    lines: Mutex<Vec<u8>>,
    counts: Counts,
    /// The writer was woken for this buffer and has not come yet.
    asked: AtomicBool,
    gone: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    records: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    slots: Mutex<Vec<Arc<Slot>>>,
    options: AccessLogOptions,
    stop: AtomicBool,
    reopen: AtomicBool,
    /// What the slots of workers that are gone had counted, and what the writer lost.
    retired: Counts,
}

impl Shared {
    fn sum(&self, select: fn(&Counts) -> &AtomicU64) -> u64 {
        let slots = lock(&self.slots);
        let of_slots: u64 = slots.iter().map(|slot| select(&slot.counts).load(Ordering::Relaxed)).sum();
        of_slots + select(&self.retired).load(Ordering::Relaxed)
    }
}

/// Control characters would break the rule of one record per line.
fn make_one_line(record: &mut Vec<u8>) {
    if record.last() == Some(&b'\n') {
        record.pop();
    }
    for byte in &mut *record {
        if byte.is_ascii_control() {
            *byte = b'?';
        }
    }
    record.push(b'\n');
}

/// Adds whole lines; what does not fit is dropped and counted.
fn append(lines: &mut Vec<u8>, more: &[u8], capacity: usize, counts: &Counts) {
    if lines.len() + more.len() <= capacity {
        lines.extend_from_slice(more);
    } else {
        counts.dropped.fetch_add(lines_in(more), Ordering::Relaxed);
    }
}

fn lines_in(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Target {
    path: Option<PathBuf>,
    out: Box<dyn Write + Send>,
}

impl Target {
    fn open(target: &AccessLogTarget) -> io::Result<Self> {
        match target {
            AccessLogTarget::Stdout => Ok(Self { path: None, out: Box::new(io::stdout()) }),
            AccessLogTarget::File(path) => Ok(Self { out: Box::new(open_file(path)?), path: Some(path.clone()) }),
        }
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match open_file(path) {
            Ok(file) => self.out = Box::new(file),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "access log not opened again; the old file stays in use")
            }
        }
    }
}

fn open_file(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn write_until_stopped(shared: &Shared, mut target: Target) {
    let mut lines = Vec::new();
    loop {
        // Read before the buffers: what was handed over before the stop is still written.
        let stop = shared.stop.load(Ordering::Acquire);
        if shared.reopen.swap(false, Ordering::AcqRel) {
            target.reopen();
        }
        let slots = lock(&shared.slots).clone();
        for slot in slots {
            write_slot(shared, &slot, &mut lines, &mut target);
        }
        if stop {
            return;
        }
        std::thread::park_timeout(shared.options.flush_interval);
    }
}

fn write_slot(shared: &Shared, slot: &Arc<Slot>, lines: &mut Vec<u8>, target: &mut Target) {
    let gone = slot.gone.load(Ordering::Acquire);
    lines.clear();
    std::mem::swap(&mut *lock(&slot.lines), lines);
    slot.asked.store(false, Ordering::Release);
    if !lines.is_empty() && target.out.write_all(lines).and_then(|()| target.out.flush()).is_err() {
        // Some of them may have been written: a count that is too high is the safe side.
        shared.retired.dropped.fetch_add(lines_in(lines), Ordering::Relaxed);
    }
    if gone {
        let mut slots = lock(&shared.slots);
        slots.retain(|other| !Arc::ptr_eq(other, slot));
        let add =
            |total: &AtomicU64, part: &AtomicU64| total.fetch_add(part.load(Ordering::Relaxed), Ordering::Relaxed);
        add(&shared.retired.records, &slot.counts.records);
        add(&shared.retired.dropped, &slot.counts.dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Condvar;

    const NEVER: Duration = Duration::from_secs(3600);

    fn options(target: AccessLogTarget) -> AccessLogOptions {
        AccessLogOptions { target, buffer_per_worker: 4096, flush_interval: NEVER }
    }

    /// A target that takes nothing until the gate opens.
    #[derive(Clone, Default)]
    struct Stalled(Arc<(Mutex<bool>, Condvar, Mutex<Vec<u8>>)>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut open = self.0.0.lock().unwrap();
            while !*open {
                open = self.0.1.wait(open).unwrap();
            }
            self.0.2.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stalled {
        fn open(&self) {
            *self.0.0.lock().unwrap() = true;
            self.0.1.notify_all();
        }
    }

    #[test]
    fn every_record_of_every_worker_is_one_line_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut options = options(AccessLogTarget::File(path.clone()));
        options.buffer_per_worker = 1 << 20;
        let log = AccessLog::start(options).unwrap();
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                let mut handle = log.handle();
                std::thread::spawn(move || {
                    for number in 0..1000 {
                        handle.write(|out| out.extend_from_slice(format!("{worker} {number}").as_bytes()));
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(log.dropped(), 0);
        assert!(log.close(Duration::from_secs(60)));
        let text = std::fs::read_to_string(&path).unwrap();
        for worker in 0..4 {
            let prefix = format!("{worker} ");
            let numbers: Vec<usize> = text
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix))
                .map(|number| number.parse().unwrap())
                .collect();
            assert_eq!(numbers, (0..1000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_stalled_target_drops_and_counts_but_never_blocks() {
        let stalled = Stalled::default();
        let target = Target { path: None, out: Box::new(stalled.clone()) };
        let log = AccessLog::start_with(target, options(AccessLogTarget::Stdout)).unwrap();
        let registry = Registry::new(1);
        log.register(&registry).unwrap();
        let mut handle = log.handle();
        for _ in 0..1000 {
            handle.write(|out| out.extend_from_slice(&[b'x'; 99]));
        }
        let dropped = log.dropped();
        // Two buffers at most wait: the one being written and the one being filled, 40 lines of 100 bytes each.
        assert!((920..1000).contains(&dropped), "{dropped}");
        stalled.open();
        drop(handle);
        let text = registry.render(crate::metrics::Format::OpenMetrics);
        assert!(text.contains("portcullis_access_log_records_total 1000.0\n"), "{text}");
        assert!(text.contains(&format!("portcullis_access_log_dropped_records_total {dropped}.0\n")), "{text}");
        assert!(log.close(Duration::from_secs(60)));
        assert_eq!(lines_in(&stalled.0.2.lock().unwrap()), 1000 - dropped);
    }

    #[test]
    fn closing_gives_up_on_a_target_that_takes_nothing() {
        let stalled = Stalled::default();
        let target = Target { path: None, out: Box::new(stalled.clone()) };
        let log = AccessLog::start_with(target, options(AccessLogTarget::Stdout)).unwrap();
        log.handle().write(|out| out.extend_from_slice(b"record"));
        assert!(!log.close(Duration::from_millis(10)));
        stalled.open();
    }

    #[test]
    fn half_a_buffer_wakes_the_writer_and_so_does_the_interval() {
        let folder = tempfile::tempdir().unwrap();
        for (record, interval) in [(3000, NEVER), (1, Duration::from_millis(1))] {
            let path = folder.path().join(record.to_string());
            let mut options = options(AccessLogTarget::File(path.clone()));
            options.flush_interval = interval;
            let log = AccessLog::start(options).unwrap();
            let mut handle = log.handle();
            handle.write(|out| out.resize(record, b'x'));
            while std::fs::metadata(&path).unwrap().len() != record as u64 + 1 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    #[test]
    fn a_record_that_finds_the_lock_taken_goes_with_the_next_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = AccessLog::start(options(AccessLogTarget::File(path.clone()))).unwrap();
        let mut handle = log.handle();
        let slot = handle.slot.clone();
        let taken = slot.lines.lock().unwrap();
        handle.write(|out| out.extend_from_slice(b"one"));
        handle.write(|out| out.extend_from_slice(b"two"));
        drop(taken);
        handle.write(|out| out.extend_from_slice(b"three"));
        let taken = slot.lines.lock().unwrap();
        handle.write(|out| out.extend_from_slice(b"four"));
        drop(taken);
        drop(handle);
        assert_eq!(log.dropped(), 0);
        assert!(log.close(Duration::from_secs(60)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn rotation_continues_in_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = AccessLog::start(options(AccessLogTarget::File(path.clone()))).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        while !path.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        log.handle().write(|out| out.extend_from_slice(b"after"));
        assert!(log.close(Duration::from_secs(60)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "");
    }

    #[test]
    fn records_cannot_break_lines_and_oversized_ones_are_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let log = AccessLog::start(options(AccessLogTarget::File(path.clone()))).unwrap();
        let mut handle = log.handle();
        handle.write(|out| out.extend_from_slice(b"a\nb\x1b[0m\n"));
        handle.write(|out| out.resize(out.len() + 5000, b'x'));
        handle.write(|_| ());
        handle.write(|out| out.resize(70_000, b'y'));
        handle.write(|out| out.extend_from_slice(b"last"));
        drop(handle);
        assert_eq!(log.dropped(), 3);
        assert!(log.close(Duration::from_secs(60)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a?b?[0m\nlast\n");
    }
}
