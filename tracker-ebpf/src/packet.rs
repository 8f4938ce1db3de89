//! Packet bytes: the only pointer arithmetic on packets, and what is done with one.

use tracker_common::{
    classify::{self, Family, Frame, Header, Outcome, Packet},
    counters::{Interface, InterfaceCounters, SynTarget},
    delivery::Target,
    flows::Sampling,
    hash::{self, AddrWords},
    limits,
};

use crate::{
    count, delivery,
    fields::{HASH_KEY, SCATTER},
    flows, listener_counters, listener_lookup, local, sources, watch,
};

/// The part of a packet that can be read directly, of `length` bytes in all, which stands for `segments` packets on the
/// wire.
pub(crate) struct Bytes {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) length: usize,
    pub(crate) segments: u32,
}

impl Frame for Bytes {
    #[inline(always)]
    fn length(&self) -> usize {
        self.length
    }

    #[inline(always)]
    fn is_offloaded(&self) -> bool {
        self.segments > 1
    }

    #[inline(always)]
    fn header<H: Header>(&self, offset: usize) -> Option<H> {
        let address = self.start + offset;
        if address + size_of::<H>() > self.end {
            return None;
        }
        // It may lie at an odd address, which the kernels this runs on allow for packets; `read_unaligned` would be
        // turned into loads of single bytes.
        // SAFETY: in bounds, as just checked and as the verifier checks again; any bytes are a value of H.
        Some(unsafe { *(address as *const H) })
    }
}

/// Classifies a packet by the header it begins with.
#[inline(always)]
pub(crate) fn classify(bytes: &Bytes, interface: Interface) -> Packet {
    if interface.flags & Interface::RAW_IP == 0 { classify::ethernet(bytes) } else { classify::raw_ip(bytes) }
}

/// Counts a packet that came by `interface`: one that was merged or has yet to be split counts as what is on the wire.
/// `is_foreign` says whether it is for another host by its Ethernet address; it is called for SYNs only.
#[inline(always)]
pub(crate) fn count(
    bytes: &Bytes,
    packet: Packet,
    (interface, counters): (Interface, *mut InterfaceCounters),
    is_foreign: impl FnOnce() -> bool,
) {
    // SAFETY: the counters are this CPU's own.
    let counters = unsafe { &mut *counters };
    let segments = if bytes.segments > 1 { u64::from(bytes.segments) } else { 1 };
    count::add(&mut counters.packets, packet.outcome as usize, packet.family as usize, segments);
    if packet.outcome == Outcome::TcpSyn {
        let number = count::get(&counters.packets, packet.outcome as usize, packet.family as usize);
        let Some(target) = syn(bytes, packet, interface, number, is_foreign) else { return };
        count::add(&mut counters.syns, target as usize, packet.family as usize, 1);
    } else if packet.outcome == Outcome::TcpRst {
        reset(bytes, packet);
    }
}

/// Looks whether a RST ends a request: clients that only ask whether a port is open answer the SYN-ACK with one.
#[inline(always)]
fn reset(bytes: &Bytes, packet: Packet) {
    let Some(rst) = read_segment(bytes, packet) else { return };
    let source = hash::source(HASH_KEY.load(), rst.source);
    let flow = hash::flow(source, rst.destination, rst.source_port, rst.destination_port);
    let place = || delivery::place(source, rst.source_port).and_then(Target::slot);
    listener_counters::aborted(flow, rst.sequence, place);
}

/// Counts a SYN for the listener it is addressed to. None when its addresses cannot be read, which classification has
/// ruled out. `number` is how many SYNs there were before on this CPU and interface, for choices that nobody can
/// foresee.
#[inline(always)]
fn syn(
    bytes: &Bytes,
    packet: Packet,
    interface: Interface,
    number: u64,
    is_foreign: impl FnOnce() -> bool,
) -> Option<SynTarget> {
    let mut syn = read_segment(bytes, packet)?;
    if SCATTER.load() != 0 {
        syn.source[1] ^= u64::from(hash::scramble(0, number)) << 32;
    }
    let is_local = !is_foreign() && local::is_local(syn.destination);
    watch::syn(syn.destination, syn.destination_port, packet.family, interface.slot, is_local);
    if !is_local {
        return Some(SynTarget::NotLocal);
    }
    let sampling = flows::sampling();
    let source = hash::source(HASH_KEY.load(), syn.source);
    if let Some(slot) = listener_lookup::find(syn.destination, syn.destination_port, packet.family, interface) {
        if slot == 0 {
            listener_lookup::note_shared(syn.destination, syn.destination_port, packet.family);
        }
        let flow = hash::flow(source, syn.destination, syn.source_port, syn.destination_port);
        listener_counters::syn(slot, packet.family, sampling, flow, syn.sequence);
        received(&syn, source, number, sampling, Target::listener(slot), slot);
        Some(SynTarget::Listener)
    } else {
        listener_counters::refused_syn(syn.destination_port);
        // A rule may translate it: then a listener is asked for it all the same.
        let flow = hash::flow(source, syn.destination, syn.source_port, syn.destination_port);
        flows::enter(sampling, limits::NO_LISTENER_SLOT, flow, syn.sequence);
        let target = Target::closed_port(syn.destination_port);
        received(&syn, source, number, sampling, target, limits::NO_LISTENER_SLOT);
        Some(SynTarget::NoListener)
    }
}

/// Notes a SYN for the time when TCP looks for its listener; where that is not seen, its source now.
#[inline(always)]
fn received(syn: &Segment, source: u64, number: u64, sampling: Sampling, target: Target, slot: u32) {
    if sampling.sources_at_lookup == 0 {
        sources::seen(slot, syn.source, source, number, sampling.mask);
    } else {
        delivery::received(source, syn.source_port, target);
    }
}

/// What identifies a segment. Addresses are in mapped form, ports in host byte order, the sequence number as it came.
struct Segment {
    source: AddrWords,
    destination: AddrWords,
    source_port: u16,
    destination_port: u16,
    sequence: u32,
}

/// Reads what identifies a segment of TCP.
#[inline(always)]
fn read_segment(bytes: &Bytes, packet: Packet) -> Option<Segment> {
    let (source, destination) = if packet.family == Family::Ipv4 {
        let [source, destination] = bytes.header::<[u32; 2]>(packet.network + 12)?;
        (hash::mapped(source), hash::mapped(destination))
    } else {
        let [a, b, c, d] = bytes.header::<[u64; 4]>(packet.network + 8)?;
        ([a, b], [c, d])
    };
    let [ports, sequence] = bytes.header::<[u32; 2]>(packet.transport)?;
    let ports = u32::from_be(ports);
    let (source_port, destination_port) = ((ports >> 16) as u16, ports as u16);
    Some(Segment { source, destination, source_port, destination_port, sequence })
}
