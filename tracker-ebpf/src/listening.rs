//! Listening sockets, each by itself: a mark that the kernel keeps with the socket, by which `programs/listening.rs`
//! finds them all without a walk over all other sockets.

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    btf_maps::SkStorage,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, generated::bpf_sk_storage_get},
    macros::btf_map,
};
use tracker_common::listener::ListeningMark;

use crate::fields::Memory;

#[btf_map]
static LISTENING: SkStorage<ListeningMark> = SkStorage::new();

/// Marks a socket that begins to listen, in the context of its process. Where pointers have no type it stays unmarked
/// until the next census.
///
/// # Safety
/// `socket` is a full `sock` that `M` can read.
#[inline(always)]
pub(crate) unsafe fn mark_new<M: Memory>(socket: *const u8) {
    if !M::TYPED {
        return;
    }
    // SAFETY: the caller's `socket`.
    let mark = unsafe { mark(socket) };
    if !mark.is_null() {
        let process = bpf_get_current_pid_tgid();
        let comm = bpf_get_current_comm().unwrap_or_default();
        // SAFETY: the helper returned the mark of this socket, which nobody else writes at this moment.
        unsafe { *mark = ListeningMark { pid: (process >> 32) as u32, tid: process as u32, comm } };
    }
}

/// Marks a socket that the census visits, if it is not marked.
///
/// # Safety
/// `socket` is a full `sock` that the verifier knows by its type.
#[inline(always)]
pub(crate) unsafe fn mark_old<M: Memory>(socket: *const u8) {
    if M::TYPED {
        // SAFETY: the caller's `socket`.
        unsafe { mark(socket) };
    }
}

/// The mark of a socket, made if it is missing; null when there is no memory for it.
///
/// # Safety
/// `socket` is a full `sock` that the verifier knows by its type.
#[inline(always)]
unsafe fn mark(socket: *const u8) -> *mut ListeningMark {
    let map = (&raw const LISTENING).cast_mut().cast();
    let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: a map of this kind, the caller's `socket`, and no first value: it is all zeros then.
    unsafe { bpf_sk_storage_get(map, socket.cast_mut().cast(), core::ptr::null_mut(), create) }.cast()
}
