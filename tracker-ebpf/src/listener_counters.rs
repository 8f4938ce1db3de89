//! What is counted for each listener, and for each port without one.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, PerCpuArray},
};
use tracker_common::{classify::Family, flows::Sampling, histogram, limits, listener::ListenerCounters, ports};

use crate::{atomic, count, flows, handshake::UNTIMED};

#[map]
static LISTENER_CTRS: PerCpuArray<ListenerCounters> = PerCpuArray::with_max_entries(limits::LISTENERS + 1, 0);

/// The daemon looks through all ports each second, hence mapped.
#[map]
static CLOSED_PORTS: Array<u64> = Array::with_max_entries(ports::PORTS as u32, BPF_F_MMAPABLE);

/// Counts a SYN for a listener; `flow` is the hash of its connection.
#[inline(always)]
pub(crate) fn syn(slot: u32, family: Family, sampling: Sampling, flow: u64, sequence: u32) {
    if let Some(counters) = LISTENER_CTRS.get_ptr_mut(slot) {
        // SAFETY: this CPU's own counters.
        let counters = unsafe { &mut *counters };
        count::add_flat(&mut counters.syns, family as usize, 1);
        flows::syn(&mut counters.flows, sampling, slot, flow, sequence);
    }
}

/// A client reset a connection of the sample before its handshake was completed; `place` is where TCP looked for the
/// listener of its SYN.
#[inline(always)]
pub(crate) fn aborted(flow: u64, sequence: u32, place: impl FnOnce() -> Option<u32>) {
    let Some((slot, weight)) = flows::reset(flow, sequence) else { return };
    let slot = match place() {
        Some(slot) => slot,
        None => slot,
    };
    if let Some(counters) = LISTENER_CTRS.get_ptr_mut(slot) {
        // SAFETY: this CPU's own counters.
        let counters = unsafe { &mut (*counters).flows };
        counters.aborted += weight;
        counters.aborted_variance += weight * (weight - 1);
    }
}

/// Counts, or with minus one takes back, a SYN sent to the listener of `slot` that TCP looked up there, or elsewhere.
#[inline(always)]
pub(crate) fn delivered(slot: u32, here: bool, by: u64) {
    if let Some(counters) = LISTENER_CTRS.get_ptr_mut(slot) {
        // SAFETY: this CPU's own counters. The sum over all CPUs is what counts: one of them may wrap below zero.
        let counters = unsafe { &mut *counters };
        let counter = if here { &mut counters.delivered } else { &mut counters.diverted };
        *counter = counter.wrapping_add(by);
    }
}

/// Counts, or with minus one takes back, a SYN sent elsewhere that TCP looked up at the listener of `slot`.
#[inline(always)]
pub(crate) fn diverted_here(slot: u32, by: u64) {
    if let Some(counters) = LISTENER_CTRS.get_ptr_mut(slot) {
        // SAFETY: this CPU's own counters, as before.
        let counter = unsafe { &mut (*counters).diverted_here };
        *counter = counter.wrapping_add(by);
    }
}

/// Counts a completed handshake for a listener; `us` is its time, or [`UNTIMED`], `flow` the hash of its connection if
/// that can be in the sample.
#[inline(always)]
pub(crate) fn completed(slot: u32, family: Family, watched: bool, us: u64, flow: Option<u64>) {
    let Some(counters) = LISTENER_CTRS.get_ptr_mut(slot) else { return };
    // SAFETY: this CPU's own counters.
    let counters = unsafe { &mut *counters };
    let completed = if watched { &mut counters.completed } else { &mut counters.completed_unwatched };
    count::add_flat(completed, family as usize, 1);
    if let Some(flow) = flow {
        flows::completed(&mut counters.flows, slot, flow);
    }
    if us != UNTIMED {
        counters.handshake_time.count(us, histogram::HANDSHAKE_SHIFT);
    }
}

/// Counts a SYN to a local address at a port where nothing listens.
#[inline(always)]
pub(crate) fn refused_syn(port: u16) {
    if let Some(counter) = CLOSED_PORTS.get_ptr_mut(u32::from(port)) {
        // SAFETY: an aligned u64 in a map.
        unsafe { atomic::add(counter, 1) };
    }
}
