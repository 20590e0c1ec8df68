//! One kind in one place: listed, then watched from the version of the list on, for as long as it is served.
//!
//! A watch that breaks off goes on from the last version that it told; if the API server no longer knows that version, a
//! new list is compared with what has been told. Whatever is told has been noted in [`Known`] at the same moment, so that
//! a reader may be interrupted anywhere and nothing is told twice or left out.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::buffer::Buffer;
use crate::connect::Client;
use crate::decode::{self, Head, Item, Line};
use crate::error::{Problem, ReadError};
use crate::kinds::WATCHED;
use crate::known::{Known, Lost};
use crate::pages::Pages;
use crate::request::{OBJECT_LIMIT, Status, TOO_LARGE, Target, next_frame};
use crate::statistics::{Counters, Statistics};

/// What a watcher is to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// Nothing yet; what has been told stays.
    Wait,
    /// Read the kind in this version. The number changes when the kind has been defined anew.
    Read(Arc<str>, u32),
    /// The kind is not served: everything is gone.
    Absent,
    /// The place is no longer one to look at: everything is gone, and so is the watcher.
    End,
}

/// Which watcher.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Source {
    /// Of [`WATCHED`].
    pub(crate) kind: usize,
    /// None for the whole cluster.
    pub(crate) namespace: Option<Arc<str>>,
}

/// What a watcher tells.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) source: Source,
    pub(crate) news: News,
}

#[derive(Debug)]
pub(crate) enum News {
    /// Objects, in order.
    Items(Vec<Item>),
    /// Everything has been told, and changes will be.
    Listed,
    /// It cannot be read.
    Unreadable(ReadError),
    /// The API server does not know the kind (any more).
    Missing,
    /// Everything is gone, as ordered.
    Absent,
    /// Everything is gone, as ordered, and this is the last word.
    Ended,
}

/// How long an API server may keep a watch open: at least this, and up to a fifth more so that not all end at once.
const LIFETIME: Duration = Duration::from_secs(240);
/// How much later than agreed an API server may end a watch.
const GRACE: Duration = Duration::from_secs(20);
/// A watch that ends sooner than this is not begun again at once.
const SHORTEST: Duration = Duration::from_secs(1);
/// How long something may go on failing, with no word about rights, before it is told.
const SILENCE: Duration = Duration::from_secs(10);
/// How many watches in a row may end in nonsense before a list is tried instead.
const NONSENSE: u32 = 3;

/// One watcher.
pub(crate) struct Watcher {
    client: Client,
    source: Source,
    orders: watch::Receiver<Order>,
    reports: mpsc::Sender<Report>,
    statistics: Arc<Statistics>,
    known: Known,
    /// What was read last, to tell a new version from the old one.
    version: Option<Arc<str>>,
    /// From which version of the list to watch; none if it has to be listed.
    position: Option<Arc<str>>,
    /// Since when nothing works, and what has been told about it.
    trouble: Option<Trouble>,
    nonsense: u32,
}

struct Trouble {
    since: Instant,
    told: Option<Problem>,
}

/// The other side is gone.
struct Closed;

impl Watcher {
    pub(crate) fn new(
        client: Client,
        source: Source,
        orders: watch::Receiver<Order>,
        reports: mpsc::Sender<Report>,
        statistics: Arc<Statistics>,
    ) -> Self {
        Self {
            client,
            source,
            orders,
            reports,
            statistics,
            known: Known::default(),
            version: None,
            position: None,
            trouble: None,
            nonsense: 0,
        }
    }

    /// Follows orders until the last one.
    pub(crate) async fn run(mut self) {
        let mut orders = self.orders.clone();
        loop {
            let order = orders.borrow_and_update().clone();
            let done = match order {
                Order::Wait => Ok(()),
                Order::Read(version, _) => {
                    tokio::select! {
                        biased;
                        changed = orders.changed() => match changed {
                            Ok(()) => continue,
                            Err(_) => return,
                        },
                        closed = self.read(version) => match closed {
                            Ok(never) => match never {},
                            Err(Closed) => return,
                        },
                    }
                }
                Order::Absent => self.forget(News::Absent).await,
                Order::End => {
                    let _ = self.forget(News::Ended).await;
                    return;
                }
            };
            if done.is_err() || orders.changed().await.is_err() {
                return;
            }
        }
    }

    /// Tells that everything is gone.
    async fn forget(&mut self, last: News) -> Result<(), Closed> {
        self.position = None;
        self.version = None;
        self.trouble = None;
        let lost = self.known.clear();
        if !lost.is_empty() {
            self.tell(News::Items(self.gone(&lost))).await?;
        }
        self.tell(last).await
    }

