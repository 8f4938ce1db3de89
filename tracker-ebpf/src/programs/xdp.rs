//! Received packets, seen by XDP. Always passes the packet.

use aya_ebpf::{bindings::xdp_action::XDP_PASS, macros::xdp, programs::XdpContext};

use crate::{
    interfaces,
    packet::{self, Bytes},
};

#[xdp]
#[inline(always)]
pub(crate) fn tracker_xdp(ctx: XdpContext) -> u32 {
    let (start, end) = (ctx.data(), ctx.data_end());
    // The packet is one piece (the program is loaded without support for fragments), so its length is that of what can
    // be read. Taken from a second load: if the compiler knew that both are the same number it would leave out the
    // checks of bounds that the verifier wants to see.
    // SAFETY: a field of the context.
    let length = unsafe { core::ptr::read_volatile(&raw const (*ctx.ctx).data_end) } as usize - start;
    let bytes = Bytes { start, end, length, segments: 1 };
    if let Some((interface, counters)) = interfaces::counters(ctx.ingress_ifindex() as u32) {
        packet::count(&bytes, packet::classify(&bytes, interface), interface, counters, || false);
    }
    XDP_PASS
}
