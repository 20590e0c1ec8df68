//! Why a request is refused: a closed set of reasons, each with its status code and its stable name.
//!
//! In: what the head parser, the chunk decoder and the clocks found wrong. Out: a [`Refusal`], whose [`as_str`](Refusal::as_str)
//! is the same text in the answer, the log and the metric label, and whose [`status`](Refusal::status) is the answer's code.

use std::fmt;

use http::StatusCode;

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident => $status:ident, $text:literal;)*) => {
        /// Why a request was refused. Closed, so that it can be a metric label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Refusal {
            $($(#[$doc])* $name,)*
        }

        impl Refusal {
            /// Every reason there is, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The status code of the answer.
            pub fn status(self) -> StatusCode {
                match self {
                    $(Self::$name => StatusCode::$status,)*
                }
            }

            /// The stable name: lower case, words joined by an underscore.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

refusals! {
    /// The first byte is that of a TLS record: a TLS client on a plain port.
    TlsOnPlainPort => BAD_REQUEST, "tls_on_plain_port";
    /// More than one empty line before the request line (RFC 9112 section 2.2 asks for at least one to be ignored).
    EmptyLines => BAD_REQUEST, "empty_lines";
    /// A line feed without the carriage return before it.
    BareLf => BAD_REQUEST, "bare_lf";
    /// A carriage return without the line feed after it.
    BareCr => BAD_REQUEST, "bare_cr";
    /// The method is not a token.
    InvalidMethod => BAD_REQUEST, "invalid_method";
    /// The request line is not three parts with one space between each.
    InvalidRequestLine => BAD_REQUEST, "invalid_request_line";
    /// The third part of the request line is not `HTTP/`, a digit, a point and a digit.
    InvalidVersion => BAD_REQUEST, "invalid_version";
    /// A version other than HTTP/1.0 and HTTP/1.1.
    UnsupportedVersion => HTTP_VERSION_NOT_SUPPORTED, "unsupported_version";
    /// A request target that is none of the four forms, whose form does not fit the method, or with a byte no target may hold.
    InvalidTarget => BAD_REQUEST, "invalid_target";
    /// The request line is longer than a line may be.
    TargetTooLong => URI_TOO_LONG, "target_too_long";
    /// CONNECT: this is a reverse proxy, no tunnel is opened for anyone.
    ConnectNotSupported => NOT_IMPLEMENTED, "connect_not_supported";
    /// A header line is longer than a line may be.
    HeaderLineTooLong => REQUEST_HEADER_FIELDS_TOO_LARGE, "header_line_too_long";
    /// The head as a whole is larger than allowed.
    HeadTooLarge => REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large";
    /// More header lines than allowed.
    TooManyFields => REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_fields";
    /// A line that begins with a space or tab: the obsolete line folding.
    ObsFold => BAD_REQUEST, "obs_fold";
    /// A space or tab between the field name and its colon.
    SpaceBeforeColon => BAD_REQUEST, "space_before_colon";
    /// A field name that is empty, not a token, or without a colon after it.
    InvalidHeaderName => BAD_REQUEST, "invalid_header_name";
    /// A control character in a field value.
    InvalidHeaderValue => BAD_REQUEST, "invalid_header_value";
    /// A field name with an underscore, where the option says to refuse those.
    UnderscoreInHeaderName => BAD_REQUEST, "underscore_in_header_name";
    /// No Host field.
    MissingHost => BAD_REQUEST, "missing_host";
    /// More than one Host field.
    DuplicateHost => BAD_REQUEST, "duplicate_host";
    /// A Host that is empty or not a host name or address with at most a port.
    InvalidHost => BAD_REQUEST, "invalid_host";
    /// The authority of an absolute request target is not the Host field's.
    HostMismatch => BAD_REQUEST, "host_mismatch";
    /// A Content-Length that is not a plain number of digits, or larger than 2^63-1.
    InvalidContentLength => BAD_REQUEST, "invalid_content_length";
    /// More than one Content-Length field, equal or not.
    DuplicateContentLength => BAD_REQUEST, "duplicate_content_length";
    /// More than one Transfer-Encoding field, or `chunked` named twice.
    DuplicateTransferEncoding => BAD_REQUEST, "duplicate_transfer_encoding";
    /// A Transfer-Encoding that is no list of tokens.
    InvalidTransferEncoding => BAD_REQUEST, "invalid_transfer_encoding";
    /// A transfer coding other than `chunked`.
    UnsupportedTransferCoding => NOT_IMPLEMENTED, "unsupported_transfer_coding";
    /// Transfer-Encoding in an HTTP/1.0 request.
    TransferEncodingInHttp10 => BAD_REQUEST, "transfer_encoding_in_http10";
    /// Content-Length beside Transfer-Encoding.
    LengthAndTransferEncoding => BAD_REQUEST, "length_and_transfer_encoding";
    /// A Connection field that is no list of tokens.
    InvalidConnection => BAD_REQUEST, "invalid_connection";
    /// A Connection field that names a field meant for the recipient, such as Host or Authorization.
    ForbiddenConnectionOption => BAD_REQUEST, "forbidden_connection_option";
    /// An Upgrade that is no list of protocols, or is there more than once.
    InvalidUpgrade => BAD_REQUEST, "invalid_upgrade";
    /// A request for an upgrade that has a body.
    UpgradeWithBody => BAD_REQUEST, "upgrade_with_body";
    /// A TRACE request that has a body.
    TraceWithBody => BAD_REQUEST, "trace_with_body";
    /// An Expect other than `100-continue`.
    UnsupportedExpectation => EXPECTATION_FAILED, "unsupported_expectation";
    /// The head did not arrive in time.
    HeaderTimeout => REQUEST_TIMEOUT, "header_timeout";
    /// A chunk size that is not hexadecimal digits alone.
    InvalidChunkSize => BAD_REQUEST, "invalid_chunk_size";
    /// A chunk size with more digits than allowed, or larger than 2^63-1.
    ChunkSizeTooLarge => BAD_REQUEST, "chunk_size_too_large";
    /// A chunk extension: nobody uses them, but for smuggling.
    ChunkExtension => BAD_REQUEST, "chunk_extension";
    /// A chunk's data is not followed by a line end.
    InvalidChunkEnd => BAD_REQUEST, "invalid_chunk_end";
    /// The trailer section is larger than allowed.
    TrailersTooLarge => REQUEST_HEADER_FIELDS_TOO_LARGE, "trailers_too_large";
    /// A trailer field that may only stand in the head, such as Content-Length or Authorization.
    ForbiddenTrailer => BAD_REQUEST, "forbidden_trailer";
    /// No byte of the body arrived for too long.
    BodyTimeout => REQUEST_TIMEOUT, "body_timeout";
    /// The body arrived more slowly than the minimum rate.
    BodyTooSlow => REQUEST_TIMEOUT, "body_too_slow";
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn names_are_distinct_labels_and_every_status_is_an_error() {
        let mut names: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for refusal in Refusal::ALL {
            assert!(
                refusal.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            );
            assert!(refusal.status().is_client_error() || refusal.status().is_server_error());
        }
    }
}
