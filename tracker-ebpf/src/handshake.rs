//! How long handshakes took, from what the kernel keeps in the socket.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tracker_common::fields::ABSENT;

use crate::fields::{self, Memory};

/// Stands for a time that the kernel did not keep. It is no `Option`, because the undefined half of one would be
/// spilled to the stack, which the verifier refuses.
pub(crate) const UNTIMED: u64 = u64::MAX;

/// How long the kernel waits for the first answer to a SYN (`TCP_TIMEOUT_INIT`, RFC 6298 2.1).
const FIRST_TIMEOUT_MS: u64 = 1000;

/// Time from the first SYN to its answer when it was repeated, in microseconds.
///
/// Since Linux 6.7 the kernel sums up the time from the first timeout on (`tcp_update_rto_stats`): in `total_rto_time`,
/// and before the answer is accounted for since `rto_stamp`. Older kernels keep no time; each repeat took a second or
/// more.
///
/// # Safety
/// `tcp` is a `tcp_sock` that `M` can read.
#[inline(always)]
pub(crate) unsafe fn repeated_us<M: Memory>(tcp: *const u8, repeats: u32) -> u64 {
    if fields::OFF_RTO_TIME.load() == ABSENT || fields::OFF_RTO_STAMP.load() == ABSENT {
        return u64::from(repeats) * FIRST_TIMEOUT_MS * 1000;
    }
    // SAFETY: the caller's `tcp`.
    unsafe {
        let since: u32 = M::read(tcp, &fields::OFF_RTO_STAMP);
        let pending = if since == 0 { 0 } else { ((bpf_ktime_get_ns() / 1_000_000) as u32).wrapping_sub(since) };
        let summed: u32 = M::read(tcp, &fields::OFF_RTO_TIME);
        (FIRST_TIMEOUT_MS + u64::from(summed) + u64::from(pending)) * 1000
    }
}

/// Time from the first SYN-ACK to the ACK that completes the handshake, in microseconds, or [`UNTIMED`]
/// (`tcp_create_openreq_child`, `tcp_synack_rtt_meas`).
///
/// # Safety
/// `tcp` is a `tcp_sock` that `M` can read.
#[inline(always)]
pub(crate) unsafe fn handshake_us<M: Memory>(tcp: *const u8) -> u64 {
    // SAFETY: the caller's `tcp`.
    unsafe {
        let repeats = M::read::<u32>(tcp, &fields::OFF_TOTAL_RETRANS);
        if repeats != 0 {
            let ms = if fields::OFF_RTO_TIME.load() == ABSENT { 0 } else { M::read::<u32>(tcp, &fields::OFF_RTO_TIME) };
            // Without a timeout of its own the server only answered SYNs that the client repeated, which it does after
            // a second or more; before Linux 6.7 no time is kept at all.
            return if ms == 0 { u64::from(repeats) * FIRST_TIMEOUT_MS } else { u64::from(ms) } * 1000;
        }
        let srtt = M::read::<u32>(tcp, &fields::OFF_SRTT);
        if srtt == 0 { UNTIMED } else { u64::from(srtt >> 3) }
    }
}
