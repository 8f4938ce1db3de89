//! Who holds a port: the sockets behind descriptors, each with its process, by `bpf_iter/task_file`.

use core::ffi::c_void;

use super::holders::{context, process_name, socket_of};
use crate::{
    fields::{self, IPPROTO_TCP, IPPROTO_UDP, Memory as _, Probed, Typed},
    socket_dump,
};

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn tracker_files_at(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of an iterator over the files of tasks; the kernel holds references to both during this call.
    unsafe {
        let (meta, task, file) = context(ctx);
        if let Some(socket) = socket_of(task, file) {
            visit(meta, task, socket);
        }
    }
    0
}

/// Writes a socket that a process holds.
///
/// # Safety
/// `task` is a `task_struct`, `socket` a `sock`, `meta` the `bpf_iter_meta` of the running iterator.
#[inline(always)]
unsafe fn visit(meta: *const u8, task: *const u8, socket: *const u8) {
    // SAFETY: the caller's `meta`, `task` and `socket`.
    unsafe {
        let protocol = Typed::read::<u16>(socket, &fields::OFF_PROTOCOL);
        if !matches!(protocol, IPPROTO_TCP | IPPROTO_UDP) {
            return;
        }
        socket_dump::dump(meta, socket, protocol, |record, query| {
            if fields::netns::<Typed>(socket) != query.netns {
                return false;
            }
            record.uid = Typed::read(socket, &fields::OFF_UID);
            record.inode = fields::inode(socket);
            record.pid = Typed::read(task, &fields::OFF_TGID);
            record.comm = process_name(task);
            if protocol == IPPROTO_TCP {
                // The verifier does not know the socket as one of TCP, hence probe reads.
                let bucket: *const u8 = Probed::read(socket, &fields::OFF_BIND_BUCKET);
                if !bucket.is_null() {
                    record.fastreuse = Probed::read(bucket, &fields::OFF_FASTREUSE);
                    record.fastreuseport = Probed::read(bucket, &fields::OFF_FASTREUSEPORT);
                }
            }
            true
        });
    }
}
