//! The pure part of filters, one file each. All text is parsed when linking; an error there is the message of a
//! [`crate::LinkProblem`], and the rule or backend that has the filter answers 500.
//!
//! What flows in: filters of the model, then requests and responses in the order of the list. What flows out: the same
//! requests and responses, edited, and answers of the gateway (redirects, preflights).

mod cors;
mod header_modifier;
mod mirror;
mod path_modifier;
mod redirect;
mod url_rewrite;

pub(crate) use cors::{LinkedCors, Preflight};
pub(crate) use header_modifier::HeaderChanges;
pub use mirror::LinkedMirror;
pub(crate) use path_modifier::{LinkedPathModifier, RewrittenPath};
pub(crate) use redirect::{LinkedRedirect, RedirectFrom};
pub(crate) use url_rewrite::LinkedUrlRewrite;

use http::{HeaderMap, HeaderValue};
use portcullis_model::Filter;

/// A filter, ready to run.
#[derive(Debug)]
pub(crate) enum LinkedFilter {
    RequestHeaders(Box<HeaderChanges>),
    ResponseHeaders(Box<HeaderChanges>),
    UrlRewrite(Box<LinkedUrlRewrite>),
    Mirror(Box<LinkedMirror>),
    Cors(Box<LinkedCors>),
}

impl LinkedFilter {
    /// `None` for a mirror with an invalid target: it gets nothing, and the request goes on.
    /// `by_prefix` says whether all of the rule's matches are PathPrefix.
    pub(crate) fn new(filter: &Filter, by_prefix: bool) -> Result<Option<Self>, String> {
        let (kind, linked) = match filter {
            Filter::RequestHeaderModifier(modifier) => {
                let changes = HeaderChanges::of_request(modifier);
                ("RequestHeaderModifier", changes.map(|changes| Some(Self::RequestHeaders(Box::new(changes)))))
            }
            Filter::ResponseHeaderModifier(modifier) => {
                let changes = HeaderChanges::of_response(modifier);
                ("ResponseHeaderModifier", changes.map(|changes| Some(Self::ResponseHeaders(Box::new(changes)))))
            }
            Filter::UrlRewrite(rewrite) => {
                let rewrite = LinkedUrlRewrite::new(rewrite, by_prefix);
                ("URLRewrite", rewrite.map(|rewrite| Some(Self::UrlRewrite(Box::new(rewrite)))))
            }
            Filter::RequestMirror(mirror) => {
                ("RequestMirror", Ok(LinkedMirror::new(mirror).map(|mirror| Self::Mirror(Box::new(mirror)))))
            }
            Filter::Cors(cors) => ("CORS", LinkedCors::new(cors).map(|cors| Some(Self::Cors(Box::new(cors))))),
        };
        linked.map_err(|message| format!("{kind}: {message}"))
    }
}

/// Runs what concerns responses. `origin` is the request's Origin.
pub(crate) fn edit_response(filters: &[LinkedFilter], origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    for filter in filters {
        match filter {
            LinkedFilter::ResponseHeaders(changes) => changes.apply(headers),
            LinkedFilter::Cors(cors) => cors.edit_response(origin, headers),
            LinkedFilter::RequestHeaders(_) | LinkedFilter::UrlRewrite(_) | LinkedFilter::Mirror(_) => {}
        }
    }
}
