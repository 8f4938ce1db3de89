//! Socket events: every state transition of TCP sockets, as `inet_sock_set_state` tells it.
//!
//! Known of that tracepoint, and minded here: it shows neither `TIME_WAIT` nor half-open requests; LISTEN to `SYN_RECV`
//! comes when a handshake completes and, before Linux 6.18, with the listener's fields; at the end of a connection
//! `skc_num` is already 0, the port still stands in `inet_sport`.

use aya_ebpf::{EbpfContext, helpers::bpf_ktime_get_ns, macros::map, maps::PerCpuArray};
use aya_log_ebpf::debug;
use tracker_common::{
    counters::{CloseKind, Loss, SocketCounters},
    hash, histogram,
    names::ABSENT,
    state::{CLOSE, CLOSE_WAIT, COUNT as STATES, ESTABLISHED, FIN_WAIT1, LISTEN, SYN_RECV, SYN_SENT},
};

use crate::{
    count, failures,
    fields::{self, Memory},
    interfaces, listeners, losses, makers, timed,
};

#[map]
static SOCKET_CTRS: PerCpuArray<SocketCounters> = PerCpuArray::with_max_entries(1, 0);

const IPPROTO_TCP: u16 = 6;
/// `LOOPBACK_IFINDEX`: the index of loopback in every namespace.
const LOOPBACK: u32 = 1;
const EADDRNOTAVAIL: usize = 99;
const ECONNRESET: i32 = 104;
const EPIPE: i32 = 32;
const ETIMEDOUT: i32 = 110;

/// Counts one transition of a socket.
///
/// # Safety
/// `socket` is the first argument of `inet_sock_set_state`, readable by `M`.
#[inline(always)]
pub(crate) unsafe fn changed<M: Memory, C: EbpfContext>(ctx: &C, socket: *const u8, old: u32, new: u32) {
    // SAFETY: the caller's, for all reads of `socket` below.
    unsafe {
        if M::read::<u16>(socket, &fields::OFF_PROTOCOL) != IPPROTO_TCP {
            return;
        }
        if fields::netns::<M>(socket) != fields::NETNS.load() {
            if fields::ALL_NETNS.load() != 0 && (old as u8, new as u8) == (SYN_SENT, CLOSE) {
                elsewhere::<M, C>(ctx, socket);
            }
            return;
        }
        let Some(family) = fields::family::<M>(socket) else { return };
        let (from, to) = ((old & 15) as usize, (new & 15) as usize);
        if from >= STATES || to >= STATES {
            return;
        }
        let Some(counters) = SOCKET_CTRS.get_ptr_mut(0) else { return };
        let counters = &mut *counters;
        if let Some(table) = counters.transitions.get_mut(family) {
            count::add(table, from, to, 1);
        }
        match (from as u8, to as u8) {
            (SYN_SENT, ESTABLISHED) => connected::<M>(counters, socket),
            (SYN_SENT, CLOSE) => failed::<M, C>(ctx, counters, socket, family),
            (SYN_RECV, ESTABLISHED) => accepted::<M>(counters, socket, family),
            (CLOSE, SYN_SENT) => makers::connecting::<M, C>(ctx, socket, family),
            (CLOSE, LISTEN) => {
                debug!(ctx, "listen: port {}", M::read::<u16>(socket, &fields::OFF_NUM));
                listeners::opened::<M>(socket, family);
            }
            (LISTEN, CLOSE) => {
                debug!(ctx, "listener closed: port {}", M::read::<u16>(socket, &fields::OFF_NUM));
                listeners::closed::<M>(socket, family);
            }
            (ESTABLISHED, FIN_WAIT1) => count::add(&mut counters.closes, family, CloseKind::Local as usize, 1),
            (ESTABLISHED, CLOSE_WAIT) => count::add(&mut counters.closes, family, CloseKind::Peer as usize, 1),
            (ESTABLISHED, CLOSE) => {
                let kind = aborted(M::read(socket, &fields::OFF_ERR));
                count::add(&mut counters.closes, family, kind as usize, 1);
            }
            _ => {}
        }
        // A connection of any kind ends; those that were never established were never timed.
        if to as u8 == CLOSE
            && !matches!(from as u8, LISTEN | SYN_SENT)
            && let Some(us) = timed::died(socket, &mut counters.timed)
        {
            counters.lifetime.count(us, histogram::LIFETIME_SHIFT);
        }
    }
}

