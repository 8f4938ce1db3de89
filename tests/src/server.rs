//! Listening sockets and servers whose every step a case decides.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::namespace::Namespace;

/// How a listening socket is made.
#[derive(Clone, Copy, Debug)]
pub struct ListenOptions {
    /// Argument of `listen()`.
    pub backlog: i32,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// Whether an IPv6 socket takes IPv4 too.
    pub dual_stack: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self { backlog: 4096, reuse_port: false, dual_stack: false }
    }
}

/// Listens inside a namespace.
pub fn listen(namespace: &Namespace, address: SocketAddr, options: ListenOptions) -> Result<TcpListener> {
    namespace.enter(|| listen_here(address, options)).with_context(|| format!("listen on {address}"))
}

/// Listens in the namespace of the calling thread.
pub fn listen_here(address: SocketAddr, options: ListenOptions) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!options.dual_stack)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog)?;
    Ok(socket.into())
}

/// Makes the next close of a connection send a reset.
///
/// # Panics
/// When `SO_LINGER` cannot be set, which would make the case another one.
pub fn reset_on_close(stream: &TcpStream) {
    SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER of 0");
}

/// Waits until the peer closes or resets.
pub fn wait_for_close(stream: &mut TcpStream) {
    let mut buffer = [0; 512];
    while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
}

/// Both ends of one connection, made from inside `client` to `listener`.
pub fn connected(client: &Namespace, target: SocketAddr, listener: &TcpListener) -> Result<(TcpStream, TcpStream)> {
    let ours = client.enter(|| TcpStream::connect(target)).with_context(|| format!("connect to {target}"))?;
    let (theirs, _) = listener.accept()?;
    for stream in [&ours, &theirs] {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    }
    Ok((ours, theirs))
}
