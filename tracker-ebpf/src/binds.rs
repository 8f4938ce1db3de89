//! Calls of `bind()` that were refused because the port is held (`EADDRINUSE`).

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_user},
    macros::map,
    maps::HashMap,
};
use tracker_common::{
    hash::{self, AddrWords},
    limits,
    ports::{BindFailureKey, Failure},
};

use crate::{
    counted_map,
    fields::{self, AF_INET, AF_INET6, Memory as _, Probed},
};

#[map]
static BIND_FAILURES: HashMap<BindFailureKey, Failure> = HashMap::with_max_entries(limits::BIND_FAILURES, 0);

const EADDRINUSE: i64 = 98;

/// What a process handed to `bind()`.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// Descriptor.
    pub(crate) descriptor: u64,
    /// Where its memory holds the address.
    pub(crate) address: u64,
}

/// Counts a call of `bind()` by the running process if it was refused for that reason.
#[inline(always)]
pub(crate) fn ended<C: EbpfContext>(ctx: &C, call: Call, result: i64) {
    if result != -EADDRINUSE {
        return;
    }
    let Some((address, port, family)) = asked(call.address) else { return };
    let socket = socket_of(call.descriptor);
    if socket.is_null() {
        return;
    }
    // SAFETY: probe reads of fields of a `sock`; one of a bad address reads as zero.
    unsafe {
        let netns = fields::netns::<Probed>(socket);
        if netns != fields::NETNS.load() && fields::ALL_NETNS.load() == 0 {
            return;
        }
        let key = BindFailureKey {
            address,
            netns,
            pid: counted_map::process(),
            port,
            protocol: protocol(Probed::read(socket, &fields::OFF_PROTOCOL)),
            family,
        };
        counted_map::count_failure::<Probed, C, _>(ctx, &BIND_FAILURES, &key, socket, 0);
    }
}

/// Whose ports a socket takes: those of Multipath TCP are TCP's (`mptcp_bind` binds a subflow).
#[inline(always)]
fn protocol(of_socket: u16) -> u16 {
    const TCP: u16 = 6;
    const MPTCP: u16 = 262;
    if of_socket == MPTCP { TCP } else { of_socket }
}

/// Address, port and family of a `sockaddr` in the memory of the process; `None` for families other than IP.
#[inline(always)]
fn asked(address: u64) -> Option<(AddrWords, u16, u32)> {
    // SAFETY: probe reads of memory of the process; one of a bad address fails.
    unsafe {
        let start = address as *const u8;
        let family: u16 = bpf_probe_read_user(start.cast()).unwrap_or(0);
        let port = u16::from_be(bpf_probe_read_user(start.add(2).cast()).unwrap_or(0));
        match family {
            AF_INET => Some((hash::mapped(bpf_probe_read_user(start.add(4).cast()).unwrap_or(0)), port, 0)),
            AF_INET6 => {
                let address = bpf_probe_read_user(start.add(8).cast::<[u8; 16]>()).unwrap_or_default();
                Some((hash::to_words(&address), port, 1))
            }
            _ => None,
        }
    }
}

/// The `sock` behind a descriptor of the running process.
#[inline(always)]
fn socket_of(descriptor: u64) -> *const u8 {
    // SAFETY: probe reads along fields that BTF names; one of a bad address reads as zero.
    unsafe {
        let files: *const u8 = Probed::read(bpf_get_current_task() as *const u8, &fields::OFF_FILES);
        let table: *const u8 = Probed::read(files, &fields::OFF_FDT);
        let array: *const u8 = Probed::read(table, &fields::OFF_FD);
        let place = array.add((descriptor as u32 as usize) * size_of::<*const u8>());
        let file: *const u8 = bpf_probe_read_kernel(place.cast()).unwrap_or(core::ptr::null());
        let socket: *const u8 = Probed::read(file, &fields::OFF_PRIVATE);
        Probed::read(socket, &fields::OFF_SOCKET_SK)
    }
}
