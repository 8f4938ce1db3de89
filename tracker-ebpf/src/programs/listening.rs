//! The queues of each listening socket, by `bpf_iter/bpf_sk_storage_map` over the marks of `listening.rs`: it visits
//! these sockets alone, where a census walks all.

use core::ffi::c_void;

use aya_ebpf::{bindings::seq_file, helpers::generated::bpf_seq_write};
use tracker_common::{
    listener::{ListeningMark, ListeningSocket},
    state::LISTEN,
};

use crate::{
    fields::{self, Memory as _, Typed},
    listeners,
};

/// `struct bpf_iter__bpf_sk_storage_map`.
#[repr(C)]
struct IteratorContext {
    meta: *const u8,
    map: *const u8,
    socket: *const u8,
    mark: *const ListeningMark,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
pub extern "C" fn tracker_listening(ctx: *mut c_void) -> i32 {
    let ctx = ctx.cast::<IteratorContext>();
    // Each is read once, so that the verifier sees the check for null on the very value that is used.
    // SAFETY: the context of an iterator over the marks of sockets.
    let (meta, socket, mark) = unsafe {
        (
            (&raw const (*ctx).meta).read_volatile(),
            (&raw const (*ctx).socket).read_volatile(),
            (&raw const (*ctx).mark).read_volatile(),
        )
    };
    if !socket.is_null() && !mark.is_null() {
        // SAFETY: the kernel holds the socket and its mark during this call.
        unsafe { visit(meta, socket, mark) };
    }
    0
}

/// Writes a socket, if it listens in the daemon's namespace.
///
/// # Safety
/// `meta` is the `bpf_iter_meta` of the running iterator, `socket` a `sock`, `mark` its mark.
#[inline(always)]
#[expect(clippy::cast_ptr_alignment, reason = "a structure of the kernel, which is aligned")]
unsafe fn visit(meta: *const u8, socket: *const u8, mark: *const ListeningMark) {
    // SAFETY: the caller's pointers; `tcp` is the same socket, a `tcp_sock`, which begins with the
    // `inet_connection_sock` and the `sock`. `seq` is the first member of `bpf_iter_meta`.
    unsafe {
        if Typed::read::<u8>(socket, &fields::OFF_STATE) != LISTEN
            || fields::netns::<Typed>(socket) != fields::NETNS.load()
        {
            return;
        }
        let Some(family) = fields::family::<Typed>(socket) else { return };
        let tcp = Typed::tcp_sock(socket);
        if tcp.is_null() {
            return;
        }
        let (key, dual) = listeners::identity::<Typed>(tcp, family);
        listeners::obey_orders(&key);
        let record = ListeningSocket {
            inode: fields::inode(tcp),
            key,
            dual: u32::from(dual),
            syn_queue: Typed::read(tcp, &fields::OFF_QLEN),
            syn_queue_young: Typed::read(tcp, &fields::OFF_YOUNG),
            accept_queue: Typed::read(tcp, &fields::OFF_ACK_BACKLOG),
            accept_queue_max: Typed::read(tcp, &fields::OFF_MAX_ACK_BACKLOG),
            drops: Typed::read(tcp, &fields::OFF_DROPS),
            defer_accept: u32::from(Typed::read::<u8>(tcp, &fields::OFF_DEFER_ACCEPT) != 0),
            mark: *mark,
        };
        let seq = *meta.cast::<*mut seq_file>();
        bpf_seq_write(seq, (&raw const record).cast_mut().cast(), size_of::<ListeningSocket>() as u32);
    }
}
