//! The TCP sockets that hold a port, by `bpf_iter/tcp`. Sockets that are bound and neither listen nor connect are in
//! none of the kernel's tables that it walks: the pass over descriptors finds them.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_timewait_sock;
use tracker_common::{
    socket::{SocketQuery, SocketRecord},
    state::{LISTEN, NEW_SYN_RECV, TIME_WAIT},
};

use super::census::IteratorContext;
use crate::{
    fields::{self, IPPROTO_TCP, Memory as _, Typed},
    ranges, socket_dump,
};

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn tracker_tcp_at(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of an iterator over TCP sockets; the kernel holds a reference to the socket during this call.
    unsafe {
        let IteratorContext { meta, socket, uid } = *ctx.cast();
        if !socket.is_null() {
            socket_dump::dump(meta, socket, IPPROTO_TCP, |record, query| {
                record.uid = uid;
                fill(record, socket, query)
            });
        }
    }
    0
}

/// Adds what only a TCP socket has. A request is left out: it belongs to its listener and holds no port of its own.
///
/// # Safety
/// `socket` is a `sock_common` of TCP.
#[inline(always)]
unsafe fn fill(record: &mut SocketRecord, socket: *const u8, query: &SocketQuery) -> bool {
    // SAFETY: the caller's `socket`, and what the helpers return, which are the same socket by its own type.
    unsafe {
        match record.state {
            NEW_SYN_RECV => return false,
            TIME_WAIT => {
                let minisocket: *const u8 = bpf_skc_to_tcp_timewait_sock(socket.cast_mut().cast()).cast();
                if !minisocket.is_null() {
                    socket_dump::waiting(record, minisocket, query);
                }
            }
            _ => {
                let tcp = Typed::tcp_sock(socket);
                if !tcp.is_null() {
                    socket_dump::bucket(record, Typed::read(tcp, &fields::OFF_BIND_BUCKET));
                    record.inode = fields::inode(tcp);
                    if record.state == LISTEN {
                        record.accept_queue = Typed::read(tcp, &fields::OFF_ACK_BACKLOG);
                        record.accept_queue_max = Typed::read(tcp, &fields::OFF_MAX_ACK_BACKLOG);
                        record.syn_queue = Typed::read(tcp, &fields::OFF_QLEN);
                        record.syn_queue_young = Typed::read(tcp, &fields::OFF_YOUNG);
                    }
                    record.range = ranges::set_by(tcp);
                }
            }
        }
    }
    true
}
