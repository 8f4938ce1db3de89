//! Received packets, seen by a tcx or clsact classifier. Always passes the packet on.

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::{
    interfaces,
    packet::{self, Bytes},
};

/// `TC_ACT_UNSPEC`, and `TCX_NEXT` under another name: leave the decision to others.
const NEXT: i32 = -1;

/// Ethernet, IPv4 and TCP headers without options. Network stacks keep at least the headers of a packet in its readable
/// part; one with less is pulled together first.
const HEADERS: u32 = 54;

#[classifier]
#[inline(always)]
pub(crate) fn tracker_tc(ctx: TcContext) -> i32 {
    // SAFETY: `skb` is the context the kernel passes; the verifier checks the field access.
    let index = unsafe { (*ctx.skb.skb).ifindex };
    let Some((interface, counters)) = interfaces::counters(index) else { return NEXT };
    let mut readable = bytes(&ctx);
    let wanted = if ctx.len() < HEADERS { ctx.len() } else { HEADERS };
    if readable.end - readable.start < wanted as usize {
        // Whether it succeeds or not, what was read of the context before no longer holds.
        let _ = ctx.pull_data(wanted);
        readable = bytes(&ctx);
    }
    // SAFETY: `skb` is the context that the kernel passes; the verifier checks the field access.
    let is_foreign = || unsafe { (*ctx.skb.skb).pkt_type } == PACKET_OTHERHOST;
    packet::count(&readable, packet::classify(&readable, interface), interface, counters, is_foreign);
    NEXT
}

/// The stack drops packets of this type, which promiscuous interfaces and flooding switches bring.
const PACKET_OTHERHOST: u32 = 3;

/// A packet up to this size that lies in one piece was not merged: GRO leaves pieces, and a packet yet to be split is
/// larger than two headers and the smallest segment the kernel makes (`TCP_MIN_MSS`, 88 bytes).
const SMALL: usize = 128;

#[inline(always)]
fn bytes(ctx: &TcContext) -> Bytes {
    let (start, end, length) = (ctx.data(), ctx.data_end(), ctx.len() as usize);
    let segments = if length <= SMALL && end - start == length {
        1
    } else {
        // Asked for only here: it costs four loads one after the other, a third of what all the rest costs.
        // SAFETY: `skb` is the context that the kernel passes; the verifier checks the field access.
        unsafe { (*ctx.skb.skb).gso_segs }
    };
    Bytes { start, end, length, segments }
}
