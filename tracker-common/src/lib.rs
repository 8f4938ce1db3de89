//! The contract between tracker's kernel programs and its daemon.
//!
//! Everything both sides must agree on stands here once: the layout of map values with their size
//! asserts, the names of maps, programs and kernel fields, the limits, and the classification of a
//! packet, which is pure and therefore tested on the host.
#![no_std]

pub mod classify;
pub mod counters;
pub mod flows;
mod frame;
pub mod hash;
pub mod histogram;
pub mod lifetimes;
pub mod limits;
pub mod listener;
pub mod names;
pub mod ports;
pub mod socket;
pub mod sources;

/// Version of everything in this crate that a running kernel program and a daemon share.
///
/// Raise it with every change of a map's layout or meaning.
pub const ABI_VERSION: u32 = 4;

/// TCP states as the kernel numbers them (`include/net/tcp_states.h`).
///
/// `NEW_SYN_RECV` is the kernel's own for a half-open request socket; `/proc/net/tcp` and ss(8) show it
/// as `SYN-RECV`.
pub mod state {
    /// Data can flow.
    pub const ESTABLISHED: u8 = 1;
    /// A SYN was sent, no answer yet.
    pub const SYN_SENT: u8 = 2;
    /// A connection that was accepted in a handshake (or a simultaneous open) and is not yet established.
    pub const SYN_RECV: u8 = 3;
    /// Closed here first; the FIN is not acknowledged yet.
    pub const FIN_WAIT1: u8 = 4;
    /// Closed here, the FIN is acknowledged, the peer has not closed.
    pub const FIN_WAIT2: u8 = 5;
    /// Closed here first and done; holds the port for 60 s.
    pub const TIME_WAIT: u8 = 6;
    /// No connection.
    pub const CLOSE: u8 = 7;
    /// The peer has closed, the local process has not.
    pub const CLOSE_WAIT: u8 = 8;
    /// Closed after the peer; the FIN is not acknowledged yet.
    pub const LAST_ACK: u8 = 9;
    /// Waiting for connections.
    pub const LISTEN: u8 = 10;
    /// Both sides closed at once.
    pub const CLOSING: u8 = 11;
    /// A half-open request socket.
    pub const NEW_SYN_RECV: u8 = 12;
    /// One more than the highest state number.
    pub const COUNT: usize = 13;

    /// Names of the states in metrics and JSON, by number; 0 is no state.
    pub const NAMES: [&str; COUNT] = [
        "unknown",
        "established",
        "syn_sent",
        "syn_recv",
        "fin_wait1",
        "fin_wait2",
        "time_wait",
        "close",
        "close_wait",
        "last_ack",
        "listen",
        "closing",
        "half_open",
    ];
}

/// Names of the socket families in metrics and JSON, by index.
pub const SOCKET_FAMILY_NAMES: [&str; counters::SOCKET_FAMILIES] = ["ipv4", "ipv6"];
