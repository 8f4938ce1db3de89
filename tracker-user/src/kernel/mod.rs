//! The border to the kernel: the only place that knows aya.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    os::fd::OwnedFd,
    path::PathBuf,
    time::Duration,
};

use tracker_model::{
    detect::Sensitivity,
    ports::{PortSettings, explain::SocketSeen},
};

mod attach;
mod btf;
mod census;
mod closed_ports;
mod collector;
pub mod doctor;
mod error;
mod floods;
mod half_open;
mod handle;
mod interface_policy;
mod iterator;
mod links;
mod listeners;
mod local;
mod maps;
mod missed_events;
mod object;
mod ports;
mod process;
mod recording;
mod requests;
pub mod route;
mod sources;
mod syn_queue;
mod tcp_counters;
mod thread;
pub mod trial;

pub use attach::clsact;
pub use error::KernelError;
pub use handle::{KernelHandle, KernelThread, ThreadEnds};

/// What the kernel side needs to know at load.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names and globs of the interfaces to watch; empty for every up, non-loopback interface.
    pub interfaces: Vec<String>,
    /// Hook for packets.
    pub hook: Hook,
    /// Hook for socket events.
    pub socket_events: SocketEvents,
    /// BTF of the running kernel; none for `/sys/kernel/btf/vmlinux`.
    pub btf: Option<PathBuf>,
    /// One in so many connections has its lifetime measured; a power of two.
    pub lifetime_sample: u32,
    /// Shortest time between two census passes.
    pub census_interval: Duration,
    /// Whether the ports of all other network namespaces are looked at too.
    pub all_netns: bool,
    /// Whether refused `bind()` calls may be seen by tracing the system call, which slows all system calls.
    pub trace_bind: bool,
    /// Whether the kernel programs log.
    pub kernel_log: bool,
    /// How readily the detector calls a flood.
    pub sensitivity: Sensitivity,
    /// Where to record what the detector sees, one JSON object a line.
    pub record: Option<PathBuf>,
}

/// Which hook sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Native XDP on physical and virtio interfaces, tc elsewhere.
    Auto,
    /// XDP, native or generic, on all.
    Xdp,
    /// tcx, or clsact before Linux 6.6, on all.
    Tc,
}

/// Which tracepoint sees socket events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketEvents {
    /// `tp_btf`, or `raw_tp` where the kernel has no BTF.
    Auto,
    /// The BTF-typed tracepoint.
    TpBtf,
    /// The raw tracepoint.
    RawTp,
}

/// Lets the kernel count runs and run time of all BPF programs while the returned value lives. Costs each run about 20 ns.
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

/// The sockets that hold ports, and what the namespace is set to.
#[derive(Clone, Debug)]
pub struct SocketsFound {
    /// Sockets.
    pub sockets: Vec<SocketSeen>,
    /// Some were left out: there are more than are looked at.
    pub truncated: bool,
    /// Settings of the namespace.
    pub settings: PortSettings,
    /// Whether a socket may be bound to the address that was asked for.
    pub is_local: bool,
    /// Why there is no way from the source to the destination, if there is none.
    pub no_way: Option<String>,
    /// `net.ipv6.bindv6only`: whether IPv6 sockets take IPv6 alone unless they ask for more.
    pub ipv6_only: bool,
}
