//! The UDP sockets that hold a port, by `bpf_iter/udp`.

use core::ffi::c_void;

use crate::{
    fields::{self, Typed},
    holding,
};

const IPPROTO_UDP: u16 = 17;

/// `struct bpf_iter__udp`.
#[repr(C)]
pub(crate) struct IteratorContext {
    meta: *const u8,
    pub(crate) socket: *const u8,
    uid: u32,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
pub extern "C" fn tracker_udp_at(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of an iterator over UDP sockets; the kernel holds a reference to the socket during this call.
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
    // SAFETY: the caller's: `socket` is a `udp_sock`, `meta` that of the iterator.
    unsafe {
        let (Some(family), Some(query)) = (fields::family::<Typed>(socket), holding::query()) else { return };
        if holding::is_wanted(socket, query) {
            let mut record = holding::record(socket, family, IPPROTO_UDP);
            record.uid = uid;
            record.inode = fields::inode(socket);
            holding::write(meta, &record);
        }
    }
}
