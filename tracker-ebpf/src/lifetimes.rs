//! Lifetimes of a random sample of the connections. The kernel does not keep when a connection was established, and a
//! table of that for a million connections would break the memory bound.

use core::ptr::read_volatile;

use aya_ebpf::{
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns},
    macros::map,
    maps::Array,
};
use tracker_common::{
    counters::Loss,
    lifetimes::{self, BUCKET_SIZE, Bucket, ENTRIES, Timed},
};

use crate::{atomic, fields::SAMPLE_MASK, losses};

#[map]
static LIFETIMES: Array<Bucket> = Array::with_max_entries(ENTRIES, 0);

/// The bucket of a socket's address.
#[inline(always)]
fn bucket(socket: *const u8) -> Option<*mut Timed> {
    Some(LIFETIMES.get_ptr_mut(lifetimes::index(atomic::lower_half(socket)))?.cast())
}

/// A connection was established; perhaps its lifetime will be measured. `timed` counts those that are.
#[inline(always)]
pub(crate) fn start(socket: *const u8, timed: &mut u64) {
    // The choice is random and not by address: the kernel hands the same few sockets out again and again.
    // SAFETY: a helper without arguments.
    if unsafe { bpf_get_prandom_u32() } & SAMPLE_MASK.load() != 0 {
        return;
    }
    let Some(bucket) = bucket(socket) else { return };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    for place in 0..BUCKET_SIZE {
        // SAFETY: in bounds of an entry. One that has this address was left by an end without an event.
        unsafe {
            let timed_here = bucket.add(place as usize);
            if read_volatile(&raw const (*timed_here).socket) == socket as u64 {
                (*timed_here).since = now;
                return;
            }
        }
    }
    for place in 0..BUCKET_SIZE {
        // SAFETY: in bounds of an entry. Of several CPUs that claim a place one gets it.
        unsafe {
            let timed_here = bucket.add(place as usize);
            if atomic::exchange_if(&raw mut (*timed_here).socket, 0, socket as u64) == 0 {
                (*timed_here).since = now;
                *timed = timed.wrapping_add(1);
                return;
            }
        }
    }
    losses::count(Loss::LifetimeTableFull);
}

/// A connection ended: its lifetime in microseconds, if it was measured.
#[inline(always)]
pub(crate) fn end(socket: *const u8, timed: &mut u64) -> Option<u64> {
    let bucket = bucket(socket)?;
    for place in 0..BUCKET_SIZE {
        // SAFETY: in bounds of an entry. Only events of this socket, which come one by one, change a place that has its
        // address; once that is taken out, another may have it.
        unsafe {
            let timed_here = bucket.add(place as usize);
            let number = &raw mut (*timed_here).socket;
            if read_volatile(number) == socket as u64 {
                let since = read_volatile(&raw const (*timed_here).since);
                atomic::exchange_if(number, socket as u64, 0);
                *timed = timed.wrapping_sub(1);
                return Some(bpf_ktime_get_ns().saturating_sub(since) / 1000);
            }
        }
    }
    None
}
