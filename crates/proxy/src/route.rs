//! What happens to a request.

use crate::body::Body;
use crate::connection::Connection;
use crate::http::Reply;
use crate::worker::Worker;
use std::rc::Rc;

/// Answers a request; never fails: errors are responses.
pub(crate) async fn handle(_worker: &Rc<Worker>, _connection: &Rc<Connection>, _request: http::Request<Body>) -> Reply {
    Reply::from(http::Response::new(Body::full("stub\n")))
}