    /// What is told of objects that are no longer there.
    fn gone(&self, lost: &[Lost]) -> Vec<Item> {
        self.counters().objects.subtract(lost.len());
        let watched = &WATCHED[self.source.kind];
        let gone = lost.iter().map(|lost| {
            let (namespace, name) = lost.split();
            decode::gone(watched, namespace, name)
        });
        gone.collect()
    }

    async fn tell(&self, news: News) -> Result<(), Closed> {
        let report = Report { source: self.source.clone(), news };
        self.reports.send(report).await.map_err(|_| Closed)
    }

    fn counters(&self) -> &Counters {
        self.statistics.of(self.source.kind)
    }

    /// Lists and watches on and on.
    async fn read(&mut self, version: Arc<str>) -> Result<Infallible, Closed> {
        if self.version.as_ref() != Some(&version) {
            self.known.forget_versions();
        }
        // Whatever led to this order, what is there now is to be compared with what has been told.
        self.position = None;
        self.version = Some(version.clone());
        let watched = &WATCHED[self.source.kind];
        let target = Target { watched, version, namespace: self.source.namespace.clone() };
        let mut reader = Reader { api_version: target.api_version(), target, backoff: Backoff::default() };
        loop {
            let result = match self.position.clone() {
                None => self.list(&mut reader).await,
                Some(position) => self.follow(&mut reader, position).await,
            };
            match result {
                Ok(()) => {}
                Err(Failure::Closed) => return Err(Closed),
                Err(Failure::Read(error)) => self.failed(&mut reader, error).await?,
            }
        }
    }

    async fn list(&mut self, reader: &mut Reader) -> Result<(), Failure> {
        self.counters().lists.add(1);
        self.known.begin_list();
        let client = self.client.clone();
        let target = reader.target.clone();
        let mut pages = Pages::new(&client, &target);
        while let Some(page) = pages.next().await? {
            let permit = self.reports.clone().reserve_owned().await.map_err(|_| Failure::Closed)?;
            let read = pages.read(&page)?;
            let items: Vec<_> = read
                .items
                .into_iter()
                .flatten()
                .filter_map(|raw| self.take(reader, &Head::read(raw.get()).ok()?, raw.get()))
                .collect();
            if !items.is_empty() {
                permit.send(Report { source: self.source.clone(), news: News::Items(items) });
            }
        }
        let permit = self.reports.clone().reserve_owned().await.map_err(|_| Failure::Closed)?;
        let lost = self.known.end_list();
        if !lost.is_empty() {
            permit.send(Report { source: self.source.clone(), news: News::Items(self.gone(&lost)) });
        }
        self.position = pages.version();
        self.nonsense = 0;
        reader.backoff.reset();
        self.trouble = None;
        self.tell(News::Listed).await.map_err(|Closed| Failure::Closed)
    }

    /// Watches until the watch ends.
    async fn follow(&mut self, reader: &mut Reader, position: Arc<str>) -> Result<(), Failure> {
        let begin = Instant::now();
        let lifetime = LIFETIME.mul_f64(1.0 + fastrand::f64() / 5.0);
        let target = reader.target.clone();
        let attempt = || target.attempt("watch");
        let mut body = target.watch(&self.client, &position, lifetime).await?;
        let statistics = self.statistics.clone();
        let _connected = Connected::new(statistics.of(self.source.kind));
        self.works_again().await?;
        let mut buffer = Buffer::new(target.is_confidential());
        while let Some(frame) = next_frame(&mut body, begin + lifetime + GRACE, attempt).await? {
            let searched = buffer.len();
            buffer.push(&frame);
            let permit = self.reports.clone().reserve_owned().await.map_err(|_| Failure::Closed)?;
            let mut items = Vec::new();
            let read = self.read_lines(reader, &mut buffer, searched, &mut items);
            if !items.is_empty() {
                permit.send(Report { source: self.source.clone(), news: News::Items(items) });
            }
            read?;
            if buffer.len() > OBJECT_LIMIT {
                return Err(ReadError::new(Problem::Malformed, attempt(), TOO_LARGE).into());
            }
        }
        if begin.elapsed() < SHORTEST {
            return Err(ReadError::new(Problem::Unreachable, attempt(), "the watch ended at once").into());
        }
        reader.backoff.reset();
        Ok(())
    }

    /// A watch was let through: if it has been said that the kind cannot be read, that is over.
    async fn works_again(&mut self) -> Result<(), Failure> {
        let told = self.trouble.take().is_some_and(|trouble| trouble.told.is_some());
        if told {
            self.tell(News::Listed).await.map_err(|Closed| Failure::Closed)?;
        }
        Ok(())
    }

