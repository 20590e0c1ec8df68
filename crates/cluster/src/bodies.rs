//! Secrets and ConfigMaps that are wanted: which of them is to be read now, and what is told about them.
//!
//! A state for each name and no I/O: what flows in is what is wanted, that an object came, changed or went (its metadata
//! say so), and what reading it gave; what flows out are names to read and events. Every word about a wanted object is
//! checked by reading it, unless what was read last is of the very version of which the word speaks; so it does not matter
//! in which order words and answers arrive. An object may be read before any word came of it, and go before one does: so
//! those without a word are read again after each list.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use portcullis_api::object::ObjectError;
use portcullis_api::{Change, Object, ObjectKey};
use portcullis_model::ObjectName;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::{Problem, ReadError};
use crate::kinds::WATCHED;

/// An object that is wanted: the kind, of [`WATCHED`], and its name.
pub(crate) type Wanted = (usize, ObjectName);

/// What is to be told.
#[derive(Debug)]
pub(crate) enum Told {
    Change(Change),
    Unparsable(ObjectKey, ObjectError),
    NotPermitted(ObjectKey, ReadError),
}

/// What reading gave.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The object, and the number of its version.
    Object(Object, u64),
    Unparsable(ObjectError, u64),
    Absent,
    Failed(ReadError),
}

/// What is said of an object: there in this version, or gone.
type Word = Option<u64>;

/// All that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    entries: BTreeMap<Wanted, Entry>,
    queue: VecDeque<(Wanted, u64)>,
    /// Names of which nothing has been learnt since they were wanted.
    unanswered: usize,
    tries: u64,
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Whether whoever wants it has it.
    told: bool,
    answered: bool,
    /// The version that was read last, told or not.
    version: Option<u64>,
    /// Whether the last word was that it is there: then word will come when it goes.
    spoken_of: bool,
    backoff: Backoff,
}

#[derive(Debug)]
enum State {
    /// Queued or being read, by the try of this number; with the last word that came since.
    Reading { number: u64, word: Option<Word> },
    /// As last read.
    Settled,
    /// Not read for now: to be tried again.
    Failed { until: Instant },
    /// Lies where it may not be read.
    Outside,
}

impl Bodies {
    /// What is wanted from now on. `within` says whether an object lies where it may be read.
    pub(crate) fn want(
        &mut self,
        wanted: &BTreeSet<Wanted>,
        within: impl Fn(&Wanted) -> Result<(), ReadError>,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        let unwanted: Vec<_> = self.entries.keys().filter(|name| !wanted.contains(name)).cloned().collect();
        for name in unwanted {
            if let Some(mut entry) = self.entries.remove(&name) {
                self.unanswered -= usize::from(!entry.answered);
                told.extend(entry.leave(&name));
            }
        }
        for name in wanted {
            if self.entries.contains_key(name) {
                continue;
            }
            self.unanswered += 1;
            let entry = Entry {
                state: State::Settled,
                told: false,
                answered: false,
                version: None,
                spoken_of: false,
                backoff: Backoff::default(),
            };
            self.entries.insert(name.clone(), entry);
            told.extend(self.place(name, within(name)));
        }
        told
    }

    /// The places where objects may be read have changed.
    pub(crate) fn places_changed(&mut self, within: impl Fn(&Wanted) -> Result<(), ReadError>) -> Vec<Told> {
        let names: Vec<_> = self.entries.keys().cloned().collect();
        let mut told = Vec::new();
        for name in names {
            let permitted = within(&name);
            let was_outside = matches!(self.entries.get(&name), Some(Entry { state: State::Outside, .. }));
            if permitted.is_ok() == was_outside {
                told.extend(self.place(&name, permitted));
            }
        }
        told
    }

    /// An object is new, or the place where it lies.
    fn place(&mut self, name: &Wanted, permitted: Result<(), ReadError>) -> Vec<Told> {
        if permitted.is_ok() && is_name(&name.1) {
            self.read(name);
            return Vec::new();
        }
        let Some(entry) = self.entries.get_mut(name) else { return Vec::new() };
        let gone = entry.leave(name);
        self.unanswered -= usize::from(!entry.answered);
        entry.answered = true;
        match permitted {
            // No object can have such a name.
            Ok(()) => {
                entry.state = State::Settled;
                gone.into_iter().collect()
            }
            Err(error) => {
                entry.state = State::Outside;
                gone.into_iter().chain([Told::NotPermitted(key(name), error)]).collect()
            }
        }
    }

