//! Received packets, seen by XDP. Always passes the packet.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, macros::xdp, programs::XdpContext};

use crate::packet::{self, Bytes};

#[xdp]
pub(crate) fn tracker_xdp(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    // Loaded without support for fragments, so a packet is one piece and all of it can be read.
    let bytes = Bytes { start, end, length: end - start };
    packet::received(&bytes, ctx.ingress_ifindex() as u32, false, 1);
    XDP_PASS
}
