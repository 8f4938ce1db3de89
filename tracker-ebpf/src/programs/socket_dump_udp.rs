//! The UDP sockets that hold a port, by `bpf_iter/udp`.

use core::ffi::c_void;

use super::udp::IteratorContext;
use crate::{
    fields::{self, IPPROTO_UDP},
    socket_dump,
};

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
pub extern "C" fn tracker_udp_at(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of an iterator over UDP sockets; the kernel holds a reference to the socket during this call.
    unsafe {
        let IteratorContext { meta, socket, uid } = *ctx.cast();
        if !socket.is_null() {
            socket_dump::dump(meta, socket, IPPROTO_UDP, |record, _| {
                record.uid = uid;
                record.inode = fields::inode(socket);
                true
            });
        }
    }
    0
}
