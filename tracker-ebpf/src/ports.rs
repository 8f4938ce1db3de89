//! Ephemeral ports by tuple of source address, destination address and destination port, as a census visits the
//! sockets.
//!
//! One census runs at a time, and it alone writes these maps.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::map,
    maps::Array,
};
use tracker_common::{
    hash::{self, AddrWords},
    limits,
    ports::{PortBuckets, PortPass, PortSource, PortTotals, PortTuple},
    state::{LISTEN, NEW_SYN_RECV},
};

use crate::{
    fields::{self, HASH_KEY, Memory as _, Typed},
    ranges,
    sightings::{Socket, add, none, sighting},
};

#[map]
static PORT_PASS: Array<PortPass> = Array::with_max_entries(1, 0);

/// The daemon looks through it after each census, hence mapped.
#[map]
static PORT_TUPLES: Array<PortTuple> = Array::with_max_entries(limits::PORT_TUPLES, BPF_F_MMAPABLE);

#[map]
static PORT_TOTALS: Array<PortTotals> = Array::with_max_entries(1, 0);

#[map]
static PORT_BUCKETS: Array<PortBuckets> = Array::with_max_entries(1, 0);

#[map]
static PORT_SOURCES: Array<PortSource> = Array::with_max_entries(limits::PORT_SOURCES, 0);

/// What the daemon asks of this pass.
#[inline(always)]
pub(crate) fn pass() -> Option<&'static PortPass> {
    PORT_PASS.get(0)
}

/// A tuple, and its hash.
#[derive(Clone, Copy)]
pub(crate) struct Tuple {
    source: AddrWords,
    destination: AddrWords,
    port: u16,
    hash: u64,
}

/// The tuple of a socket.
///
/// # Safety
/// `socket` is a `sock_common` of that family.
#[inline(always)]
pub(crate) unsafe fn tuple(socket: *const u8, family: usize) -> Tuple {
    // SAFETY: the caller's `socket`.
    unsafe {
        let source = fields::local_address::<Typed>(socket, family);
        let destination = fields::remote_address::<Typed>(socket, family);
        let port = u16::from_be(Typed::read(socket, &fields::OFF_DPORT));
        let hash = hash::flow(hash::source(HASH_KEY.load(), source), destination, 0, port);
        // The hash takes in the lower half of the destination; the upper one differs between IPv6 networks.
        let hash = hash ^ hash::source(HASH_KEY.load(), [destination[0], 0]);
        Tuple { source, destination, port, hash }
    }
}

/// Keeps when the pass began.
#[inline(always)]
pub(crate) fn begin() {
    if let Some(totals) = PORT_TOTALS.get_ptr_mut(0) {
        // SAFETY: an entry of a map; one census runs at a time, and it alone writes here.
        let totals = unsafe { &mut *totals };
        if totals.monotonic == 0 {
            // SAFETY: helpers without arguments.
            (totals.monotonic, totals.jiffies) = unsafe { (bpf_ktime_get_ns(), bpf_jiffies64()) };
        }
    }
}

/// Counts a socket if its local port is ephemeral.
///
/// # Safety
/// The pointers are those of one socket, `typed` by its own type.
#[expect(clippy::too_many_lines, reason = "the verifier follows one flat function with fewer states")]
#[inline(always)]
pub(crate) unsafe fn count(socket: &Socket) {
    // SAFETY: the caller's `socket`. Entries of maps; one census runs at a time, and it alone writes here.
    unsafe {
        let port = Typed::read::<u16>(socket.common, &fields::OFF_NUM);
        let Some(pass) = PORT_PASS.get(0) else { return };
        if socket.state == NEW_SYN_RECV || !pass.eligible.contains(port) {
            return;
        }
        let Some(totals) = PORT_TOTALS.get_ptr_mut(0) else { return };
        let totals = &mut *totals;
        let bound = is_bound(socket);
        if bound {
            totals.bound.insert(port);
        }
        let address = fields::local_address::<Typed>(socket.common, socket.family);
        let mut listened = false;
        match source(address, true) {
            Some(source) => {
                (*source).ports.insert(port);
                if socket.state == LISTEN {
                    (*source).listening.insert(port);
                }
                listened = (*source).listening.contains(port);
            }
            None => totals.unsourced += 1,
        }
        if socket.state == LISTEN {
            totals.listening.insert(port);
            return;
        }
        if totals.listening.contains(port) && (listened || listens_everywhere(socket.family, port)) {
            totals.accepted += 1;
            return;
        }
        let tuple = tuple(socket.common, socket.family);
        let Some(buckets) = PORT_BUCKETS.get_ptr_mut(0) else { return };
        let bucket = tuple.hash as u16;
        if let Some(count) = (*buckets).counts.get_mut(usize::from(bucket)) {
            *count = (*count).saturating_add(1);
        }
        if !pass.admitted.contains(bucket) {
            totals.rest += 1;
            return;
        }
        let place = find(&tuple, pass.generation, true);
        match PORT_TUPLES.get_ptr_mut(place) {
            Some(entry) if place != NONE => {
                let seen = sighting(socket, bound, pass);
                add(&mut (*entry).counts, &seen);
                ranges::count(&mut *entry, socket, port, &seen, (pass, totals));
            }
            _ => totals.unplaced += 1,
        }
    }
}