/// How an established connection ended that went straight to CLOSE. `tcp_reset` sets ECONNRESET (EPIPE once the peer
/// has closed) before the transition; a local abort sets its error, if any, after it.
#[inline(always)]
fn aborted(error: i32) -> CloseKind {
    match error {
        0 => CloseKind::ResetLocally,
        ECONNRESET | EPIPE => CloseKind::ResetByPeer,
        ETIMEDOUT => CloseKind::TimedOut,
        _ => CloseKind::Error,
    }
}

/// `connect()` succeeded. Without repeats the kernel's first round-trip sample is the time from SYN to SYN-ACK.
#[inline(always)]
unsafe fn connected<M: Memory>(counters: &mut SocketCounters, socket: *const u8) {
    timed::born(socket, &mut counters.timed);
    let tcp = M::tcp_sock(socket);
    if tcp.is_null() {
        return;
    }
    // SAFETY: the caller's, and `tcp` is the same socket as a `tcp_sock`.
    unsafe {
        let repeats = M::read::<u32>(tcp, &fields::OFF_TOTAL_RETRANS);
        let us = if repeats == 0 {
            u64::from(M::read::<u32>(tcp, &fields::OFF_SRTT) >> 3)
        } else {
            repeated_us::<M>(tcp, repeats)
        };
        counters.connect_time.count(us, histogram::HANDSHAKE_SHIFT);
    }
}

/// The kernel waits so long for the first answer to a SYN (`TCP_TIMEOUT_INIT`, RFC 6298 2.1).
const FIRST_TIMEOUT_MS: u64 = 1000;

/// Time from the first SYN to its answer when it was repeated, in microseconds.
///
/// Since Linux 6.7 the kernel sums up the time from the first timeout on (`tcp_update_rto_stats`): in `total_rto_time`,
/// and before the answer is accounted for since `rto_stamp`. Older kernels keep no time; each repeat took a second or more.
#[inline(always)]
unsafe fn repeated_us<M: Memory>(tcp: *const u8, repeats: u32) -> u64 {
    if fields::OFF_RTO_TIME.load() == ABSENT || fields::OFF_RTO_STAMP.load() == ABSENT {
        return u64::from(repeats) * FIRST_TIMEOUT_MS * 1000;
    }
    // SAFETY: the caller's: `tcp` is a `tcp_sock`.
    unsafe {
        let since: u32 = M::read(tcp, &fields::OFF_RTO_STAMP);
        let pending = if since == 0 { 0 } else { ((bpf_ktime_get_ns() / 1_000_000) as u32).wrapping_sub(since) };
        let summed: u32 = M::read(tcp, &fields::OFF_RTO_TIME);
        (FIRST_TIMEOUT_MS + u64::from(summed) + u64::from(pending)) * 1000
    }
}

/// Whether a connect failed before it sent anything, with an error that the socket does not tell: nothing is under way, nor is
/// the socket being closed. The port that it has, or had at an earlier connect, says nothing.
#[inline(always)]
unsafe fn is_unsent<M: Memory>(socket: *const u8, tcp: *const u8) -> bool {
    // SAFETY: the caller's: `tcp` is `socket` as a `tcp_sock`.
    unsafe {
        M::read::<i32>(socket, &fields::OFF_ERR) == 0
            && M::read::<u8>(socket, &fields::OFF_SHUTDOWN) == 0
            && M::read::<u32>(tcp, &fields::OFF_PACKETS_OUT) == 0
    }
}

/// A connect failed in another network namespace.
#[inline(always)]
unsafe fn elsewhere<M: Memory, C: EbpfContext>(ctx: &C, socket: *const u8) {
    // SAFETY: the caller's, and `tcp` is the same socket as a `tcp_sock`, which begins with the `inet_sock`.
    unsafe {
        let tcp = M::tcp_sock(socket);
        let Some(family) = fields::family::<M>(socket) else { return };
        if tcp.is_null() {
            return;
        }
        if is_unsent::<M>(socket, tcp) {
            // At the end of a socket only one that bind() gave a port still has it.
            failures::count::<M, C>(ctx, socket, family, M::read(socket, &fields::OFF_NUM));
        }
    }
}

