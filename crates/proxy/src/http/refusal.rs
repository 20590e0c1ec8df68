//! Why a request was refused before anything looked at what it asks for: one closed set for HTTP/1.1 and HTTP/2.

use http::StatusCode;

/// A request that is not forwarded, whatever the routes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Stands in until the set is complete.
    Malformed,
}

impl Refusal {
    /// The stable text for logs and metrics.
    pub fn as_str(self) -> &'static str {
        "malformed"
    }

    /// 400, 408, 413, 414, 417, 431, 501 or 505.
    pub fn status(self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}
