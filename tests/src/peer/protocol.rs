//! What is said between the lab and a peer.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// A socket of a peer's, by a number that is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SocketId(pub u32);

/// How a socket is made.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the socket")]
pub struct Options {
    /// UDP instead of TCP.
    pub udp: bool,
    /// Multipath TCP, as programs in Go have it by default.
    pub multipath: bool,
    /// `AF_INET6`.
    pub ipv6: bool,
    /// `IPV6_V6ONLY`.
    pub ipv6_only: bool,
    /// `SO_REUSEADDR`.
    pub reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub reuse_port: bool,
    /// `IP_BIND_ADDRESS_NO_PORT`.
    pub without_port: bool,
    /// `O_NONBLOCK`.
    pub nonblocking: bool,
    /// `SO_BINDTODEVICE`.
    pub device: Option<String>,
    /// `IP_LOCAL_PORT_RANGE`: lowest and highest port.
    pub range: Option<(u16, u16)>,
}

/// Where connections come from.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Source {
    /// The address that is bound before `connect()`, with port 0.
    pub address: IpAddr,
    /// Whether `IP_BIND_ADDRESS_NO_PORT` is set before that.
    pub without_port: bool,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Keep {
    /// It is held as long as the process lives.
    Open,
    /// It is closed at once, before the server does, which is waited for: it is in `TIME_WAIT` then.
    Close,
    /// Only its side that writes is closed, and it is held.
    Half,
    /// It is held for this many milliseconds.
    Milliseconds(u64),
}

/// Calls of `connect()`, one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Calls {
    /// Where to.
    pub target: SocketAddr,
    /// To how many addresses in turn, of which the target's is the first.
    pub spread: u32,
    /// Where from; without it the kernel chooses.
    pub source: Option<Source>,
    /// How many.
    pub count: u32,
    /// How many a second; without it as fast as possible.
    pub rate: Option<f64>,
    /// What becomes of each.
    pub keep: Keep,
    /// Whether `connect()` does not wait.
    pub nonblocking: bool,
    /// UDP instead of TCP; IPv6 sockets with `IPV6_V6ONLY`.
    pub udp: bool,
    /// `IP_LOCAL_PORT_RANGE`: lowest and highest port.
    pub range: Option<(u16, u16)>,
}

impl Calls {
    /// `count` calls of `connect()` to `target`, as fast as possible; the connections stay open.
    #[must_use]
    pub fn held(target: SocketAddr, count: u32) -> Self {
        Self {
            target,
            spread: 1,
            source: None,
            count,
            rate: None,
            keep: Keep::Open,
            nonblocking: false,
            udp: false,
            range: None,
        }
    }
}

/// A call that returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// When it was begun, nanoseconds of the time of day.
    pub begun: u64,
    /// When it had returned and, if it was to be, the connection was closed.
    pub ended: u64,
    /// Its local port, or 0.
    pub port: u16,
    /// How it failed, if it did.
    pub error: Option<String>,
}

/// What became of calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Calls.
    pub attempted: u32,
    /// Those that succeeded.
    pub connected: u32,
    /// The others, by name of the error.
    pub failed: BTreeMap<String, u64>,
    /// Whether none is to come.
    pub done: bool,
}

/// An order for a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Make a socket.
    Open(Options),
    /// `bind()`.
    Bind(SocketId, SocketAddr),
    /// `listen()`.
    Listen(SocketId),
    /// `connect()`.
    Connect(SocketId, SocketAddr),
    /// `accept()`.
    Accept(SocketId),
    /// `shutdown()` of the side that writes.
    Shutdown(SocketId),
    /// `close()`.
    Close(SocketId),
    /// `getsockname()`.
    Local(SocketId),
    /// Make calls, and say what became of them.
    Call(Calls),
    /// Begin to make calls.
    Begin(Calls),
    /// What has become of those that were begun last.
    Progress,
    /// Each of those that were begun last.
    Log,
}

/// What a peer answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// It failed, with this error.
    Failed(String),
    /// A new socket.
    Socket(SocketId),
    /// An address.
    Address(SocketAddr),
    /// Of [`Ask::Call`] and [`Ask::Progress`].
    Tally(Tally),
    /// Of [`Ask::Log`].
    Log(Vec<Call>),
}
