//! Answers of the gateway itself.
//!
//! In flow `decide`'s answers and failures of backends. Out flow small responses that say what a client may know: the status
//! and, where the client is at fault, the stable reason. A gRPC client gets a status of its own instead (trailers-only, with
//! the mapping of <https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).

use crate::body::Body;
use crate::http::Reply;
use crate::record::Record;
use crate::upstream::exchange::Failure;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode, Version};
use portcullis_decide::Answer;

/// What has to be known of a request to answer it.
#[derive(Clone, Copy)]
pub(crate) struct Answering {
    is_head: bool,
    is_grpc: bool,
}

impl Answering {
    /// Reads it from the request.
    pub(crate) fn new(head: &http::request::Parts) -> Self {
        let content_type = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let is_grpc = content_type
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
        Self { is_head: head.method == Method::HEAD, is_grpc: is_grpc && head.version == Version::HTTP_2 }
    }

    /// An answer of `decide`.
    pub(crate) fn reply(self, mut record: Record, answer: Answer) -> Reply {
        match answer.matched {
            Some(matched) => record.set_matched(matched),
            None => record.set_listener(answer.listener),
        }
        self.answer(record, answer.status, answer.why.as_str(), answer.headers, |_| {})
    }

    /// A request that is not even decided on.
    pub(crate) fn refuse(self, record: Record, status: StatusCode, reason: &'static str) -> Reply {
        self.answer(record, status, reason, HeaderMap::new(), |_| {})
    }

    /// A failure on the way to a backend or back.
    pub(crate) fn fail(self, record: Record, failure: Failure, edit: impl FnOnce(&mut http::response::Parts)) -> Reply {
        self.answer(record, failure.status(), failure.as_str(), HeaderMap::new(), edit)
    }

    fn answer(
        self,
        mut record: Record,
        status: StatusCode,
        reason: &'static str,
        headers: HeaderMap,
        edit: impl FnOnce(&mut http::response::Parts),
    ) -> Reply {
        record.set_reason(reason);
        record.set_status(status);
        let (mut head, ()) = Response::new(()).into_parts();
        head.headers = headers;
        let text = match self.is_grpc && !status.is_success() && !status.is_redirection() {
            true => {
                as_grpc(&mut head, status, reason);
                String::new()
            }
            false => {
                head.status = status;
                text(status, reason)
            }
        };
        if !text.is_empty() {
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        }
        edit(&mut head);
        let body = if self.is_head { Body::Empty } else { Body::full(text) };
        if let Body::Full(bytes) = &body {
            record.add_response_bytes(bytes.len() as u64);
        }
        Reply::from(Response::from_parts(head, body))
    }
}

/// The body: nothing about the inside of the gateway.
fn text(status: StatusCode, reason: &str) -> String {
    let phrase = status.canonical_reason().unwrap_or_default();
    if status.is_client_error() {
        format!("{} {phrase}: {reason}\n", status.as_u16())
    } else if status.is_server_error() {
        format!("{} {phrase}\n", status.as_u16())
    } else {
        String::new()
    }
}

fn as_grpc(head: &mut http::response::Parts, status: StatusCode, reason: &'static str) {
    let code = match status.as_u16() {
        400 | 431 => "13",
        401 => "16",
        403 => "7",
        404 => "12",
        429 | 502..=504 => "14",
        _ => "2",
    };
    head.status = StatusCode::OK;
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    head.headers.insert("grpc-status", HeaderValue::from_static(code));
    let message = if status.is_client_error() { reason } else { status.canonical_reason().unwrap_or(reason) };
    head.headers.insert("grpc-message", HeaderValue::from_static(message));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_hold_no_internals() {
        assert_eq!(text(StatusCode::NOT_FOUND, "NoRoute"), "404 Not Found: NoRoute\n");
        assert_eq!(text(StatusCode::INTERNAL_SERVER_ERROR, "RefNotPermitted"), "500 Internal Server Error\n");
        assert_eq!(text(StatusCode::FOUND, "Redirect"), "");
        assert_eq!(text(StatusCode::NO_CONTENT, "CorsPreflight"), "");
    }

    #[test]
    fn grpc_is_told_by_its_content_type_on_http_2() {
        for (content_type, version, is_grpc) in [
            ("application/grpc", Version::HTTP_2, true),
            ("application/grpc+proto", Version::HTTP_2, true),
            ("application/grpc;x=y", Version::HTTP_2, true),
            ("application/grpc-web", Version::HTTP_2, false),
            ("application/grpc", Version::HTTP_11, false),
            ("text/plain", Version::HTTP_2, false),
        ] {
            let request =
                http::Request::builder().version(version).header(CONTENT_TYPE, content_type).body(()).unwrap();
            assert_eq!(Answering::new(&request.into_parts().0).is_grpc, is_grpc, "{content_type} {version:?}");
        }
    }

    #[test]
    fn grpc_statuses() {
        for (status, code) in [(404, "12"), (503, "14"), (504, "14"), (500, "2"), (400, "13"), (421, "2")] {
            let (mut head, ()) = Response::new(()).into_parts();
            as_grpc(&mut head, StatusCode::from_u16(status).unwrap(), "Reason");
            assert_eq!(
                (head.status, &head.headers["grpc-status"]),
                (StatusCode::OK, &code.parse().unwrap()),
                "{status}"
            );
        }
    }
}
