//! Named threads that run one single-threaded tokio runtime each: the control thread and the workers.
//!
//! In flow a future that may use `spawn_local`. Out flows how the thread ended. Panics:
//!
//! - in a task, tokio catches it: that connection ends, the others go on. The panic hook counts and logs it.
//! - in the thread's own future, the thread ends. [`OnPanic`] says whether the process may live without it.

use std::any::Any;
use std::future::Future;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::LocalSet;

use crate::drain::Drain;
use crate::metrics::{Kind, MetricError, Registry};

/// How long the blocking tasks of a runtime may hold up the end of its thread.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

static PANICS: AtomicU64 = AtomicU64::new(0);

/// What the panic of a thread's own future means for the process.
#[derive(Clone, Debug)]
pub enum OnPanic {
    /// The others go on; whoever joins the thread sees it.
    Count,
    /// The process cannot do its work without this thread: it drains for this long and ends.
    Drain(Drain, Duration),
}

/// How a thread ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending<T> {
    /// Its future returned.
    Finished(T),
    /// Its future panicked with this message.
    Panicked(String),
}

/// A running thread.
#[derive(Debug)]
pub struct Thread<T> {
    handle: JoinHandle<Ending<T>>,
}

/// Starts a thread with a runtime of its own and runs the future that `body` makes on it. The name should have at most 15 bytes:
/// the kernel shows no more.
///
/// # Errors
/// When the runtime or the thread cannot be made, for want of files or memory.
pub fn spawn<B, F, T>(name: &str, on_panic: OnPanic, body: B) -> io::Result<Thread<T>>
where
    B: FnOnce() -> F + Send + 'static,
    F: Future<Output = T>,
    T: Send + 'static,
{
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(name.to_owned());
    let handle = thread.spawn(move || {
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            let local = LocalSet::new();
            local.block_on(&runtime, async { body().await })
        }));
        runtime.shutdown_timeout(SHUTDOWN_LIMIT);
        match result {
            Ok(value) => Ending::Finished(value),
            Err(payload) => panicked(&*payload, &on_panic),
        }
    })?;
    Ok(Thread { handle })
}

impl<T> Thread<T> {
    /// True once the thread has ended, however it did.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits for the end. Blocks the caller: not for use on a runtime.
    pub fn join(self) -> Ending<T> {
        // Outside of the caught part nothing panics, unless the destructor of a payload does.
        self.handle.join().unwrap_or_else(|payload| Ending::Panicked(message(&*payload)))
    }
}

/// Counts every panic and logs it with its place on one line. The default hook speaks as long as no log was started.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            if !tracing::dispatcher::has_been_set() {
                default(info);
                return;
            }
            let location = info.location().map(ToString::to_string).unwrap_or_default();
            let current = std::thread::current();
            tracing::error!(
                thread = current.name(),
                location,
                panic = message(info.payload()),
                "panic; please report this"
            );
        }));
    });
}

/// Registers `portcullis_panics_total`; counts once [`install_panic_hook`] was called.
///
/// # Errors
/// When it was registered before.
pub fn register(registry: &Registry) -> Result<(), MetricError> {
    let help = "Panics that were caught; each is a defect of the program.";
    registry.collect("portcullis_panics_total", help, Kind::Counter, |samples| {
        samples.add(&[], PANICS.load(Ordering::Relaxed) as f64);
    })
}

fn panicked<T>(payload: &(dyn Any + Send), on_panic: &OnPanic) -> Ending<T> {
    let message = message(payload);
    if let OnPanic::Drain(drain, grace) = on_panic {
        let current = std::thread::current();
        tracing::error!(
            thread = current.name(),
            panic = message,
            "this process cannot go on without that thread and drains"
        );
        drain.begin(*grace);
    }
    Ending::Panicked(message)
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Phase;
    use std::rc::Rc;

    #[test]
    fn a_thread_runs_local_tasks_under_its_name() {
        let thread = spawn("worker-0", OnPanic::Count, || async {
            let number = Rc::new(41);
            let sum = tokio::task::spawn_local(async move { *number + 1 }).await.unwrap();
            (sum, std::thread::current().name().map(str::to_owned))
        });
        assert_eq!(thread.unwrap().join(), Ending::Finished((42, Some("worker-0".to_owned()))));
    }

    #[test]
    fn a_panic_ends_the_thread_and_drains_the_process_if_it_must() {
        let drain = Drain::new();
        let counted: Thread<()> = spawn("counted", OnPanic::Count, || async { panic!("lost {}", 1) }).unwrap();
        assert_eq!(counted.join(), Ending::Panicked("lost 1".to_owned()));
        assert_eq!(drain.phase(), Phase::Running);
        let needed: Thread<()> =
            spawn("needed", OnPanic::Drain(drain.clone(), Duration::from_secs(5)), || async { panic!("lost") })
                .unwrap();
        assert_eq!(needed.join(), Ending::Panicked("lost".to_owned()));
        assert!(matches!(drain.phase(), Phase::Draining { .. }));
    }

    #[test]
    fn a_panic_in_a_task_leaves_the_thread_alone_and_is_counted() {
        install_panic_hook();
        let registry = Registry::new(1);
        register(&registry).unwrap();
        let before = PANICS.load(Ordering::Relaxed);
        let thread = spawn("tasks", OnPanic::Count, || async {
            tokio::task::spawn_local(async { panic!("one connection") }).await.unwrap_err().is_panic()
        });
        assert_eq!(thread.unwrap().join(), Ending::Finished(true));
        assert!(PANICS.load(Ordering::Relaxed) > before);
        assert!(registry.render(crate::metrics::Format::OpenMetrics).contains("portcullis_panics_total "));
    }

    #[test]
    fn blocking_tasks_do_not_hold_up_the_end() {
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let thread = spawn("blocked", OnPanic::Count, move || async move {
            drop(tokio::task::spawn_blocking(move || blocked.recv()));
        });
        assert_eq!(thread.unwrap().join(), Ending::Finished(()));
        drop(release);
    }
}
