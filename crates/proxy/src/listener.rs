//! Listening sockets: bound by the control thread, accepted from by a worker each.
