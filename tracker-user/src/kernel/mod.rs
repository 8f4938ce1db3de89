//! The border to the kernel: the only place that knows aya.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};
use tracker_model::{Snapshot, explain::SocketSeen};
use tracker_detect::{syn::Sensitivity, ports::PortSettings};

mod attach;
mod btf;
mod census;
pub mod doctor;
mod error;
mod floods;
mod half_open;
mod links;
mod listeners;
mod local;
mod maps;
mod object;
mod ports;
mod process;
mod reader;
mod refused;
pub mod route;
mod select;
mod sources;
mod syn_queue;
mod tcp_counters;
pub mod trial;
mod unseen;

pub use error::KernelError;

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
    /// Where what the detector is told is written, one JSON object a line.
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

/// Niceness of the daemon's threads: in a flood the kernel's own work takes all CPUs, and the daemon is not to go blind then. It
/// uses about 1 % of one.
const NICE: libc::c_int = -10;

/// Stack of the thread that owns the kernel side, bytes. Values of maps pass over it whole, those of `PORT_BUCKETS` with 128 KiB,
/// and a build that is not optimised copies each of them many times: 2 MiB are too few.
const STACK: usize = 16 << 20;

/// Lets the calling thread run before others. Without `CAP_SYS_NICE` it stays as it is.
pub fn prefer() {
    // SAFETY: a call without arguments that refer to memory; for Linux 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } != 0 {
        tracing::debug!("a thread keeps its priority: {}", std::io::Error::last_os_error());
    }
}

/// Gives memory back that loading took: type information of the kernel is parsed into some 10 MB and thrown away.
fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: a call without arguments that refer to memory.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What the thread is asked for, and where the answer goes.
enum Request {
    /// A fresh snapshot.
    Refresh(oneshot::Sender<Arc<Snapshot>>),
    /// The sockets that hold ports.
    Sockets(SocketsAsked, SocketsAnswer),
}

/// Where the sockets that are asked for go.
type SocketsAnswer = oneshot::Sender<Result<SocketsFound, KernelError>>;

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

/// A running kernel side. Dropping it detaches everything.
pub struct Kernel {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

impl Kernel {
    /// Loads and attaches the programs, seeds the listeners, takes the first census and starts the thread that reads.
    ///
    /// All of it works on the network namespace of the calling thread.
    pub fn start(settings: &Settings) -> Result<Self, KernelError> {
        let (requests, incoming) = mpsc::channel(16);
        let (started, ready) = std::sync::mpsc::channel();
        let settings = settings.clone();
        let thread = std::thread::Builder::new()
            .name("kernel".into())
            .stack_size(STACK)
            .spawn(move || reader::run(&settings, incoming, &started))
            .map_err(|source| KernelError::Io { what: "start a thread".into(), source })?;
        match ready.recv() {
            Ok(Ok(snapshots)) => Ok(Self { snapshots, requests: Some(requests), thread: Some(thread) }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(KernelError::Io {
                what: "start the kernel side".into(),
                source: std::io::Error::other("its thread ended"),
            }),
        }
    }

    /// The newest snapshot; at most a second old.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// Reads the kernel's maps now, with a census unless one was just taken.
    pub async fn refresh(&self) -> Arc<Snapshot> {
        let (answer, fresh) = oneshot::channel();
        if let Some(requests) = &self.requests
            && requests.send(Request::Refresh(answer)).await.is_ok()
            && let Ok(snapshot) = fresh.await
        {
            return snapshot;
        }
        self.snapshot()
    }

    /// Looks for sockets; takes as long as a pass over all descriptors of all processes.
    ///
    /// # Errors
    /// When the kernel refuses a pass, or the daemon stops.
    pub async fn sockets(&self, asked: SocketsAsked) -> Result<SocketsFound, KernelError> {
        let (answer, found) = oneshot::channel();
        if let Some(requests) = &self.requests
            && requests.send(Request::Sockets(asked, answer)).await.is_ok()
            && let Ok(found) = found.await
        {
            return found;
        }
        Err(KernelError::Io { what: "look for sockets".into(), source: std::io::Error::other("the daemon stops") })
    }

    /// Detaches everything and waits until it is done.
    pub fn stop(self) {}
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // The thread ends when nobody can ask it any more.
        self.requests = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the kernel thread panicked");
        }
    }
}
