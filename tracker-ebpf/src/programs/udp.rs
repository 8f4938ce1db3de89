//! UDP sockets by `bpf_iter/udp`: their ports are a space of their own.
//!
//! Its namespace is that of the thread which created the iterator.

use core::ffi::c_void;

use crate::ports;

/// `struct bpf_iter__udp`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct IteratorContext {
    pub(crate) meta: *const u8,
    pub(crate) socket: *const u8,
    pub(crate) uid: u32,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
pub extern "C" fn tracker_udp(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of an iterator over UDP sockets; the kernel holds a reference to the socket during this call.
    unsafe {
        let socket = (*ctx.cast::<IteratorContext>()).socket;
        if !socket.is_null() {
            ports::count_udp(socket);
        }
    }
    0
}
