//! Listening sockets: made by the control thread, accepted from by a worker each.
//!
//! In flow addresses; out flow groups of sockets that share an address (`SO_REUSEPORT`), one for each worker, so that the
//! kernel spreads connections and workers share no queue. On a worker, in flow clients; out flow connections, within the
//! limits of [`Limits`].
//!
//! Closing one socket of a group resets what waits in its queue. A socket is therefore emptied before it is closed, and the
//! number of workers never changes.

use crate::connection::Connection;
use crate::control::BindError;
use crate::telemetry::connections::ConnectionRefusal;
use crate::worker::{Port, PortKey, Worker};
use portcullis_runtime::drain::Kind;
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// The sockets of one address.
#[derive(Debug)]
pub(crate) struct SocketGroup {
    /// What was bound in the end.
    pub(crate) local: SocketAddr,
    /// One for each worker.
    pub(crate) sockets: Vec<TcpListener>,
}

/// Binds an address `count` times. `ours` says that this process listens on the port already, on another address.
///
/// # Errors
/// What the system said, with what to do about it.
pub(crate) fn bind(address: SocketAddr, count: usize, backlog: u32, ours: bool) -> Result<SocketGroup, BindError> {
    match bind_group(address, count, backlog, ours) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && is_without_ipv6(&error) => {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            bind_group(address, count, backlog, ours).map_err(|error| BindError::new(address, &error))
        }
        result => result.map_err(|error| BindError::new(address, &error)),
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc_errno::EAFNOSUPPORT | libc_errno::EADDRNOTAVAIL))
}

/// The two numbers that are needed, without a dependency for them. The same on every Linux that we build for.
mod libc_errno {
    pub(super) const EAFNOSUPPORT: i32 = 97;
    pub(super) const EADDRNOTAVAIL: i32 = 99;
}

fn bind_group(address: SocketAddr, count: usize, backlog: u32, ours: bool) -> io::Result<SocketGroup> {
    if address.port() != 0 && !ours {
        // With SO_REUSEPORT, another process of the same user could be on the port, and take half of the connections.
        socket(address, false)?.bind(&address.into())?;
    }
    let mut bound = address;
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(bound, true)?;
        socket.bind(&bound.into())?;
        if let Some(local) = socket.local_addr()?.as_socket() {
            bound = local;
        }
        sockets.push(socket);
    }
    // Only when all are bound: the first that listens gets connections.
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    for socket in &sockets {
        socket.listen(backlog)?;
    }
    Ok(SocketGroup { local: bound, sockets: sockets.into_iter().map(TcpListener::from).collect() })
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    // Accepted connections inherit it.
    socket.set_tcp_nodelay(true)?;
    Ok(socket)
}

/// How many connections are open, of all workers: one of the few things that they share.
pub(crate) struct Limits {
    total: usize,
    per_client: usize,
    open: AtomicUsize,
    clients: [Mutex<HashMap<u128, usize>>; 32],
}

/// Room for one connection, given back when dropped.
pub(crate) struct Permit {
    limits: Arc<Limits>,
    client: u128,
}

impl Limits {
    pub(crate) fn new(total: usize, per_client: usize) -> Arc<Self> {
        Arc::new(Self { total, per_client, open: AtomicUsize::new(0), clients: Default::default() })
    }

    /// Room for a connection of this client.
    ///
    /// # Errors
    /// Which limit is reached.
    pub(crate) fn enter(self: &Arc<Self>, client: IpAddr) -> Result<Permit, ConnectionRefusal> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.total {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(ConnectionRefusal::TotalLimit);
        }
        let client = client_key(client);
        let mut clients = self.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.entry(client).or_insert(0);
        if *open >= self.per_client {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(ConnectionRefusal::ClientLimit);
        }
        *open += 1;
        drop(clients);
        Ok(Permit { limits: self.clone(), client })
    }

    fn shard(&self, client: u128) -> &Mutex<HashMap<u128, usize>> {
        let folded = (client >> 64) as u64 ^ client as u64;
        &self.clients[(folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 59) as usize]
    }
}

/// An IPv4 address, or the network of an IPv6 address: one client has all of its 64 bits.
fn client_key(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address) & !u128::from(u64::MAX) | 1 << 63,
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.open.fetch_sub(1, Ordering::Relaxed);
        let mut clients = self.limits.shard(self.client).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = clients.get_mut(&self.client) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// How long accepting rests when the process may not open more files: something else has to close first.
const FILE_LIMIT_REST: Duration = Duration::from_millis(50);
/// How long it rests after another failure.
const FAILURE_REST: Duration = Duration::from_millis(5);

