//! What a census counts of one socket, and how: for a tuple, and for the ranges of the tuple.

use aya_ebpf::helpers::{bpf_jiffies64, bpf_ktime_get_ns};
use tracker_common::{
    fields::ABSENT,
    ports::{PortPass, TupleCounts},
    state::TIME_WAIT,
};

use crate::fields::{self, Memory as _, Typed};

/// A socket as the census sees it; `typed` is the full socket or the minisocket that it is, by its own type.
pub(crate) struct Socket {
    pub(crate) common: *const u8,
    pub(crate) typed: *const u8,
    pub(crate) family: usize,
    pub(crate) state: u8,
    pub(crate) minisocket: bool,
}

/// What is counted of a socket.
pub(crate) struct Sighting {
    state: u8,
    bound: u16,
    /// Jiffies that a minisocket still lasts; [`u32::MAX`] of others.
    left: u32,
    recent: u16,
    recyclable: u16,
}

/// No socket yet.
#[inline(always)]
pub(crate) fn none() -> TupleCounts {
    TupleCounts { next_free: u32::MAX, ..TupleCounts::default() }
}

/// Counts a socket. No sum wraps around: see [`TupleCounts`].
#[inline(always)]
pub(crate) fn add(counts: &mut TupleCounts, seen: &Sighting) {
    if let Some(count) = counts.states.get_mut(usize::from(seen.state)) {
        *count = count.wrapping_add(1);
    }
    counts.bound = counts.bound.wrapping_add(seen.bound);
    counts.recent = counts.recent.wrapping_add(seen.recent);
    counts.recyclable = counts.recyclable.wrapping_add(seen.recyclable);
    if seen.left < counts.next_free {
        counts.next_free = seen.left;
    }
}

/// What is counted of a socket: of a minisocket, in `TIME_WAIT` or an orphan's in `FIN_WAIT2`, more than of others.
///
/// # Safety
/// The pointers are those of one socket, `typed` by its own type.
#[inline(always)]
pub(crate) unsafe fn sighting(socket: &Socket, bound: bool, pass: &PortPass) -> Sighting {
    let mut seen = Sighting { state: socket.state, bound: u16::from(bound), left: u32::MAX, recent: 0, recyclable: 0 };
    if !socket.minisocket {
        return seen;
    }
    // SAFETY: the caller's `socket`, whose `typed` is a `tcp_timewait_sock` then; the helper has no arguments.
    unsafe {
        let left = (Typed::read::<u64>(socket.typed, &fields::OFF_TW_EXPIRES).wrapping_sub(bpf_jiffies64())) as u32;
        // Past its end by a moment: the timer has yet to run.
        seen.left = if left > i32::MAX as u32 { 0 } else { left };
        if socket.state != TIME_WAIT {
            return seen;
        }
        if pass.recent != 0 && seen.left.saturating_add(pass.recent) > pass.time_wait {
            seen.recent = 1;
        }
        let stamp = Typed::read::<u32>(socket.typed, &fields::OFF_TW_STAMP);
        if stamp != 0 && !bound && is_old(socket.typed, stamp, pass.reuse_delay_ms) {
            seen.recyclable = 1;
        }
    }
    seen
}

/// Whether a minisocket with timestamps is old enough that `connect()` may replace it (`tcp_twsk_unique`).
///
/// # Safety
/// `minisocket` is a `tcp_timewait_sock`.
#[inline(always)]
pub(crate) unsafe fn is_old(minisocket: *const u8, stamp: u32, delay_ms: u32) -> bool {
    // SAFETY: the caller's `minisocket`; the helper has no arguments.
    unsafe {
        let now = bpf_ktime_get_ns();
        if fields::OFF_TW_ENTRY.load() == ABSENT {
            return ((now / 1_000_000_000) as u32).wrapping_sub(stamp).cast_signed() > 0;
        }
        let entered = Typed::read::<u32>(minisocket, &fields::OFF_TW_ENTRY);
        ((now / 1_000_000) as u32).wrapping_sub(entered.wrapping_add(delay_ms)).cast_signed() > 0
    }
}
