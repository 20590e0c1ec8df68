//! HTTP towards clients.
//!
//! In flows a connection's bytes; out flow requests for [`crate::route::handle`], and its [`Reply`] back to the client.
//! HTTP/1.1 is our own strict connection (`h1`), HTTP/2 is hyper behind frame budgets (`h2`).

pub(crate) mod h1;
pub(crate) mod h2;
mod refusal;

pub(crate) use refusal::Refusal;

use crate::body::Body;
use crate::connection::Io;
use futures_util::future::LocalBoxFuture;

/// What a request came to.
pub(crate) struct Reply {
    /// The response.
    pub(crate) response: http::Response<Body>,
    /// With status 101: what runs on the connection's bytes once the head was written. HTTP/1.1 only.
    pub(crate) upgrade: Option<Upgrade>,
}

/// A tunnel that takes over a client's connection.
pub(crate) type Upgrade = Box<dyn FnOnce(Box<dyn Io>) -> LocalBoxFuture<'static, ()>>;

impl From<http::Response<Body>> for Reply {
    fn from(response: http::Response<Body>) -> Self {
        Self { response, upgrade: None }
    }
}
