//! Why SYNs to a watched port do not reach TCP, and their answers not the wire. Attached only while a port is watched:
//! the first program runs for each packet that the host drops, the second for each that it sends.

use aya_ebpf::{helpers::bpf_probe_read_kernel, macros::btf_tracepoint, programs::BtfTracePointContext};
use tracker_common::{
    hash::{self, AddrWords},
    watch::Fate,
};

use crate::{
    fields::{self, IPPROTO_TCP, Memory as _, Probed, Typed},
    local, watch,
};

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

#[btf_tracepoint(function = "kfree_skb")]
pub(crate) fn tracker_drops(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the arguments of `trace_kfree_skb(struct sk_buff *skb, void *location, enum skb_drop_reason reason, …)`.
    unsafe {
        let (packet, reason): (*const u8, u32) = (ctx.arg(0), ctx.arg(2));
        let Some(segment) = segment(packet) else { return 0 };
        match segment.flags & (SYN | RST | ACK) {
            SYN => watch::each(segment.destination_port, |place, asked| {
                let is_it = is_asked(asked, segment.destination) && local::is_local(segment.destination);
                if is_it && netns(packet) == fields::NETNS.load() {
                    watch::count(place, Fate::SynDropped, segment.family, reason);
                }
            }),
            flags if flags == SYN | ACK => answer(packet, &segment, Fate::AnswerDropped, reason),
            _ => {}
        }
    }
    0
}

#[btf_tracepoint(function = "net_dev_queue")]
pub(crate) fn tracker_resets(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the argument of `trace_net_dev_queue(struct sk_buff *skb)`.
    unsafe {
        let packet: *const u8 = ctx.arg(0);
        // What a socket sends belongs to it; a firewall's reset has none.
        let socket: *const u8 = Typed::read(packet, &fields::OFF_SKB_SOCKET);
        if !socket.is_null() {
            return 0;
        }
        let Some(segment) = segment(packet) else { return 0 };
        if segment.flags & RST != 0 {
            answer(packet, &segment, Fate::Reset, 0);
        }
    }
    0
}

/// Counts a packet from a watched port.
///
/// # Safety
/// `packet` is a `sk_buff` that the verifier knows as one.
#[inline(always)]
unsafe fn answer(packet: *const u8, segment: &Segment, fate: Fate, reason: u32) {
    watch::each(segment.source_port, |place, asked| {
        // SAFETY: the caller's `packet`.
        if is_asked(asked, segment.source) && unsafe { netns(packet) } == fields::NETNS.load() {
            watch::count(place, fate, segment.family, reason);
        }
    });
}

/// Whether an address is that which is asked about, or all are.
#[inline(always)]
fn is_asked(asked: AddrWords, address: AddrWords) -> bool {
    asked == [0; 2] || asked == address
}

/// What is looked at of a TCP segment.
struct Segment {
    family: usize,
    source: AddrWords,
    destination: AddrWords,
    source_port: u16,
    destination_port: u16,
    flags: u8,
}

/// The TCP header of a packet; none if it has none that is whole and follows the IP header at once.
///
/// # Safety
/// `packet` is a `sk_buff` that the verifier knows as one.
#[inline(always)]
unsafe fn segment(packet: *const u8) -> Option<Segment> {
    // SAFETY: fields of the caller's `packet`; a probe read of a bad address fails.
    unsafe {
        let head: *const u8 = Typed::read(packet, &fields::OFF_SKB_HEAD);
        let network = head.wrapping_add(usize::from(Typed::read::<u16>(packet, &fields::OFF_SKB_NETWORK)));
        let words: [u32; 5] = bpf_probe_read_kernel(network.cast()).ok()?;
        let (family, length, source, destination) = match words[0] & 0xf0 {
            0x40 => {
                // The protocol, and no fragment but a first one.
                if words[2] >> 8 & 0xff != u32::from(IPPROTO_TCP) || u32::from_be(words[1]) & 0x1fff != 0 {
                    return None;
                }
                let length = (words[0] & 0x0f) as usize * 4;
                (0, length, hash::mapped(words[3]), hash::mapped(words[4]))
            }
            0x60 => {
                if words[1] >> 16 & 0xff != u32::from(IPPROTO_TCP) {
                    return None;
                }
                let [a, b, c, d]: [u64; 4] = bpf_probe_read_kernel(network.wrapping_add(8).cast()).ok()?;
                (1, 40, [a, b], [c, d])
            }
            _ => return None,
        };
        let tcp: [u32; 4] = bpf_probe_read_kernel(network.wrapping_add(length).cast()).ok()?;
        let ports = u32::from_be(tcp[0]);
        let (source_port, destination_port) = ((ports >> 16) as u16, ports as u16);
        Some(Segment { family, source, destination, source_port, destination_port, flags: (tcp[3] >> 8) as u8 })
    }
}

/// Inode number of the network namespace that a packet is in, by its device or its route; 0 when it has neither.
///
/// # Safety
/// `packet` is a `sk_buff` that the verifier knows as one.
#[inline(always)]
unsafe fn netns(packet: *const u8) -> u32 {
    // SAFETY: fields of the caller's `packet`; what lies beyond it is probed.
    unsafe {
        let mut device: *const u8 = Probed::read(packet, &fields::OFF_SKB_DEVICE);
        if device.is_null() {
            // The lowest bit says whether the packet holds a reference (`SKB_DST_NOREF`).
            let route: usize = Probed::read(packet, &fields::OFF_SKB_ROUTE);
            device = Probed::read(core::ptr::without_provenance(route & !1), &fields::OFF_ROUTE_DEVICE);
        }
        let net: *const u8 = Probed::read(device, &fields::OFF_DEVICE_NET);
        Probed::read(net, &fields::OFF_INUM)
    }
}
