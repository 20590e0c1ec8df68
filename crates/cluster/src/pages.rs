//! A list, page by page. Pages that turn out too large are asked for in smaller ones.

use std::sync::Arc;

use crate::buffer::Buffer;
use crate::connect::Client;
use crate::decode::Page;
use crate::error::{Problem, ReadError};
use crate::request::{TOO_LARGE, Target};

/// How many objects a page has at most.
const PAGE: u32 = 500;

/// A list that is being read.
pub(crate) struct Pages<'a> {
    client: &'a Client,
    target: &'a Target,
    limit: u32,
    next: Next,
}

enum Next {
    First,
    From(String),
    /// The last page has been read; the list is of this version.
    End(Arc<str>),
}

impl<'a> Pages<'a> {
    pub(crate) fn new(client: &'a Client, target: &'a Target) -> Self {
        Self { client, target, limit: PAGE, next: Next::First }
    }

    /// The next page; none after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Buffer>, ReadError> {
        loop {
            let token = match &self.next {
                Next::First => "",
                Next::From(token) => token,
                Next::End(_) => return Ok(None),
            };
            match self.target.list(self.client, self.limit, token).await {
                Ok(page) => return Ok(Some(page)),
                Err(error) if error.message == TOO_LARGE && self.limit > 1 => self.limit = (self.limit / 8).max(1),
                Err(error) => return Err(error),
            }
        }
    }

    /// What is in a page that [`next`](Self::next) gave. Each is read once, before the next one.
    pub(crate) fn read<'p>(&mut self, page: &'p Buffer) -> Result<Page<'p>, ReadError> {
        let malformed = |message: String| ReadError::new(Problem::Malformed, self.target.attempt("list"), message);
        let page: Page<'p> = serde_json::from_slice(page.as_slice()).map_err(|error| malformed(error.to_string()))?;
        if page.metadata.resource_version.is_empty() {
            return Err(malformed("the list has no resourceVersion".to_owned()));
        }
        self.next = match page.metadata.r#continue.as_deref() {
            None | Some("") => Next::End(page.metadata.resource_version.as_ref().into()),
            Some(token) => Next::From(token.to_owned()),
        };
        Ok(page)
    }

    /// The version of the whole list, once its last page has been read.
    pub(crate) fn version(&self) -> Option<Arc<str>> {
        match &self.next {
            Next::End(version) => Some(version.clone()),
            Next::First | Next::From(_) => None,
        }
    }
}