    /// There is word of an object: it is there in a version, or gone.
    pub(crate) fn word(&mut self, name: &Wanted, said: Word) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.spoken_of = said.is_some();
        match &mut entry.state {
            State::Reading { word, .. } => *word = Some(said),
            State::Settled if said == entry.version => {}
            State::Settled | State::Failed { .. } => self.read(name),
            State::Outside => {}
        }
    }

    /// A list of a kind is complete: of what is there in this place there has been word.
    pub(crate) fn listed(&mut self, kind: usize, namespace: Option<&str>) {
        let unheard: Vec<_> = self
            .entries
            .iter_mut()
            .filter(|((of, name), _)| *of == kind && namespace.is_none_or(|namespace| namespace == &*name.namespace))
            .filter(|(_, entry)| !entry.spoken_of)
            .filter_map(|(name, entry)| match &mut entry.state {
                State::Reading { word, .. } => {
                    *word = Some(None);
                    None
                }
                State::Settled if entry.version.is_some() => Some(name.clone()),
                State::Settled | State::Failed { .. } | State::Outside => None,
            })
            .collect();
        for name in unheard {
            self.read(&name);
        }
    }

    fn read(&mut self, name: &Wanted) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        self.tries += 1;
        entry.state = State::Reading { number: self.tries, word: None };
        self.queue.push_back((name.clone(), self.tries));
    }

    /// The next object to read, with the number of the try.
    pub(crate) fn next(&mut self) -> Option<(Wanted, u64)> {
        while let Some((name, number)) = self.queue.pop_front() {
            if self.is_reading(&name, number) {
                return Some((name, number));
            }
        }
        None
    }

    fn is_reading(&self, name: &Wanted, expected: u64) -> bool {
        self.entries
            .get(name)
            .is_some_and(|entry| matches!(entry.state, State::Reading { number, .. } if number == expected))
    }

    /// What a try gave.
    pub(crate) fn answer(&mut self, name: &Wanted, number: u64, answer: Answer, now: Instant) -> Vec<Told> {
        if !self.is_reading(name, number) {
            return Vec::new();
        }
        let Some(entry) = self.entries.get_mut(name) else { return Vec::new() };
        let word = match entry.state {
            State::Reading { word, .. } => word,
            _ => None,
        };
        let before = entry.version;
        entry.state = State::Settled;
        let mut told = Vec::new();
        match answer {
            Answer::Object(object, version) => {
                entry.backoff.reset();
                entry.version = Some(version);
                if before != Some(version) || !entry.told {
                    entry.told = true;
                    told.push(Told::Change(Change::Upsert(object)));
                }
            }
            Answer::Unparsable(error, version) => {
                entry.backoff.reset();
                entry.version = Some(version);
                if before != Some(version) {
                    told.push(Told::Unparsable(key(name), error));
                }
            }
            Answer::Absent => {
                entry.backoff.reset();
                told.extend(entry.leave(name));
            }
            Answer::Failed(error) => {
                entry.state = State::Failed { until: now + entry.backoff.next(error.problem) };
                // Without an answer nothing is known of the object; what was told stays.
                if error.problem == Problem::Unreachable {
                    return told;
                }
                if error.problem == Problem::Forbidden && before != Some(FORBIDDEN) {
                    told.extend(entry.leave(name));
                    told.push(Told::NotPermitted(key(name), error));
                    entry.version = Some(FORBIDDEN);
                }
            }
        }
        self.unanswered -= usize::from(!entry.answered);
        entry.answered = true;
        let outdated = word.is_some_and(|said| said != entry.version);
        if outdated && matches!(entry.state, State::Settled) {
            self.read(name);
        }
        told
    }

    /// When a failed one is to be tried again.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        self.entries
            .values()
            .filter_map(|entry| match entry.state {
                State::Failed { until } => Some(until),
                _ => None,
            })
            .min()
    }

    /// Those that failed are tried again when their time has come.
    pub(crate) fn try_again(&mut self, now: Instant) {
        let due: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Failed { until } if until <= now))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.read(&name);
        }
    }

    /// Whether something is known of everything that is wanted.
    pub(crate) fn is_answered(&self) -> bool {
        self.unanswered == 0
    }
}

/// In place of the version of an object that may not be read.
const FORBIDDEN: u64 = u64::MAX;