/// Whether `connect()` passes over the port: somebody bound it (`__inet_hash_connect`).
///
/// # Safety
/// `typed` is the socket by its own type.
#[inline(always)]
unsafe fn is_bound(socket: &Socket) -> bool {
    // SAFETY: the caller's `socket`.
    unsafe {
        let field = if socket.minisocket { &fields::OFF_TW_BUCKET } else { &fields::OFF_BIND_BUCKET };
        let bucket: *const u8 = Typed::read(socket.typed, field);
        if bucket.is_null() {
            return false;
        }
        Typed::read::<i8>(bucket, &fields::OFF_FASTREUSE) >= 0
            || Typed::read::<i8>(bucket, &fields::OFF_FASTREUSEPORT) >= 0
    }
}

/// No place in the table.
pub(crate) const NONE: u32 = u32::MAX;

/// Place of a tuple in the table, claimed for it when it has none and `claim` is set; else [`NONE`].
#[inline(always)]
pub(crate) fn find(tuple: &Tuple, generation: u32, claim: bool) -> u32 {
    let first = (tuple.hash >> 32) as u32;
    for step in 0..limits::PORT_TUPLE_TRIES {
        let place = first.wrapping_add(step) & (limits::PORT_TUPLES - 1);
        let Some(entry) = PORT_TUPLES.get_ptr_mut(place) else { return NONE };
        // SAFETY: an entry of a map; one pass runs at a time, and it alone writes here.
        let entry = unsafe { &mut *entry };
        if entry.generation != generation {
            if !claim {
                return NONE;
            }
            *entry = PortTuple {
                source: tuple.source,
                destination: tuple.destination,
                port: tuple.port,
                generation,
                counts: none(),
                ..PortTuple::default()
            };
            return place;
        }
        if entry.port == tuple.port && entry.source == tuple.source && entry.destination == tuple.destination {
            return place;
        }
    }
    NONE
}

/// The tuple at a place.
#[inline(always)]
pub(crate) fn at(place: u32) -> Option<&'static PortTuple> {
    PORT_TUPLES.get(place)
}

/// Sockets that the tuple at a place has.
#[inline(always)]
pub(crate) fn sockets(place: u32) -> u32 {
    match PORT_TUPLES.get_ptr_mut(place) {
        // SAFETY: an entry of a map.
        Some(entry) => unsafe { (*entry).counts.sockets() },
        None => 0,
    }
}

/// Keeps an ephemeral port that a socket is bound to which neither listens nor connects.
#[inline(always)]
pub(crate) fn idle(port: u16) {
    if let Some(totals) = PORT_TOTALS.get_ptr_mut(0) {
        // SAFETY: one pass runs at a time.
        unsafe { (*totals).idle.insert(port) };
    }
}

/// Counts a UDP socket, and its local port if that is ephemeral.
///
/// A socket that asks for any port on all addresses cannot have one that another socket has at any address; an IPv4 one
/// only leaves those of IPv6 sockets with `IPV6_V6ONLY` (`inet_rcv_saddr_equal`, `net/ipv4/inet_connection_sock.c`).
///
/// # Safety
/// `socket` is a `udp_sock`.
#[inline(always)]
pub(crate) unsafe fn count_udp(socket: *const u8) {
    let (Some(pass), Some(totals)) = (PORT_PASS.get(0), PORT_TOTALS.get_ptr_mut(0)) else { return };
    // SAFETY: the caller's `socket`. The totals are this pass's own.
    unsafe {
        let port = Typed::read::<u16>(socket, &fields::OFF_NUM);
        (*totals).udp_sockets += 1;
        if pass.eligible.contains(port) {
            (*totals).udp_ephemeral += 1;
            (*totals).udp.insert(port);
            let flags: u8 = Typed::read(socket, &fields::OFF_IPV6ONLY);
            if Typed::read::<u16>(socket, &fields::OFF_FAMILY) == fields::AF_INET
                || flags >> (fields::IPV6ONLY_BIT.load() & 7) & 1 == 0
            {
                (*totals).udp_ipv4.insert(port);
            }
        }
    }
}

/// The entry of a local address, made when it is missing and `claim` is set. None when there is no room for another.
#[inline(always)]
fn source(address: AddrWords, claim: bool) -> Option<*mut PortSource> {
    let first = hash::source(HASH_KEY.load(), address) as u32;
    for step in 0..limits::PORT_SOURCE_TRIES {
        let place = PORT_SOURCES.get_ptr_mut(first.wrapping_add(step) & (limits::PORT_SOURCES - 1))?;
        // SAFETY: an entry of a map.
        let entry = unsafe { &mut *place };
        if entry.used == 0 {
            if !claim {
                return None;
            }
            (entry.address, entry.used) = (address, 1);
        }
        if entry.address == address {
            return Some(place);
        }
    }
    None
}

/// Whether somebody listens on a port at all addresses of a family. The iterator visits the listeners first.
#[inline(always)]
fn listens_everywhere(family: usize, port: u16) -> bool {
    let at = |wildcard: AddrWords| match source(wildcard, false) {
        // SAFETY: an entry of a map.
        Some(source) => unsafe { (*source).listening.contains(port) },
        None => false,
    };
    at([0, 0]) || (family == 0 && at(hash::mapped(0)))
}
