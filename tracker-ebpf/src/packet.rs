//! Packet bytes: the only pointer arithmetic on packets, and what is done with one.

use tracker_common::{
    classify::{self, Family, Frame, Header, Outcome, Packet},
    counters::{Interface, SynTarget},
    listener::mapped,
};

use crate::{count, listeners, local};

/// The part of a packet that can be read directly, of `length` bytes in all, which stands for `segments` packets on the
/// wire. `foreign`: by its Ethernet address it is for another host.
pub(crate) struct Bytes {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) length: usize,
    pub(crate) segments: u32,
    pub(crate) foreign: bool,
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
        // SAFETY: in bounds, as just checked and as the verifier checks again; any bytes are a value of H. They may lie
        // at an odd address, which the kernels this runs on allow for packets and `read_unaligned` would turn into
        // loads of single bytes.
        Some(unsafe { *(address as *const H) })
    }
}

/// Classifies a packet by the header it begins with.
#[inline(always)]
pub(crate) fn classify(bytes: &Bytes, interface: Interface) -> Packet {
    if interface.flags & Interface::RAW_IP == 0 { classify::ethernet(bytes) } else { classify::raw_ip(bytes) }
}

/// Counts a packet: one that was merged or has yet to be split counts as what is on the wire.
#[inline(always)]
pub(crate) fn count(bytes: &Bytes, packet: Packet, counters: *mut tracker_common::counters::InterfaceCounters) {
    // SAFETY: the counters are this CPU's own.
    let counters = unsafe { &mut *counters };
    let segments = if bytes.segments > 1 { u64::from(bytes.segments) } else { 1 };
    count::add(&mut counters.packets, packet.outcome as usize, packet.family as usize, segments);
    if packet.outcome == Outcome::TcpSyn
        && let Some(target) = syn(bytes, packet)
    {
        count::add(&mut counters.syns, target as usize, packet.family as usize, 1);
    }
}

/// Counts a SYN for the listener it is addressed to. None when its addresses cannot be read, which classification
/// has ruled out.
#[inline(always)]
fn syn(bytes: &Bytes, packet: Packet) -> Option<SynTarget> {
    let (address, port) = destination(bytes, packet)?;
    if bytes.foreign || !local::is_local(&address) {
        return Some(SynTarget::NotLocal);
    }
    if let Some(slot) = listeners::find(&address, port, packet.family) {
        listeners::count_syn(slot, packet.family);
        Some(SynTarget::Listener)
    } else {
        listeners::count_refused(port);
        Some(SynTarget::NoListener)
    }
}

/// Destination address, in mapped form, and port of a TCP packet.
#[inline(always)]
fn destination(bytes: &Bytes, packet: Packet) -> Option<([u8; 16], u16)> {
    let address = if packet.family == Family::Ipv4 {
        let [high, low] = bytes.header::<[u16; 2]>(packet.network + 16)?;
        // SAFETY: both are 4 bytes without padding.
        mapped(unsafe { core::mem::transmute::<[u16; 2], [u8; 4]>([high, low]) })
    } else {
        let words = bytes.header::<[u16; 8]>(packet.network + 24)?;
        // SAFETY: both are 16 bytes without padding.
        unsafe { core::mem::transmute::<[u16; 8], [u8; 16]>(words) }
    };
    let port = u16::from_be(bytes.header::<u16>(packet.transport + 2)?);
    Some((address, port))
}