/// `connect()` failed. Without a port, or without an error and before a SYN was sent, it never left this host: the kernel
/// found no port, or the one that the socket is bound to is taken for this destination (`__inet_check_established`). Both
/// are `EADDRNOTAVAIL`. Without an error but after a SYN the process gave it up.
#[inline(always)]
unsafe fn failed<M: Memory, C: EbpfContext>(ctx: &C, counters: &mut SocketCounters, socket: *const u8, family: usize) {
    let tcp = M::tcp_sock(socket);
    if tcp.is_null() {
        return;
    }
    // SAFETY: the caller's, and `tcp` is the same socket as a `tcp_sock`, which begins with the `inet_sock`.
    unsafe {
        let errno = if is_unsent::<M>(socket, tcp) {
            failures::count::<M, C>(ctx, socket, family, M::read(socket, &fields::OFF_NUM));
            EADDRNOTAVAIL
        } else {
            M::read::<i32>(socket, &fields::OFF_ERR) as usize
        };
        debug!(ctx, "connect failed: errno {}", errno);
        count::add(&mut counters.connect_failures, family, errno, 1);
    }
}

/// A handshake completed on the server's side.
#[inline(always)]
unsafe fn accepted<M: Memory>(counters: &mut SocketCounters, socket: *const u8, family: usize) {
    timed::born(socket, &mut counters.timed);
    let tcp = M::tcp_sock(socket);
    if tcp.is_null() {
        return;
    }
    // SAFETY: the caller's, and `tcp` is the same socket as a `tcp_sock`.
    unsafe {
        let us = handshake_us::<M>(tcp);
        if us == UNTIMED {
            losses::count(Loss::HandshakeUntimed);
        } else {
            counters.handshake_time.count(us, histogram::HANDSHAKE_SHIFT);
        }
        let address = fields::local_address::<M>(socket, family);
        let port = M::read::<u16>(socket, &fields::OFF_NUM);
        let packets = listeners::family_of(&address);
        let local = hash::halves(&address);
        if let Some(slot) = listeners::find(local, port, packets) {
            let interface = M::read::<u32>(socket, &fields::OFF_RX_IFINDEX);
            let watched = interfaces::find(interface).is_some();
            // What came by loopback came by nothing else: if that is not watched, no SYN of it is in the sample.
            let flow = (watched || interface != LOOPBACK).then(|| {
                let remote = hash::halves(&fields::remote_address::<M>(socket, family));
                let source = hash::source(fields::HASH_KEY.load(), remote);
                hash::flow(source, local, u16::from_be(M::read(socket, &fields::OFF_DPORT)), port)
            });
            listeners::count_completed(slot, packets, watched, us, flow);
        }
    }
}

/// Stands for a time that the kernel did not keep. No `Option`: its undefined half would be spilled to the stack, which
/// the verifier refuses.
pub(crate) const UNTIMED: u64 = u64::MAX;

/// Time from the first SYN-ACK to the ACK that completes the handshake, in microseconds, or [`UNTIMED`]
/// (`tcp_create_openreq_child`, `tcp_synack_rtt_meas`).
#[inline(always)]
unsafe fn handshake_us<M: Memory>(tcp: *const u8) -> u64 {
    // SAFETY: the caller's: `tcp` is a `tcp_sock`.
    unsafe {
        let repeats = M::read::<u32>(tcp, &fields::OFF_TOTAL_RETRANS);
        if repeats != 0 {
            let ms = if fields::OFF_RTO_TIME.load() == ABSENT { 0 } else { M::read::<u32>(tcp, &fields::OFF_RTO_TIME) };
            // Without a timeout of its own the server only answered SYNs that the client repeated, which it does after a
            // second or more; before Linux 6.7 no time is kept at all.
            return if ms == 0 { u64::from(repeats) * FIRST_TIMEOUT_MS } else { u64::from(ms) } * 1000;
        }
        let srtt = M::read::<u32>(tcp, &fields::OFF_SRTT);
        if srtt == 0 { UNTIMED } else { u64::from(srtt >> 3) }
    }
}
