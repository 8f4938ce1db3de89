//! Lifetimes of a random sample of the connections. The kernel keeps no time of birth, and a table with one for
//! each of a million connections would break the memory bound.

use aya_ebpf::{
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    macros::map,
    maps::HashMap,
};
use tracker_common::{counters::Loss, limits};

use crate::{fields::SAMPLE_MASK, losses};

#[map]
static TIMED: HashMap<u64, u64> = HashMap::with_max_entries(limits::TIMED_CONNECTIONS, 0);

/// A connection was established; perhaps its lifetime will be measured. `timed` counts those that are.
#[inline(always)]
pub(crate) fn born(socket: *const u8, timed: &mut u64) {
    // The choice is random and not by address: the kernel hands the same few sockets out again and again.
    // SAFETY: a helper without arguments.
    if unsafe { bpf_get_prandom_u32() } & SAMPLE_MASK.load() != 0 {
        return;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if TIMED.insert(socket as u64, now, 0).is_ok() {
        *timed = timed.wrapping_add(1);
    } else {
        losses::count(Loss::LifetimeTableFull);
    }
}

/// A connection ended: its lifetime in microseconds, if it was measured.
#[inline(always)]
pub(crate) fn died(socket: *const u8, timed: &mut u64) -> Option<u64> {
    let key = socket as u64;
    // SAFETY: the key is this socket's; no other event of it runs at the same time.
    let born = unsafe { *TIMED.get(key)? };
    if TIMED.remove(key).is_ok() {
        *timed = timed.wrapping_sub(1);
    }
    // SAFETY: a helper without arguments.
    Some(unsafe { bpf_ktime_get_ns() }.saturating_sub(born) / 1000)
}
