//! Connections of clients with real sockets: ports, TLS, HTTP/2, limits, drains.

#![allow(unreachable_pub, reason = "the modules of one test program")]

mod client;
mod drain;
mod frames;
mod gateway;
mod hostile;
mod http2;
mod limits;
mod ports;
mod tls;
