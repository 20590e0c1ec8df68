//! What a match asks of a request beyond Host and path: method, headers, query parameters.

use crate::RequestHead;
use crate::pattern::Pattern;
use crate::query::Query;
use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderName, Method};
use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

/// A request while it is looked up; its query is read at most once.
pub(crate) struct Lookup<'a> {
    pub(crate) head: &'a RequestHead<'a>,
    /// In normal form.
    pub(crate) path: &'a str,
    query: OnceCell<Query<'a>>,
}

impl<'a> Lookup<'a> {
    pub(crate) fn new(head: &'a RequestHead<'a>, path: &'a str) -> Self {
        Self { head, path, query: OnceCell::new() }
    }

    pub(crate) fn query(&self) -> &Query<'a> {
        self.query.get_or_init(|| Query::new(self.head.query))
    }

    /// The value of a header. Repeated lines count as one, joined by `,` (RFC 9110 5.3), cookies by `; `
    /// (RFC 9113 8.2.3). Host is the request's Host however the client sent it.
    pub(crate) fn header(&self, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
        if name == HOST {
            return (!self.head.host.is_empty()).then_some(Cow::Borrowed(self.head.host.as_bytes()));
        }
        joined(self.head.headers, name)
    }
}

fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let Some(second) = values.next() else { return Some(Cow::Borrowed(first)) };
    let separator: &[u8] = if name == COOKIE { b"; " } else { b"," };
    let mut all = first.to_vec();
    for value in std::iter::once(second).chain(values) {
        all.extend_from_slice(separator);
        all.extend_from_slice(value.as_bytes());
    }
    Some(Cow::Owned(all))
}

/// All of these must hold.
#[derive(Debug)]
pub(crate) struct Conditions {
    pub(crate) method: Option<Method>,
    pub(crate) headers: Box<[(HeaderName, Value)]>,
    pub(crate) query_params: Box<[(Arc<str>, Value)]>,
}

/// How a value is matched.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Exact(Arc<str>),
    Pattern(Arc<Pattern>),
}

impl Value {
    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Pattern(pattern) => pattern.matches(value),
        }
    }

    pub(crate) fn exact(&self) -> Option<&Arc<str>> {
        match self {
            Self::Exact(exact) => Some(exact),
            Self::Pattern(_) => None,
        }
    }
}

impl Conditions {
    pub(crate) fn hold(&self, request: &Lookup<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method == request.head.method)
            && self
                .headers
                .iter()
                .all(|(name, value)| request.header(name).is_some_and(|received| value.matches(&received)))
            && self.query_params.iter().all(|(name, value)| {
                request.query().get(name.as_bytes()).is_some_and(|received| value.matches(received))
            })
    }
}
