//! Lifetimes of a random sample of the connections. The kernel keeps no time of birth, and a table with one for
//! each of a million connections would break the memory bound.

use aya_ebpf::{
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    macros::map,
    maps::Array,
};
use tracker_common::{
    counters::Loss,
    lifetimes::{self, ENTRIES, PLACES, Places, Timed},
};

use crate::{atomic, fields::SAMPLE_MASK, losses};

#[map]
static TIMED: Array<Places> = Array::with_max_entries(ENTRIES, 0);

/// The places of a socket's address.
#[inline(always)]
fn places(socket: *const u8) -> Option<*mut Timed> {
    Some(TIMED.get_ptr_mut(lifetimes::index(atomic::lower_half(socket)))?.cast())
}

/// A connection was established; perhaps its lifetime will be measured. `timed` counts those that are.
#[inline(always)]
pub(crate) fn born(socket: *const u8, timed: &mut u64) {
    // The choice is random and not by address: the kernel hands the same few sockets out again and again.
    // SAFETY: a helper without arguments.
    if unsafe { bpf_get_prandom_u32() } & SAMPLE_MASK.load() != 0 {
        return;
    }
    let Some(places) = places(socket) else { return };
    for place in 0..PLACES {
        // SAFETY: in bounds of an entry. Another CPU may claim a place at the same time; one of them gets it.
        unsafe {
            let timed_here = places.add(place as usize);
            let before = atomic::exchange_if(&raw mut (*timed_here).socket, 0, socket as u64);
            // One that is there already was left by an end that no event told of.
            if before == 0 || before == socket as u64 {
                (*timed_here).since = bpf_ktime_get_ns();
                *timed = timed.wrapping_add(u64::from(before == 0));
                return;
            }
        }
    }
    losses::count(Loss::LifetimeTableFull);
}

/// A connection ended: its lifetime in microseconds, if it was measured.
#[inline(always)]
pub(crate) fn died(socket: *const u8, timed: &mut u64) -> Option<u64> {
    let places = places(socket)?;
    for place in 0..PLACES {
        // SAFETY: in bounds of an entry; only events of this socket touch one with its address, and they come one by one.
        unsafe {
            let timed_here = places.add(place as usize);
            if (*timed_here).socket == socket as u64 {
                let since = (*timed_here).since;
                (*timed_here).socket = 0;
                *timed = timed.wrapping_sub(1);
                return Some(bpf_ktime_get_ns().saturating_sub(since) / 1000);
            }
        }
    }
    None
}
