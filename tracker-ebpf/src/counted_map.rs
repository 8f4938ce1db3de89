//! Entries that are made when they are first counted: what the maps of failures, connectors and holders have in common.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    maps::HashMap,
};
use tracker_common::{counters::Loss, ports::Failure};

use crate::{
    atomic,
    fields::{self, Memory},
    losses,
};

/// The entry of a key, made by `first` when it is missing. None when the map is full, which counts as `loss`.
#[inline(always)]
pub(crate) fn entry<K, V>(map: &HashMap<K, V>, key: &K, loss: Loss, first: impl FnOnce() -> V) -> Option<*mut V> {
    if map.get_ptr_mut(key).is_none() {
        // Another CPU may have been quicker: its entry serves as well.
        let _ = map.insert(key, first(), u64::from(BPF_NOEXIST));
    }
    let entry = map.get_ptr_mut(key);
    if entry.is_none() {
        losses::count(loss);
    }
    entry
}

/// Counts a call of the running process that failed.
///
/// # Safety
/// `socket` is a full `sock` that `M` can read.
#[inline(always)]
pub(crate) unsafe fn count_failure<M: Memory, C: EbpfContext, K>(
    ctx: &C,
    map: &HashMap<K, Failure>,
    key: &K,
    socket: *const u8,
    source_port: u16,
) {
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the caller's `socket`, of which fields of `sock` are read.
    let first = || unsafe {
        Failure {
            count: 0,
            first: now,
            last: now,
            cgroup: fields::cgroup::<M>(socket),
            uid: M::read(socket, &fields::OFF_UID),
            source_port: u32::from(source_port),
            comm: ctx.command().unwrap_or_default(),
        }
    };
    let Some(failure) = entry(map, key, Loss::FailureTableFull, first) else { return };
    // SAFETY: an aligned entry of a map, which stays while the program runs. Of two CPUs either time will do.
    unsafe {
        (*failure).last = now;
        atomic::add(&raw mut (*failure).count, 1);
    }
}

/// Id of the running process.
#[inline(always)]
pub(crate) fn process() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}
