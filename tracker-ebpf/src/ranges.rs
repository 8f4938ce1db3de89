//! Ranges of ports that sockets set for themselves (`IP_LOCAL_PORT_RANGE`, since Linux 6.3).
//!
//! A minisocket no longer has its range, and other sockets of the tuple take ports of it too. So a pass counts all
//! sockets of a tuple in the ranges that passes before found there; a range that is new in a pass is counted whole in the
//! next.

use aya_ebpf::{Global, macros::map, maps::Array};
use tracker_common::{
    fields::ABSENT,
    limits::PORT_RANGES as MOST,
    ports::{OwnRange, PortPass, PortTotals, PortTuple, own_range},
};

use crate::{
    fields::{self, Memory, Probed, Typed},
    ports::{self, Sighting, Socket},
};

#[map]
static PORT_RANGES: Array<OwnRange> = Array::with_max_entries(MOST, 0);

/// What a socket has set, as in [`own_range`]; 0 for nothing.
///
/// # Safety
/// `socket` is a full `sock` of TCP.
#[inline(always)]
pub(crate) unsafe fn set_by(socket: *const u8) -> u32 {
    if fields::OFF_LOCAL_RANGE.load() == ABSENT {
        return 0;
    }
    // SAFETY: the caller's `socket`, which is an `inet_sock`; the verifier may not know that, hence a probe read.
    unsafe { Probed::read(socket, &fields::OFF_LOCAL_RANGE) }
}

/// The same by plain loads: of each half, for where the field is a structure the verifier refuses a load of both.
///
/// # Safety
/// `tcp` is a `tcp_sock`, and the verifier knows it.
#[inline(always)]
unsafe fn set_by_tcp(tcp: *const u8) -> u32 {
    const RANGE: &Global<u32> = &fields::OFF_LOCAL_RANGE;
    // SAFETY: the caller's `tcp`.
    unsafe { u32::from(Typed::read::<u16>(tcp, RANGE)) | u32::from(Typed::read::<u16>(tcp.add(2), RANGE)) << 16 }
}

/// Counts a socket of a tuple in the ranges of the tuple, among which its own is.
///
/// # Safety
/// The pointers are those of one socket, `typed` by its own type.
#[inline(always)]
pub(crate) unsafe fn count(
    entry: &mut PortTuple,
    socket: &Socket,
    port: u16,
    seen: &Sighting,
    (pass, totals): (&PortPass, &mut PortTotals),
) {
    if fields::OFF_LOCAL_RANGE.load() == ABSENT {
        return;
    }
    if pass.ranges != 0 && entry.looked == 0 {
        (entry.looked, entry.ranges) = (1, known(entry, pass.ranges));
    }
    // SAFETY: the caller's `socket`, which is a `tcp_sock` unless it is a minisocket.
    let set = if socket.minisocket { 0 } else { unsafe { set_by_tcp(socket.typed) } };
    if let Some((low, high)) = own_range(set, pass.low, pass.high) {
        entry.ranged = entry.ranged.saturating_add(1);
        note(entry, low, high, totals);
    }
    if entry.ranges == 0 {
        return;
    }
    let mut inside = 0;
    for index in 0..MOST {
        if entry.ranges >> index & 1 == 0 {
            continue;
        }
        let Some(range) = PORT_RANGES.get_ptr_mut(index) else { return };
        // SAFETY: an entry of a map; one pass runs at a time, and it alone writes here.
        let range = unsafe { &mut *range };
        if range.low <= port && port <= range.high {
            ports::add(&mut range.counts, seen);
            inside = 1;
        }
    }
    if socket.minisocket {
        entry.ranged = entry.ranged.saturating_add(inside);
    }
}

/// The ranges of a tuple among those that the pass began with.
#[inline(always)]
fn known(entry: &PortTuple, ranges: u32) -> u32 {
    let mut found = 0;
    for index in 0..MOST {
        if index >= ranges {
            break;
        }
        let Some(range) = PORT_RANGES.get(index) else { break };
        if range.port == entry.port && range.destination == entry.destination && range.source == entry.source {
            found |= 1 << index;
        }
    }
    found
}

/// Counts a socket that has set a range, which is entered when it is new.
#[inline(always)]
fn note(entry: &mut PortTuple, low: u16, high: u16, totals: &mut PortTotals) {
    for index in 0..MOST {
        if entry.ranges >> index & 1 == 0 {
            continue;
        }
        let Some(range) = PORT_RANGES.get_ptr_mut(index) else { return };
        // SAFETY: an entry of a map; one pass runs at a time, and it alone writes here.
        let range = unsafe { &mut *range };
        if range.low == low && range.high == high {
            range.sockets = range.sockets.saturating_add(1);
            return;
        }
    }
    let index = totals.ranges as u32;
    if index >= MOST {
        totals.unranged += 1;
        return;
    }
    if let Some(range) = PORT_RANGES.get_ptr_mut(index) {
        let (source, destination) = (entry.source, entry.destination);
        let counts = ports::none();
        // SAFETY: an entry of a map; one pass runs at a time, and it alone writes here.
        unsafe {
            *range =
                OwnRange { source, destination, counts, port: entry.port, low, high, sockets: 1, ..OwnRange::default() };
        }
        entry.ranges |= 1 << index;
        totals.ranges += 1;
    }
}

/// The first range of a tuple that a port lies in, by its index.
#[inline(always)]
pub(crate) fn containing(entry: &PortTuple, port: u16) -> Option<u32> {
    for index in 0..MOST {
        if entry.ranges >> index & 1 == 0 {
            continue;
        }
        let range = PORT_RANGES.get(index)?;
        if range.low <= port && port <= range.high {
            return Some(index);
        }
    }
    None
}
