//! The sample of connections that tells repeats of SYNs from first ones, and what share is completed.

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

/// A SYN of the connection with this hash came to the listener of `slot`. Whether it is a repeat is told by its sequence
/// number. Two CPUs may change one entry at a time; a repeat may then count as a first SYN.
#[inline(always)]
pub(crate) fn syn(counters: &mut FlowCounters, sampling: Sampling, slot: u32, hash: u64, sequence: u32) {
    if flows::choice(hash) & sampling.mask != 0 {
        return;
    }
    let Some(flow) = FLOWS.get_ptr_mut(flows::index(hash)) else { return };
    // SAFETY: an entry of a map; see above.
    let flow = unsafe { &mut *flow };
    let weight = u64::from(sampling.mask) + 1;
    if flow.tag == flows::tag(hash) && flow.sequence == sequence && flow.epoch != 0 {
        counters.repeated += weight;
        counters.repeated_variance += weight * (weight - 1);
        return;
    }
    let epoch = sampling.epoch as u16 | 1;
    if flow.state == Flow::PENDING && flow.tag != flows::tag(hash) && epoch.wrapping_sub(flow.epoch) < KEEP {
        counters.evicted += u64::from(flow.weight);
    }
    counters.first += weight;
    let (tag, slot, weight) = (flows::tag(hash), slot as u16, weight as u16);
    *flow = Flow { tag, sequence, epoch, slot, weight, state: Flow::PENDING };
}

/// The handshake of the connection with this hash was completed at the listener of `slot`.
#[inline(always)]
pub(crate) fn completed(counters: &mut FlowCounters, slot: u32, hash: u64) {
    let Some(flow) = FLOWS.get_ptr_mut(flows::index(hash)) else { return };
    // SAFETY: an entry of a map; see above.
    let flow = unsafe { &mut *flow };
    if flow.tag == flows::tag(hash) && u32::from(flow.slot) == slot && flow.state == Flow::PENDING {
        flow.state = Flow::COMPLETED;
        counters.completed += u64::from(flow.weight);
    }
}
