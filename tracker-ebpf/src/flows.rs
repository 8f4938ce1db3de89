//! Samples connections to tell SYN retransmissions from first SYNs, and to count the share that is completed.

use aya_ebpf::{macros::map, maps::Array};
use tracker_common::{
    flows::{self, Flow, FlowCounters, KEEP, Sampling},
    limits,
};

#[map]
static FLOWS: Array<Flow> = Array::with_max_entries(limits::FLOWS, 0);

#[map]
static SAMPLING: Array<Sampling> = Array::with_max_entries(1, 0);

/// How the sample is taken now.
#[inline(always)]
pub(crate) fn sampling() -> Sampling {
    match SAMPLING.get(0) {
        Some(sampling) => *sampling,
        None => Sampling::default(),
    }
}

/// Counts a SYN of the connection with this hash to the listener of `slot`; its sequence number tells whether it is a
/// retransmission. Two CPUs may change one entry at a time: then a retransmission may count as a first SYN.
#[inline(always)]
pub(crate) fn syn(counters: &mut FlowCounters, sampling: Sampling, slot: u32, hash: u64, sequence: u32) {
    if flows::choice(hash) & sampling.mask != 0 {
        return;
    }
    let Some(flow) = FLOWS.get_ptr_mut(flows::index(hash)) else { return };
    // SAFETY: an aligned entry of a map. No reference is made, as other CPUs write it too; any bytes are a value.
    let old = unsafe { flow.read() };
    let weight = u64::from(sampling.mask) + 1;
    if old.tag == flows::tag(hash) && old.sequence == sequence && old.epoch != 0 {
        counters.repeated += weight;
        counters.repeated_variance += weight * (weight - 1);
        return;
    }
    let epoch = sampling.epoch as u16 | 1;
    if old.state == Flow::PENDING && old.tag != flows::tag(hash) && epoch.wrapping_sub(old.epoch) < KEEP {
        counters.evicted += u64::from(old.weight);
    }
    counters.first += weight;
    let (tag, slot, weight) = (flows::tag(hash), slot as u16, weight as u16);
    // SAFETY: the entry that was read.
    unsafe { flow.write(Flow { tag, sequence, epoch, slot, weight, state: Flow::PENDING }) };
}

/// Enters a SYN that is counted for no listener, where that drives no other connection out.
#[inline(always)]
pub(crate) fn enter(sampling: Sampling, slot: u32, hash: u64, sequence: u32) {
    if flows::choice(hash) & sampling.mask != 0 {
        return;
    }
    let Some(flow) = FLOWS.get_ptr_mut(flows::index(hash)) else { return };
    // SAFETY: an aligned entry of a map. No reference is made, as other CPUs write it too; any bytes are a value.
    let old = unsafe { flow.read() };
    let epoch = sampling.epoch as u16 | 1;
    if old.state == Flow::PENDING && epoch.wrapping_sub(old.epoch) < KEEP {
        return;
    }
    let (tag, slot, weight) = (flows::tag(hash), slot as u16, (sampling.mask + 1) as u16);
    // SAFETY: the entry that was read.
    unsafe { flow.write(Flow { tag, sequence, epoch, slot, weight, state: Flow::PENDING }) };
}

/// The client of the connection with this hash reset it, with this sequence number as in the packet. Returns the slot
/// of its listener and the weight, if the connection is in the sample and its handshake was not completed: only a reset
/// that continues its SYN ends a request.
#[inline(always)]
pub(crate) fn reset(hash: u64, sequence: u32) -> Option<(u32, u64)> {
    let flow = FLOWS.get_ptr_mut(flows::index(hash))?;
    // SAFETY: an aligned entry of a map. No reference is made, as other CPUs write it too; any bytes are a value.
    unsafe {
        if (*flow).tag != flows::tag(hash) || (*flow).state != Flow::PENDING {
            return None;
        }
        if u32::from_be((*flow).sequence).wrapping_add(1) != u32::from_be(sequence) {
            return None;
        }
        (*flow).state = Flow::ABORTED;
        Some((u32::from((*flow).slot), u64::from((*flow).weight)))
    }
}

/// The handshake of the connection with this hash was completed at the listener of `slot`.
#[inline(always)]
pub(crate) fn completed(counters: &mut FlowCounters, slot: u32, hash: u64) {
    let Some(flow) = FLOWS.get_ptr_mut(flows::index(hash)) else { return };
    // SAFETY: an aligned entry of a map. No reference is made, as other CPUs write it too; any bytes are a value.
    unsafe {
        if (*flow).tag == flows::tag(hash) && u32::from((*flow).slot) == slot && (*flow).state == Flow::PENDING {
            (*flow).state = Flow::COMPLETED;
            counters.completed += u64::from((*flow).weight);
        }
    }
}
