//! The border to the kernel: the only place that knows aya and netlink. It attaches the programs, reads their maps and
//! makes snapshots of what they hold. What the figures mean belongs to tracker-detect.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    os::fd::OwnedFd,
    time::Duration,
};

use tracker_detect::ports::PortSettings;
use tracker_model::explain::SocketObservation;

/// The network namespace of the calling thread.
const OWN_NETNS: &str = "/proc/thread-self/ns/net";

mod aborted;
mod attach;
mod btf;
mod census;
mod closed_ports;
mod collector;
pub mod doctor;
mod drops;
mod error;
mod floods;
mod half_open;
mod handle;
mod interface_policy;
mod iterator;
mod links;
mod listeners;
mod listening;
mod local;
mod maps;
mod missed_events;
mod netns_facts;
mod object;
mod pace;
mod ports;
mod priority;
mod process;
mod recording;
mod requests;
pub mod route;
mod slots;
mod sources;
mod syn_queue;
mod tcp_counters;
mod thread;
mod undelivered;
mod watches;

pub use attach::clsact;
pub use error::KernelError;
pub use handle::{KernelHandle, KernelThread};
#[doc(hidden)]
pub use object::OBJECT;
pub use requests::ThreadEnds;

pub use crate::config::{Hook, KernelSettings as Settings, SocketEvents};

/// Lets the kernel count runs and run time of all BPF programs while the returned value lives. Costs each run about 20
/// ns.
///
/// # Errors
/// Needs `CAP_SYS_ADMIN`.
pub fn statistics() -> std::io::Result<OwnedFd> {
    aya::sys::enable_stats(aya::sys::Stats::RunTime).map_err(|error| error.io_error)
}

/// Which sockets are asked for.
#[derive(Clone, Debug)]
pub struct SocketsAsked {
    /// With a local port of these; none for the ports that the kernel chooses from.
    pub ports: Option<RangeInclusive<u16>>,
    /// Only those to this destination, and those on ports that `bind()` holds.
    pub destination: Option<SocketAddr>,
    /// The address of the caller, of which is said whether the host has it.
    pub address: Option<IpAddr>,
    /// The source address of connections to the destination, of which is said whether there is a way.
    pub source: Option<IpAddr>,
}

/// Which port is to be watched.
#[derive(Clone, Copy, Debug)]
pub struct ListenAsked {
    /// The local address that clients connect to; the wildcard for all.
    pub address: IpAddr,
    /// The local port.
    pub port: u16,
    /// How long.
    pub lasts: Duration,
}

/// The sockets that hold ports, and what the namespace is set to.
#[derive(Clone, Debug)]
pub struct SocketsFound {
    /// Sockets.
    pub sockets: Vec<SocketObservation>,
    /// Some were left out: there are more than are looked at.
    pub truncated: bool,
    /// Settings of the namespace.
    pub settings: PortSettings,
    /// Whether a socket may be bound to the address that was asked for.
    pub is_local: bool,
    /// Why there is no route from the source to the destination, if so.
    pub no_route: Option<String>,
    /// `net.ipv6.bindv6only`: whether IPv6 sockets take IPv6 alone unless they ask for more.
    pub ipv6_only: bool,
}
