//! Received packets, seen by a tcx or clsact classifier. Always passes the packet on.

use aya_ebpf::{macros::classifier, programs::TcContext};
use tracker_common::classify::Outcome;

use crate::{
    interfaces,
    packet::{self, Bytes},
};

/// `TC_ACT_UNSPEC`, and `TCX_NEXT` under another name: leave the decision to others.
const NEXT: i32 = -1;

/// Enough for all headers that are walked in ordinary packets; more is pulled into reach only for packets whose
/// headers lie outside it.
const HEADERS: u32 = 512;

#[classifier]
pub(crate) fn tracker_tc(ctx: TcContext) -> i32 {
    // SAFETY: `skb` is the context the kernel passes; the verifier checks the field accesses.
    let (index, segments) = unsafe { ((*ctx.skb.skb).ifindex, (*ctx.skb.skb).gso_segs) };
    let Some((interface, counters)) = interfaces::counters(index) else { return NEXT };
    let offloaded = segments > 1;
    let mut readable = bytes(&ctx);
    let mut packet = packet::classify(&readable, interface, offloaded);
    if packet.outcome == Outcome::Unparsed && readable.end - readable.start < readable.length {
        let wanted = if ctx.len() < HEADERS { ctx.len() } else { HEADERS };
        if ctx.pull_data(wanted).is_ok() {
            readable = bytes(&ctx);
            packet = packet::classify(&readable, interface, offloaded);
        }
    }
    // A packet that the kernel merged or has yet to split counts as what is on the wire.
    packet::count(&readable, packet, counters, if offloaded { u64::from(segments) } else { 1 });
    NEXT
}

#[inline(always)]
fn bytes(ctx: &TcContext) -> Bytes {
    Bytes { start: ctx.data(), end: ctx.data_end(), length: ctx.len() as usize }
}