    /// Reads the complete lines of a watch, up to the first that is an error.
    fn read_lines(
        &mut self,
        reader: &mut Reader,
        buffer: &mut Buffer,
        mut searched: usize,
        items: &mut Vec<Item>,
    ) -> Result<(), ReadError> {
        while let Some(length) = buffer.line(searched) {
            searched = 0;
            let line = &buffer.as_slice()[..length];
            if !line.trim_ascii().is_empty() {
                items.extend(self.read_line(reader, line)?);
            }
            buffer.consume(length);
        }
        Ok(())
    }

    fn read_line(&mut self, reader: &mut Reader, line: &[u8]) -> Result<Option<Item>, ReadError> {
        let attempt = || reader.target.attempt("watch");
        let malformed = |error: serde_json::Error| {
            // A message of serde's may hold a part of the line.
            ReadError::new(Problem::Malformed, attempt(), format_args!("not JSON in column {}", error.column()))
        };
        let line: Line<'_> = serde_json::from_slice(line).map_err(malformed)?;
        let raw = line.object.get();
        if line.r#type == "ERROR" {
            let status: Status = serde_json::from_str(raw).unwrap_or_default();
            return Err(status.into_watch_error(attempt()));
        }
        let head = Head::read(raw).map_err(malformed)?;
        let item = match &*line.r#type {
            "ADDED" | "MODIFIED" => self.take(reader, &head, raw),
            "DELETED" => self.lose(&head),
            // A bookmark, or a type of the future: it says nothing but how far the watch has come.
            _ => None,
        };
        if !head.resource_version.is_empty() {
            self.position = Some(head.resource_version.as_ref().into());
            self.nonsense = 0;
        }
        self.counters().events.add(usize::from(item.is_some()));
        reader.backoff.reset();
        Ok(item)
    }

    /// Takes note of an object that is there. Says what is to be told, if anything is.
    fn take(&mut self, reader: &Reader, head: &Head<'_>, raw: &str) -> Option<Item> {
        let watched = &WATCHED[self.source.kind];
        let (namespace, name): (&Cow<'_, str>, _) = (&head.namespace, &head.name);
        if name.is_empty() || !decode::matters(watched, name) {
            return None;
        }
        let by_content = decode::is_known_by_content(watched.id);
        let version = head.version();
        if !by_content && self.known.is_same(namespace, name, version) {
            return None;
        }
        let item = decode::present(watched, &reader.api_version, head, raw);
        let version = if by_content { decode::content(&item) } else { version };
        if by_content && self.known.is_same(namespace, name, version) {
            return None;
        }
        let before = self.known.len();
        self.known.insert(namespace, name, version);
        let counters = self.counters();
        counters.objects.add(self.known.len() - before);
        counters.unparsable.add(usize::from(matches!(item, Item::Unparsable(..))));
        Some(item)
    }

    fn lose(&mut self, head: &Head<'_>) -> Option<Item> {
        if !self.known.remove(&head.namespace, &head.name) {
            return None;
        }
        self.counters().objects.subtract(1);
        Some(decode::gone(&WATCHED[self.source.kind], &head.namespace, &head.name))
    }

    /// Tells what has to be told about a failure, and waits before the next try.
    async fn failed(&mut self, reader: &mut Reader, error: ReadError) -> Result<(), Closed> {
        self.counters().failures.add(1);
        tracing::debug!(%error, "reading is tried again");
        match error.problem {
            Problem::Expired if self.position.take().is_some() => {
                sleep(reader.backoff.next(error.problem)).await;
                return Ok(());
            }
            Problem::Malformed => {
                self.nonsense += 1;
                if self.nonsense >= NONSENSE {
                    self.position = None;
                }
            }
            Problem::NotFound if WATCHED[self.source.kind].is_custom() => {
                // The kind may be there again by then as another one.
                self.position = None;
                self.tell(News::Missing).await?;
            }
            _ => {}
        }
        let problem = error.problem;
        let now = Instant::now();
        let trouble = self.trouble.get_or_insert(Trouble { since: now, told: None });
        let at_once = matches!(problem, Problem::Forbidden | Problem::Unauthorized);
        if (at_once || now.duration_since(trouble.since) >= SILENCE) && trouble.told != Some(problem) {
            trouble.told = Some(problem);
            self.tell(News::Unreadable(error)).await?;
        }
        sleep(reader.backoff.next(problem)).await;
        Ok(())
    }
}

/// What is read by one order.
struct Reader {
    target: Target,
    api_version: String,
    backoff: Backoff,
}

enum Failure {
    Read(ReadError),
    Closed,
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// A watch that is open, for as long as this lives.
struct Connected<'a>(&'a Counters);

impl<'a> Connected<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.connected.add(1);
        Self(counters)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connected.subtract(1);
    }
}
