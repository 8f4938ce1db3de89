//! The border to the kernel: the only place that knows aya.

use std::{path::PathBuf, sync::Arc};

use tracker_model::Snapshot;

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
    pub census_interval: std::time::Duration,
    /// Whether the kernel programs log.
    pub kernel_log: bool,
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
    /// tp_btf, or raw_tp where the kernel has no BTF.
    Auto,
    /// The BTF-typed tracepoint.
    TpBtf,
    /// The raw tracepoint.
    RawTp,
}

/// A running kernel side. Dropping it detaches everything.
pub struct Kernel;

impl Kernel {
    /// Loads and attaches the programs, seeds the listeners, takes the first census and starts the thread that reads.
    pub fn start(_settings: &Settings) -> anyhow::Result<Self> {
        anyhow::bail!("not there yet")
    }

    /// The newest snapshot; at most a second old.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        unimplemented!()
    }

    /// Reads the kernel's maps now, with a census when the last is older than half a second.
    pub async fn refresh(&self) -> Arc<Snapshot> {
        unimplemented!()
    }

    /// Detaches everything and waits until it is done.
    pub fn stop(self) {}
}
