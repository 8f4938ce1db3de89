//! Socket events by the BTF-typed tracepoint: plain loads, no tracefs.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{fields::Typed, sockets};

#[btf_tracepoint(function = "inet_sock_set_state")]
pub(crate) fn tracker_sock_btf(ctx: BtfTracePointContext) -> i32 {
    // SAFETY: the arguments of `trace_inet_sock_set_state(const struct sock *sk, int oldstate, int newstate)`.
    unsafe { sockets::changed::<Typed, _>(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2)) };
    0
}
