//! Socket events by the raw tracepoint, for kernels without BTF of their own: probe reads, no tracefs.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{fields::Probed, sockets};

#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn tracker_sock_raw(ctx: RawTracePointContext) -> i32 {
    // SAFETY: the arguments of `trace_inet_sock_set_state(const struct sock *sk, int oldstate, int newstate)`.
    unsafe { sockets::changed::<Probed, _>(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2)) };
    0
}
