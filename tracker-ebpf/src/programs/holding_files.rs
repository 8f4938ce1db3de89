//! Who holds a port: the sockets behind descriptors, each with its process, by `bpf_iter/task_file`.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_sock_from_file;

use super::holders::{context, name};
use crate::{
    fields::{self, Memory as _, Probed, Typed},
    holding,
};

const IPPROTO_TCP: u16 = 6;
const IPPROTO_UDP: u16 = 17;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn tracker_files_at(ctx: *mut c_void) -> i32 {
    // SAFETY: the context of an iterator over the files of tasks; the kernel holds references to both during this call.
    unsafe {
        let (meta, task, file) = context(ctx);
        if task.is_null() || file.is_null() {
            return 0;
        }
        let socket: *const u8 = bpf_sock_from_file(file).cast();
        if socket.is_null() {
            return 0;
        }
        let sock: *const u8 = Typed::read(socket, &fields::OFF_SOCKET_SK);
        if !sock.is_null() {
            met(meta, task, sock);
        }
    }
    0
}

#[inline(always)]
unsafe fn met(meta: *const u8, task: *const u8, socket: *const u8) {
    // SAFETY: the caller's: `task` is a `task_struct`, `socket` a `sock`, `meta` that of the iterator.
    unsafe {
        let (Some(family), Some(query)) = (fields::family::<Typed>(socket), holding::query()) else { return };
        let protocol = Typed::read::<u16>(socket, &fields::OFF_PROTOCOL);
        if !matches!(protocol, IPPROTO_TCP | IPPROTO_UDP)
            || !holding::is_wanted(socket, query)
            || fields::netns::<Typed>(socket) != query.netns
        {
            return;
        }
        let mut record = holding::record(socket, family, protocol);
        record.uid = Typed::read(socket, &fields::OFF_UID);
        record.inode = fields::inode(socket);
        record.pid = Typed::read(task, &fields::OFF_TGID);
        record.comm = name(task);
        if protocol == IPPROTO_TCP {
            // The verifier does not know the socket for one of TCP, hence a probe read of the pointer and of what it leads to.
            let bucket: *const u8 = Probed::read(socket, &fields::OFF_BIND_BUCKET);
            if !bucket.is_null() {
                record.fastreuse = Probed::read(bucket, &fields::OFF_FASTREUSE);
                record.fastreuseport = Probed::read(bucket, &fields::OFF_FASTREUSEPORT);
            }
        }
        holding::write(meta, &record);
    }
}
