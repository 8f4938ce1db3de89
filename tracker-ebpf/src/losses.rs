//! Counts of what could not be counted or kept.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use tracker_common::counters::Loss;

#[map]
static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::COUNT as u32, 0);

/// Counts one loss.
#[inline(always)]
pub(crate) fn count(loss: Loss) {
    if let Some(counter) = LOSSES.get_ptr_mut(loss as u32) {
        // SAFETY: the slot is this CPU's own and the program is not preempted by itself.
        unsafe { *counter += 1 }
    }
}
