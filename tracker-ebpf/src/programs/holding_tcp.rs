//! The TCP sockets that hold a port, by `bpf_iter/tcp`. Those that are bound and neither listen nor connect are in no table of
//! the kernel's that it walks: the pass over descriptors finds them.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_timewait_sock;
use tracker_common::state::{NEW_SYN_RECV, TIME_WAIT};

use super::census::IteratorContext;
use crate::{
    fields::{self, Memory as _, Typed},
    holding,
};

const IPPROTO_TCP: u16 = 6;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn tracker_tcp_at(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of an iterator over TCP sockets; the kernel holds a reference to the socket during this call.
    unsafe {
        let ctx = &*ctx.cast::<IteratorContext>();
        if !ctx.socket.is_null() {
            met(ctx.meta, ctx.socket, ctx.uid);
        }
    }
    0
}

#[inline(always)]
unsafe fn met(meta: *const u8, socket: *const u8, uid: u32) {
    // SAFETY: the caller's: `socket` is a `sock_common`, `meta` that of the iterator.
    unsafe {
        let (Some(family), Some(query)) = (fields::family::<Typed>(socket), holding::query()) else { return };
        if !holding::is_wanted(socket, query) {
            return;
        }
        let mut record = holding::record(socket, family, IPPROTO_TCP);
        record.uid = uid;
        match record.state {
            // A request belongs to its listener and holds no port of its own.
            NEW_SYN_RECV => return,
            TIME_WAIT => {
                let minisocket: *const u8 = bpf_skc_to_tcp_timewait_sock(socket.cast_mut().cast()).cast();
                if !minisocket.is_null() {
                    holding::waiting(&mut record, minisocket, query);
                }
            }
            _ => {
                let tcp = Typed::tcp_sock(socket);
                if !tcp.is_null() {
                    holding::bucket(&mut record, Typed::read(tcp, &fields::OFF_BIND_BUCKET));
                    record.inode = fields::inode(tcp);
                }
            }
        }
        holding::write(meta, &record);
    }
}
