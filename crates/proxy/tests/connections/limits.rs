//! How many connections may be open.

use crate::client::{get, read_to_end};
use crate::gateway::{Gateway, options};
use portcullis_proxy::ConnectionLimits;
use tokio::net::TcpStream;

#[tokio::test]
async fn one_too_many_is_closed_and_counted() {
    for (limits, reason) in [
        (ConnectionLimits { total: 2, per_client: 100 }, "total_limit"),
        (ConnectionLimits { total: 100, per_client: 2 }, "client_limit"),
    ] {
        let gateway = Gateway::http(portcullis_proxy::Options { connections: limits, ..options() }).await;
        let address = gateway.address(80);
        let mut first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        assert_eq!(get(&mut first, "a.example").await.unwrap().status, 302);
        assert_eq!(get(&mut second, "a.example").await.unwrap().status, 302);

        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(read_to_end(&mut third).await.is_empty());
        gateway.metric_becomes(&format!("portcullis_connections_refused_total{{reason=\"{reason}\"}}"), 1.0).await;

        drop(first);
        gateway.open_connections_become(80, 1.0).await;
        let mut fourth = TcpStream::connect(address).await.unwrap();
        assert_eq!(get(&mut fourth, "a.example").await.unwrap().status, 302);
    }
}