impl Entry {
    /// The object is gone for whoever wants it.
    fn leave(&mut self, name: &Wanted) -> Option<Told> {
        let had = self.told || self.version.is_some();
        self.told = false;
        self.version = None;
        had.then(|| Told::Change(Change::Delete(key(name))))
    }
}

fn key((kind, name): &Wanted) -> ObjectKey {
    WATCHED[*kind].id.key(&name.namespace, &name.name)
}

/// Whether there can be an object of this name (RFC 1123 subdomain): references are tenants' texts.
pub(crate) fn is_name(name: &ObjectName) -> bool {
    let is_subdomain = |text: &str| {
        !text.is_empty()
            && text.len() <= 253
            && text.split('.').all(|label| {
                !label.is_empty()
                    && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            })
    };
    is_subdomain(&name.namespace) && is_subdomain(&name.name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const SECRET: usize = 20;

    fn name(name: &str) -> Wanted {
        assert_eq!(WATCHED[SECRET].id.kind, "Secret");
        (SECRET, ObjectName::new("a", name))
    }

    fn wanted(names: &[&str]) -> BTreeSet<Wanted> {
        names.iter().map(|text| name(text)).collect()
    }

    fn anywhere(_: &Wanted) -> Result<(), ReadError> {
        Ok(())
    }

    fn nowhere(_: &Wanted) -> Result<(), ReadError> {
        Err(ReadError::new(Problem::Outside, "get", ""))
    }

    fn found(version: u64) -> Answer {
        let value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "namespace": "a"}});
        Answer::Object(Object::from_value(value).unwrap(), version)
    }

    fn texts(told: Vec<Told>) -> Vec<String> {
        told.into_iter()
            .map(|told| match told {
                Told::Change(Change::Upsert(object)) => format!("+{}", object.key().name()),
                Told::Change(Change::Delete(key)) => format!("-{}", key.name()),
                Told::Unparsable(key, _) => format!("?{}", key.name()),
                Told::NotPermitted(key, _) => format!("!{}", key.name()),
            })
            .collect()
    }

    /// Wants `x` and says what comes of each step.
    struct Case {
        bodies: Bodies,
        number: u64,
    }

    impl Case {
        fn new() -> Self {
            let mut bodies = Bodies::default();
            assert!(bodies.want(&wanted(&["x"]), anywhere).is_empty());
            let number = bodies.next().unwrap().1;
            Self { bodies, number }
        }

        fn answer(&mut self, answer: Answer) -> Vec<String> {
            texts(self.bodies.answer(&name("x"), self.number, answer, Instant::now()))
        }

        fn word(&mut self, version: Option<u64>) {
            self.bodies.word(&name("x"), version);
        }

        /// Whether the object is to be read (again).
        fn reads(&mut self) -> bool {
            match self.bodies.next() {
                Some((_, number)) => {
                    self.number = number;
                    true
                }
                None => false,
            }
        }
    }

    #[test]
    fn a_body_is_read_once_for_each_version() {
        let mut case = Case::new();
        assert!(!case.bodies.is_answered());
        assert_eq!(case.answer(found(1)), ["+x"]);
        assert!(case.bodies.is_answered());
        case.word(Some(1));
        assert!(!case.reads(), "the word is about what has been read");
        case.word(Some(2));
        assert!(case.reads());
        assert_eq!(case.answer(found(2)), ["+x"]);
        case.word(None);
        assert!(case.reads());
        assert_eq!(case.answer(Answer::Absent), ["-x"]);
        assert!(!case.reads());
        case.word(Some(3));
        assert!(case.reads());
    }

    #[test]
    fn a_word_during_a_read_is_checked_afterwards() {
        let mut case = Case::new();
        case.word(Some(2));
        assert_eq!(case.answer(found(1)), ["+x"]);
        assert!(case.reads(), "the answer may be older than the word");
        assert_eq!(case.answer(found(2)), ["+x"]);
        assert!(!case.reads());
        case.word(Some(3));
        assert!(case.reads());
        case.word(Some(4));
        assert_eq!(case.answer(found(4)), ["+x"]);
        assert!(!case.reads(), "the answer is what the word was about");
        case.word(None);
        assert!(case.reads());
        case.word(Some(5));
        assert_eq!(case.answer(Answer::Absent), ["-x"]);
        assert!(case.reads());
    }

    #[test]
    fn what_was_read_before_any_word_of_it_is_checked_after_a_list() {
        let mut case = Case::new();
        case.bodies.listed(SECRET, None);
        assert_eq!(case.answer(found(1)), ["+x"]);
        assert!(case.reads(), "the list came while it was being read");
        assert!(case.answer(found(1)).is_empty());
        case.bodies.listed(SECRET, Some("b"));
        assert!(!case.reads(), "another place");
        case.bodies.listed(SECRET, Some("a"));
        assert!(case.reads());
        assert_eq!(case.answer(Answer::Absent), ["-x"]);
        case.bodies.listed(SECRET, None);
        assert!(!case.reads());
        case.word(Some(2));
        assert!(case.reads());
        assert_eq!(case.answer(found(2)), ["+x"]);
        case.bodies.listed(SECRET, None);
        assert!(!case.reads(), "there will be word when it goes");
    }

    #[test]
    fn the_answer_to_a_question_of_before_is_not_heard() {
        let mut case = Case::new();
        assert!(case.bodies.want(&wanted(&[]), anywhere).is_empty());
        assert!(case.answer(found(1)).is_empty());
        assert!(case.bodies.is_answered());
        case.bodies.want(&wanted(&["x"]), anywhere);
        assert!(case.answer(found(1)).is_empty(), "of the first try");
        assert!(case.reads());
        assert_eq!(case.answer(found(1)), ["+x"]);
        assert_eq!(texts(case.bodies.want(&wanted(&["y"]), anywhere)), ["-x"]);
    }

    #[test]
    fn what_may_not_be_read_is_said_once_and_tried_again() {
        let forbidden = || Answer::Failed(ReadError::new(Problem::Forbidden, "get", ""));
        let mut case = Case::new();
        assert_eq!(case.answer(found(1)), ["+x"]);
        case.word(Some(2));
        assert!(case.reads());
        assert_eq!(case.answer(forbidden()), ["-x", "!x"]);
        for _ in 0..2 {
            let later = case.bodies.next_try().unwrap();
            case.bodies.try_again(later);
            assert!(case.reads());
            assert!(case.answer(forbidden()).is_empty());
        }
        case.word(Some(3));
        assert!(case.reads());
        assert_eq!(case.answer(found(3)), ["+x"]);
        assert_eq!(case.bodies.next_try(), None);
    }

    #[test]
    fn nothing_is_lost_while_the_api_server_is_away() {
        let unreachable = || Answer::Failed(ReadError::new(Problem::Unreachable, "get", ""));
        let mut case = Case::new();
        assert!(case.answer(unreachable()).is_empty());
        assert!(!case.bodies.is_answered());
        case.bodies.try_again(Instant::now() + Duration::from_secs(60));
        assert!(case.reads());
        assert_eq!(case.answer(found(1)), ["+x"]);
        case.word(Some(2));
        assert!(case.reads());
        assert!(case.answer(unreachable()).is_empty());
        assert!(case.bodies.is_answered());
        let failed = Answer::Failed(ReadError::new(Problem::Refused(500), "get", ""));
        let mut other = Case::new();
        assert!(other.answer(failed).is_empty());
        assert!(other.bodies.is_answered(), "an object that the API server cannot give holds nobody up");
    }

    #[test]
    fn namespaces_may_come_and_go() {
        let mut bodies = Bodies::default();
        assert_eq!(texts(bodies.want(&wanted(&["x"]), nowhere)), ["!x"]);
        assert!(bodies.is_answered() && bodies.next().is_none());
        bodies.word(&name("x"), Some(1));
        assert!(bodies.next().is_none());
        assert!(bodies.places_changed(anywhere).is_empty());
        let (_, number) = bodies.next().unwrap();
        assert_eq!(texts(bodies.answer(&name("x"), number, found(1), Instant::now())), ["+x"]);
        assert!(bodies.places_changed(anywhere).is_empty() && bodies.next().is_none());
        assert_eq!(texts(bodies.places_changed(nowhere)), ["-x", "!x"]);
        assert!(bodies.places_changed(nowhere).is_empty());
    }

    #[test]
    fn a_name_that_no_object_can_have_is_not_asked_for() {
        for text in ["", "..", "../b", "a/b", "A", "a?b=c", "a\nb", &"a".repeat(254)] {
            let mut bodies = Bodies::default();
            assert!(bodies.want(&wanted(&[text]), anywhere).is_empty());
            assert!(bodies.next().is_none() && bodies.is_answered(), "{text:?}");
        }
    }
}
