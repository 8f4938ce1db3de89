//! Socket events: every state transition of TCP sockets, as `inet_sock_set_state` reports it.
//!
//! That tracepoint shows neither `TIME_WAIT` nor half-open requests. LISTEN to `SYN_RECV` comes when a handshake
//! completes and, before Linux 6.18, with the listener's fields. At the end of a connection `skc_num` is already 0, but
//! `inet_sport` still has the port.

use aya_ebpf::{EbpfContext, macros::map, maps::PerCpuArray};
use aya_log_ebpf::debug;
use tracker_common::{
    counters::{CloseKind, Loss, SocketCounters},
    delivery::Target,
    hash, histogram,
    state::{CLOSE, CLOSE_WAIT, COUNT as STATES, ESTABLISHED, FIN_WAIT1, LISTEN, SYN_RECV, SYN_SENT},
};

use crate::{
    connectors, count, delivery, failures,
    fields::{self, IPPROTO_TCP, Memory},
    handshake::{self, UNTIMED},
    interfaces, lifetimes, listener_counters, listener_lookup, listeners, losses, sources,
};

#[map]
static SOCKET_CTRS: PerCpuArray<SocketCounters> = PerCpuArray::with_max_entries(1, 0);

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
    // SAFETY: the caller's `socket`, a full `sock`: of TCP no other kind has these events. The counters are this CPU's.
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
        count_event::<M, C>(ctx, counters, socket, family, (from as u8, to as u8));
        // A connection of any kind ends; those that were never established were never timed.
        if to as u8 == CLOSE
            && !matches!(from as u8, LISTEN | SYN_SENT)
            && let Some(us) = lifetimes::end(socket, &mut counters.timed)
        {
            counters.lifetime.count(us, histogram::LIFETIME_SHIFT);
        }
    }
}

/// Counts what a transition means, besides the transition itself.
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read.
#[inline(always)]
unsafe fn count_event<M: Memory, C: EbpfContext>(
    ctx: &C,
    counters: &mut SocketCounters,
    socket: *const u8,
    family: usize,
    transition: (u8, u8),
) {
    // SAFETY: the caller's `socket`.
    unsafe {
        match transition {
            (SYN_SENT, ESTABLISHED) => connected::<M>(counters, socket),
            (SYN_SENT, CLOSE) => failed::<M, C>(ctx, counters, socket, family),
            (SYN_RECV, ESTABLISHED) => accepted::<M>(counters, socket, family),
            (CLOSE, SYN_SENT) => connectors::connecting::<M, C>(ctx, socket, family),
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

/// `connect()` succeeded. Without retransmissions the kernel's first round-trip sample is the time from SYN to SYN-ACK.
///
/// # Safety
/// `socket` is a full `sock` that `M` can read.
#[inline(always)]
unsafe fn connected<M: Memory>(counters: &mut SocketCounters, socket: *const u8) {
    lifetimes::start(socket, &mut counters.timed);
    let tcp = M::tcp_sock(socket);
    if tcp.is_null() {
        return;
    }
    // SAFETY: the caller's `socket`, and `tcp`, which is the same as a `tcp_sock`.
    unsafe {
        let repeats = M::read::<u32>(tcp, &fields::OFF_TOTAL_RETRANS);
        let us = if repeats == 0 {
            u64::from(M::read::<u32>(tcp, &fields::OFF_SRTT) >> 3)
        } else {
            handshake::repeated_us::<M>(tcp, repeats)
        };
        counters.connect_time.count(us, histogram::HANDSHAKE_SHIFT);
    }
}

/// Whether a connect failed before it sent anything, with an error that the socket does not keep: nothing is under way,
/// nor is the socket being closed. The port that it has, or had at an earlier connect, says nothing.
///
/// # Safety
/// `socket` is a full `sock` that `M` can read, and `tcp` the same as a `tcp_sock`.
#[inline(always)]
unsafe fn is_unsent<M: Memory>(socket: *const u8, tcp: *const u8) -> bool {
    // SAFETY: the caller's `socket` and `tcp`.
    unsafe {
        M::read::<i32>(socket, &fields::OFF_ERR) == 0
            && M::read::<u8>(socket, &fields::OFF_SHUTDOWN) == 0
            && M::read::<u32>(tcp, &fields::OFF_PACKETS_OUT) == 0
    }
}

/// A connect failed in another network namespace.
///
/// # Safety
/// `socket` is a full `sock` that `M` can read.
#[inline(always)]
unsafe fn elsewhere<M: Memory, C: EbpfContext>(ctx: &C, socket: *const u8) {
    // SAFETY: the caller's `socket`, and `tcp`, which is the same as a `tcp_sock`.
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

/// `connect()` failed. Without a port, or without an error and before a SYN was sent, it never left this host: the
/// kernel found no port, or the one that the socket is bound to is taken for this destination
/// (`__inet_check_established`). Both are `EADDRNOTAVAIL`. Without an error but after a SYN the process gave it up.
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read.
#[inline(always)]
unsafe fn failed<M: Memory, C: EbpfContext>(ctx: &C, counters: &mut SocketCounters, socket: *const u8, family: usize) {
    let tcp = M::tcp_sock(socket);
    if tcp.is_null() {
        return;
    }
    // SAFETY: the caller's `socket`, and `tcp`, which is the same as a `tcp_sock`.
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
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read.
#[inline(always)]
unsafe fn accepted<M: Memory>(counters: &mut SocketCounters, socket: *const u8, family: usize) {
    lifetimes::start(socket, &mut counters.timed);
    let tcp = M::tcp_sock(socket);
    if tcp.is_null() {
        return;
    }
    // SAFETY: the caller's `socket`, and `tcp`, which is the same as a `tcp_sock`.
    unsafe {
        let us = handshake::handshake_us::<M>(tcp);
        if us == UNTIMED {
            losses::count(Loss::HandshakeUntimed);
        } else {
            counters.handshake_time.count(us, histogram::HANDSHAKE_SHIFT);
        }
        let local = fields::local_address::<M>(socket, family);
        let port = M::read::<u16>(socket, &fields::OFF_NUM);
        let packets = listeners::family_of(local);
        let remote = fields::remote_address::<M>(socket, family);
        let source = hash::source(fields::HASH_KEY.load(), remote);
        let remote_port = u16::from_be(M::read(socket, &fields::OFF_DPORT));
        // By a transparent proxy the connection has the address that the client asked for, where nobody listens.
        let slot = listener_lookup::find(local, port, packets, listeners::bound_device::<M>(socket))
            .or_else(|| delivery::place(source, remote_port).and_then(Target::slot));
        if let Some(slot) = slot {
            if slot == 0 {
                listener_lookup::note_shared(local, port, packets);
            }
            let interface = M::read::<u32>(socket, &fields::OFF_RX_IFINDEX);
            let watched = interfaces::find(interface).is_some();
            if watched {
                sources::completed(slot, remote);
            }
            // What came by loopback came by nothing else: if that is not watched, no SYN of it is in the sample.
            let flow = (watched || interface != LOOPBACK).then(|| hash::flow(source, local, remote_port, port));
            listener_counters::completed(slot, packets, watched, us, flow);
        }
    }
}
