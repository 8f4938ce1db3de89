//! Census: every TCP socket of the namespace, minisockets included, counted in the kernel by `bpf_iter/tcp`.
//!
//! The iterator visits the listeners first and then all others (`bpf_iter_tcp_batch` in the kernel's
//! `net/ipv4/tcp_ipv4.c`). Its namespace is that of the thread which created it.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::generated::{bpf_skc_to_tcp_request_sock, bpf_skc_to_tcp_timewait_sock},
    macros::map,
    maps::Array,
};
use tracker_common::{
    counters::Census,
    listener::ListenerQueues,
    state::{ESTABLISHED, LISTEN, NEW_SYN_RECV, SYN_RECV, TIME_WAIT},
};

use crate::{
    count,
    fields::{self, Memory, Typed},
    listener_census::{self, SocketKind},
    ports,
    sightings::Socket,
};

#[map]
static CENSUS: Array<Census> = Array::with_max_entries(1, 0);

#[map]
static CENSUS_GEN: Array<u32> = Array::with_max_entries(1, 0);

/// `struct bpf_iter__tcp`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct IteratorContext {
    pub(crate) meta: *const u8,
    pub(crate) socket: *const u8,
    pub(crate) uid: u32,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn tracker_census(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of an iterator over TCP sockets.
    let socket = unsafe { (*ctx.cast::<IteratorContext>()).socket };
    // A last call without a socket ends the pass; in an empty namespace it is the only one.
    ports::begin();
    if !socket.is_null() {
        // SAFETY: the kernel holds a reference to the socket during this call.
        unsafe { visit(socket) };
    }
    0
}

/// Counts one socket by its state, by its listener and by its local port.
///
/// # Safety
/// `socket` is a `sock_common`.
#[inline(always)]
unsafe fn visit(socket: *const u8) {
    // SAFETY: the caller's `socket`; all kinds of sockets begin with a `sock_common`.
    unsafe {
        let Some(family) = fields::family::<Typed>(socket) else { return };
        let (Some(census), Some(generation)) = (CENSUS.get_ptr_mut(0), CENSUS_GEN.get(0)) else { return };
        let mut state: u8 = Typed::read(socket, &fields::OFF_STATE);
        let mut waiting: *const u8 = core::ptr::null();
        if state == TIME_WAIT {
            // An orphan in FIN_WAIT2 is kept as a minisocket too; ss(8) and /proc/net/tcp tell them apart by this
            // field.
            waiting = bpf_skc_to_tcp_timewait_sock(socket.cast_mut().cast()).cast();
            if !waiting.is_null() {
                state = Typed::read(waiting, &fields::OFF_TW_SUBSTATE);
            }
        }
        // One census runs at a time, and it alone writes here.
        count::add(&mut (*census).states, family, usize::from(state), 1);
        let own = ports::pass().is_none_or(|pass| pass.own != 0);
        match state {
            _ if !own => {}
            LISTEN => listener(socket, family, *generation),
            NEW_SYN_RECV => {
                let kind = SocketKind::HalfOpen { acked: is_acked(socket) };
                listener_census::visit::<Typed>(socket, family, *generation, kind);
            }
            SYN_RECV => listener_census::visit::<Typed>(socket, family, *generation, SocketKind::FastOpen),
            ESTABLISHED => listener_census::visit::<Typed>(socket, family, *generation, SocketKind::Connected),
            _ => {}
        }
        if waiting.is_null() {
            let full = if state == NEW_SYN_RECV { core::ptr::null() } else { Typed::tcp_sock(socket) };
            if !full.is_null() {
                ports::count(&Socket { common: socket, typed: full, family, state, minisocket: false });
            }
        } else {
            ports::count(&Socket { common: socket, typed: waiting, family, state, minisocket: true });
        }
    }
}

/// Whether the handshake of a request is complete, and it waits for the first data (`TCP_DEFER_ACCEPT`).
///
/// # Safety
/// `socket` is a request socket.
#[inline(always)]
unsafe fn is_acked(socket: *const u8) -> bool {
    // SAFETY: the caller's `socket`; a `tcp_request_sock` begins with an `inet_request_sock`.
    unsafe {
        let request: *const u8 = bpf_skc_to_tcp_request_sock(socket.cast_mut().cast()).cast();
        if request.is_null() {
            return false;
        }
        Typed::read::<u8>(request, &fields::OFF_REQUEST_ACKED) >> (fields::REQUEST_ACKED_BIT.load() & 7) & 1 != 0
    }
}

/// Counts a listening socket.
///
/// # Safety
/// `socket` is a listening `sock` of that family.
#[inline(always)]
unsafe fn listener(socket: *const u8, family: usize, generation: u32) {
    let tcp = Typed::tcp_sock(socket);
    if tcp.is_null() {
        return;
    }
    // SAFETY: the caller's `socket`, and `tcp`, which is the same as a `tcp_sock`: it begins with the
    // `inet_connection_sock` and the `sock`.
    unsafe {
        let queues = ListenerQueues {
            sockets: 1,
            syn_queue: Typed::read(tcp, &fields::OFF_QLEN),
            syn_queue_young: Typed::read(tcp, &fields::OFF_YOUNG),
            accept_queue: Typed::read(tcp, &fields::OFF_ACK_BACKLOG),
            accept_queue_max: Typed::read(tcp, &fields::OFF_MAX_ACK_BACKLOG),
            drops: u64::from(Typed::read::<u32>(tcp, &fields::OFF_DROPS)),
            defer_accept: u64::from(Typed::read::<u8>(tcp, &fields::OFF_DEFER_ACCEPT) != 0),
            ..ListenerQueues::default()
        };
        // The iterator's pointer is a `sock_common` to the verifier; the cast one is a full socket.
        listener_census::visit_listener::<Typed>(tcp, family, generation, fields::inode(tcp), &queues);
    }
}
