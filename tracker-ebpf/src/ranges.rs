//! Ranges of ports that sockets set for themselves (`IP_LOCAL_PORT_RANGE`, since Linux 6.3).
//!
//! A minisocket no longer has its range, and other sockets of the tuple take ports of it too. So a pass counts all
//! sockets of a tuple in the ranges that passes before found there; a range that is new in a pass is counted whole in
//! the next.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap},
};
use tracker_common::{
    fields::ABSENT,
    limits::PORT_RANGES as MOST,
    own_ranges::{OwnRange, RANGES_OF_TUPLE, RangedTuple, own_range},
    ports::{PortPass, PortTotals, PortTuple},
};

use crate::{
    fields::{self, Memory, Probed, Typed},
    sightings::{self, Sighting, Socket},
};

#[map]
static PORT_RANGES: Array<OwnRange> = Array::with_max_entries(MOST, 0);

#[map]
static RANGED: HashMap<RangedTuple, u64> = HashMap::with_max_entries(MOST, 0);

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
    // SAFETY: the caller's `tcp`.
    unsafe {
        let low: u16 = Typed::read(tcp, &fields::OFF_LOCAL_RANGE);
        let high: u16 = Typed::read(tcp.add(2), &fields::OFF_LOCAL_RANGE);
        u32::from(low) | u32::from(high) << 16
    }
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
        entry.looked = 1;
        let key = RangedTuple {
            source: entry.source,
            destination: entry.destination,
            port: entry.port.into(),
            ..RangedTuple::default()
        };
        if let Some(ranges) = RANGED.get_ptr(key) {
            // SAFETY: an entry of a map.
            entry.ranges = unsafe { *ranges };
        }
    }
    // SAFETY: the caller's `socket`, which is a `tcp_sock` unless it is a minisocket.
    let set = if socket.minisocket { 0 } else { unsafe { set_by_tcp(socket.typed) } };
    let own = own_range(set, pass.low, pass.high);
    if let Some(own) = own {
        entry.ranged = entry.ranged.wrapping_add(1);
        note(entry, own, totals);
    }
    let mut inside = 0;
    for slot in 0..RANGES_OF_TUPLE {
        let Some(range) = range(entry, slot) else { break };
        if range.low <= port && port <= range.high {
            sightings::add(&mut range.counts, seen);
            inside = 1;
        }
    }
    if socket.minisocket {
        entry.ranged = entry.ranged.wrapping_add(inside);
    }
}

/// A range of a tuple.
#[inline(always)]
fn range(entry: &PortTuple, slot: u32) -> Option<&'static mut OwnRange> {
    let byte = (entry.ranges >> (8 * slot)) as u32 & 0xff;
    if byte == 0 {
        return None;
    }
    // SAFETY: an entry of a map; one pass runs at a time, and it alone writes here.
    PORT_RANGES.get_ptr_mut(byte - 1).map(|range| unsafe { &mut *range })
}

/// Counts a socket that has set a range, which is entered when it is new.
#[inline(always)]
fn note(entry: &mut PortTuple, (low, high): (u16, u16), totals: &mut PortTotals) {
    let mut slot = 0;
    while slot < RANGES_OF_TUPLE {
        let Some(range) = range(entry, slot) else { break };
        if range.low == low && range.high == high {
            range.sockets = range.sockets.wrapping_add(1);
            return;
        }
        slot += 1;
    }
    let index = totals.ranges as u32;
    let place = PORT_RANGES.get_ptr_mut(index);
    let (Some(place), true) = (place, slot < RANGES_OF_TUPLE) else {
        totals.unranged += 1;
        return;
    };
    // SAFETY: an entry of a map; one pass runs at a time, and it alone writes here.
    unsafe {
        *place = OwnRange {
            source: entry.source,
            destination: entry.destination,
            counts: sightings::none(),
            port: entry.port,
            low,
            high,
            sockets: 1,
            ..OwnRange::default()
        };
    }
    entry.ranges |= u64::from(index + 1) << (8 * slot);
    totals.ranges += 1;
}

/// The first range of a tuple that a port lies in, by its index.
#[inline(always)]
pub(crate) fn containing(entry: &PortTuple, port: u16) -> Option<u32> {
    for slot in 0..RANGES_OF_TUPLE {
        let range = range(entry, slot)?;
        if range.low <= port && port <= range.high {
            return Some(((entry.ranges >> (8 * slot)) as u32 & 0xff) - 1);
        }
    }
    None
}
