//! Addresses of backends that are names: Services of type ExternalName.
//!
//! In flow names; out flow addresses. One resolver serves all workers, on a thread of its own that is started by the first
//! name. An answer is used for its TTL, at least a second and at most five minutes; then it is asked for again while the old
//! one still serves, and while the servers fail the last good answer stays. The number of names is bounded.

use hickory_resolver::TokioResolver;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Names that are known at a time; for one more, the one that was used longest ago is forgotten.
const NAMES: usize = 4096;
/// Longest wait of a request for the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// After an error, and after an answer without addresses.
const RETRY_AFTER: Duration = Duration::from_secs(5);
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// The resolver of the process. Cloning it shares it.
#[derive(Clone)]
pub(crate) struct Resolver {
    shared: &'static Shared,
}

struct Shared {
    names: Mutex<HashMap<Arc<str>, Entry>>,
    questions: OnceLock<Option<mpsc::UnboundedSender<Arc<str>>>>,
}

struct Entry {
    answers: watch::Sender<Option<Arc<[IpAddr]>>>,
    ask_again: Instant,
    is_asking: bool,
    last_used: Instant,
}

static SHARED: OnceLock<Shared> = OnceLock::new();

impl Resolver {
    /// The one of this process; nothing is started before the first name.
    pub(crate) fn shared() -> Self {
        let shared = SHARED.get_or_init(|| Shared { names: Mutex::default(), questions: OnceLock::new() });
        Self { shared }
    }

    /// The addresses of a name, IPv4 and IPv6; empty when there are none, or none could be found out in time.
    pub(crate) async fn addresses(&self, hostname: &Arc<str>) -> Arc<[IpAddr]> {
        if let Ok(address) = hostname.parse() {
            return Arc::new([address]);
        }
        let mut answer = self.watch(hostname);
        if let Some(known) = answer.borrow_and_update().clone() {
            return known;
        }
        let first = tokio::time::timeout(FIRST_ANSWER, answer.wait_for(Option::is_some)).await;
        match first {
            Ok(Ok(addresses)) => addresses.clone().unwrap_or_else(|| Arc::new([])),
            _ => Arc::new([]),
        }
    }

    /// The answers of a name, asking when it is time to.
    fn watch(&self, hostname: &Arc<str>) -> watch::Receiver<Option<Arc<[IpAddr]>>> {
        let now = Instant::now();
        let mut names = self.shared.lock();
        if names.len() >= NAMES && !names.contains_key(hostname) {
            let oldest = names.iter().min_by_key(|(_, entry)| entry.last_used).map(|(name, _)| name.clone());
            oldest.and_then(|oldest| names.remove(&oldest));
        }
        let entry = names.entry(hostname.clone()).or_insert_with(|| Entry {
            answers: watch::Sender::new(None),
            ask_again: now,
            is_asking: false,
            last_used: now,
        });
        entry.last_used = now;
        if !entry.is_asking && entry.ask_again <= now {
            entry.is_asking = self.shared.ask(hostname.clone());
        }
        entry.answers.subscribe()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when nobody can be asked. Each name waits at most once, so the queue is bounded by the number of names.
    fn ask(&'static self, hostname: Arc<str>) -> bool {
        let questions = self.questions.get_or_init(|| self.start());
        questions.as_ref().is_some_and(|questions| questions.send(hostname).is_ok())
    }

    fn start(&'static self) -> Option<mpsc::UnboundedSender<Arc<str>>> {
        let (sender, questions) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let thread = runtime.and_then(|runtime| {
            let body = move || runtime.block_on(self.answer(questions));
            std::thread::Builder::new().name("dns".to_owned()).spawn(body)
        });
        match thread {
            Ok(_) => Some(sender),
            Err(error) => {
                tracing::error!(%error, "names of backends cannot be resolved: the thread for DNS could not be started");
                None
            }
        }
    }

    async fn answer(&'static self, mut questions: mpsc::UnboundedReceiver<Arc<str>>) {
        let resolver = match TokioResolver::builder_tokio().and_then(|builder| builder.build()) {
            Ok(resolver) => Some(Arc::new(resolver)),
            Err(error) => {
                tracing::error!(%error, "names of backends cannot be resolved: /etc/resolv.conf could not be used");
                None
            }
        };
        while let Some(hostname) = questions.recv().await {
            let resolver = resolver.clone();
            tokio::spawn(async move {
                let answer = match &resolver {
                    Some(resolver) => look_up(resolver, &hostname).await,
                    None => None,
                };
                self.store(&hostname, answer);
            });
        }
    }

    fn store(&self, hostname: &Arc<str>, answer: Option<(Arc<[IpAddr]>, Instant)>) {
        let now = Instant::now();
        let mut names = self.lock();
        let Some(entry) = names.get_mut(hostname) else { return };
        entry.is_asking = false;
        match answer {
            Some((addresses, valid_until)) => {
                let valid = valid_until.saturating_duration_since(now).clamp(SHORTEST, LONGEST);
                entry.ask_again = now + valid;
                entry.answers.send_replace(Some(addresses));
            }
            None => {
                entry.ask_again = now + RETRY_AFTER;
                // The last good answer stays; without one, those who wait are told that there is none.
                entry.answers.send_if_modified(|known| {
                    let first = known.is_none();
                    known.get_or_insert_with(|| Arc::new([]));
                    first
                });
            }
        }
    }
}

/// Addresses and how long they hold, or nothing when the name could not be resolved.
async fn look_up(resolver: &TokioResolver, hostname: &str) -> Option<(Arc<[IpAddr]>, Instant)> {
    // A final dot keeps the search domains of the machine out.
    let name = if hostname.ends_with('.') { hostname.to_owned() } else { format!("{hostname}.") };
    match resolver.lookup_ip(name).await {
        Ok(answer) => {
            let addresses: Arc<[IpAddr]> = answer.iter().collect();
            (!addresses.is_empty()).then(|| (addresses, answer.valid_until()))
        }
        Err(error) => {
            tracing::warn!(hostname, %error, "the name of a backend could not be resolved");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_resolver_and_names_of_the_machine_resolve() {
        let resolver = Resolver::shared();
        assert_eq!(*resolver.addresses(&"192.0.2.1".into()).await, [IpAddr::from([192, 0, 2, 1])]);
        let addresses = resolver.addresses(&"localhost".into()).await;
        assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }

    #[test]
    fn the_last_good_answer_outlives_failures() {
        let shared = Shared { names: Mutex::default(), questions: OnceLock::new() };
        let name: Arc<str> = "backend.example".into();
        let now = Instant::now();
        let entry = Entry { answers: watch::Sender::new(None), ask_again: now, is_asking: true, last_used: now };
        shared.lock().insert(name.clone(), entry);
        let known = |shared: &Shared| shared.lock()[&name].answers.borrow().clone().map(|known| known.to_vec());
        shared.store(&name, None);
        assert_eq!(known(&shared), Some(vec![]), "those who wait are answered");
        let address = IpAddr::from([192, 0, 2, 1]);
        shared.store(&name, Some((Arc::new([address]), now + Duration::from_secs(30))));
        shared.store(&name, None);
        assert_eq!(known(&shared), Some(vec![address]));
        assert!(!shared.lock()[&name].is_asking);
    }
}