/// Accepts until told to stop, then takes what is still in the queue, and closes the socket.
///
/// Which port an accepted connection belongs to is asked for each time: the port may be replaced while its socket stays.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    key: PortKey,
    socket: TcpListener,
    mut stop: oneshot::Receiver<oneshot::Sender<()>>,
) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            return tracing::error!(gateway = %key.0, port = key.1, %error, "a listening socket could not be registered");
        }
    };
    let closed = loop {
        tokio::select! {
            biased;
            closed = &mut stop => break closed,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => admit(&worker, &key, stream, peer),
                Err(error) => rest(&worker, &error).await,
            },
        }
    };
    // Asked of the kernel itself: what tokio knows of the queue may be older.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, peer)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                admit(&worker, &key, stream, peer);
            }
        }
    }
    if let Ok(closed) = closed {
        let _ = closed.send(());
    }
}

async fn rest(worker: &Worker, error: &io::Error) {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match error.kind() {
        // The client was gone again before it was accepted.
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset => {}
        _ if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => {
            worker.connections.connection_refused(worker.shard(), ConnectionRefusal::FileLimit);
            tokio::time::sleep(FILE_LIMIT_REST).await;
        }
        _ => {
            worker.connections.connection_refused(worker.shard(), ConnectionRefusal::AcceptFailed);
            tokio::time::sleep(FAILURE_REST).await;
        }
    }
}

fn admit(worker: &Rc<Worker>, key: &PortKey, stream: TcpStream, peer: SocketAddr) {
    let Some(port) = worker.port(key) else { return };
    let permit = match worker.limits.enter(peer.ip()) {
        Ok(permit) => permit,
        Err(refusal) => return worker.connections.connection_refused(worker.shard(), refusal),
    };
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let connection = NewConnection { id: worker.next_connection(), port, stream, peer, permit };
    worker.spawn_connection(connection);
}

/// A connection that nothing was read from.
pub(crate) struct NewConnection {
    pub(crate) id: u64,
    pub(crate) port: Rc<Port>,
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: Permit,
}

impl NewConnection {
    /// As requests see it, and its bytes.
    pub(crate) fn into_parts(self) -> (Connection, TcpStream) {
        let connection = Connection {
            texts: std::cell::OnceCell::new(),
            id: self.id,
            drain: self.port.drain.clone(),
            guard: RefCell::new(self.port.drain.guard(Kind::Connection)),
            port: self.port,
            peer: self.peer,
            tls: None,
            _permit: self.permit,
        };
        (connection, self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn a_group_shares_one_address_and_its_connections_do_not_wait_for_acknowledgements() {
        let group = bind(LOOPBACK, 3, 16, false).unwrap();
        assert_eq!(group.sockets.len(), 3);
        for socket in &group.sockets {
            assert_eq!(socket.local_addr().unwrap(), group.local);
        }
        let _client = std::net::TcpStream::connect(group.local).unwrap();
        let accepted = group.sockets.iter().find_map(|socket| socket.accept().ok()).unwrap();
        assert!(accepted.0.nodelay().unwrap());
    }

    #[test]
    fn the_unspecified_address_means_both_families() {
        let group = bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0), 1, 16, false).unwrap();
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, group.local.port())).unwrap();
        if group.local.is_ipv6() {
            std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, group.local.port())).unwrap();
        }
    }

    #[test]
    fn a_port_of_someone_else_is_not_shared() {
        let group = bind(LOOPBACK, 1, 16, false).unwrap();
        let error = bind(group.local, 1, 16, false).unwrap_err();
        assert_eq!(error.address, group.local);
        assert!(error.remedy.contains("--port"), "{error}");
    }

    #[test]
    fn limits_hold_for_all_and_for_each_client() {
        let limits = Limits::new(3, 2);
        let client = |last: u8| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
        let first = limits.enter(client(1)).ok().unwrap();
        let _second = limits.enter(client(1)).ok().unwrap();
        assert_eq!(limits.enter(client(1)).err(), Some(ConnectionRefusal::ClientLimit));
        let _third = limits.enter(client(2)).ok().unwrap();
        assert_eq!(limits.enter(client(3)).err(), Some(ConnectionRefusal::TotalLimit));
        drop(first);
        assert!(limits.enter(client(1)).is_ok());
    }

    #[test]
    fn clients_are_told_apart_by_what_they_own() {
        let key = |text: &str| client_key(text.parse().unwrap());
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_ne!(key("::1"), key("0.0.0.0"));
    }
}
