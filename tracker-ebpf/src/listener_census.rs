//! What the census finds at each listener: its queues, and the sockets that came by way of it.

use aya_ebpf::{macros::map, maps::Array};
use tracker_common::{
    layout::Sum as _,
    limits,
    listener::{ListenerCensus, ListenerQueues},
};

use crate::{
    fields::{self, Memory},
    listener_lookup, listeners, listening, sources,
};

#[map]
static LISTENER_CENSUS: Array<ListenerCensus> = Array::with_max_entries(limits::LISTENERS + 1, 0);

/// Adds a listening socket, and its listener if it is not yet known from an event.
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read, and its lock is held.
#[inline(always)]
pub(crate) unsafe fn visit_listener<M: Memory>(
    socket: *const u8,
    family: usize,
    generation: u32,
    inode: u64,
    queues: &ListenerQueues,
) {
    // SAFETY: the caller's `socket`.
    let Some((slot, dual)) = (unsafe {
        listening::mark_old::<M>(socket);
        listeners::found::<M>(socket, family)
    }) else {
        return;
    };
    let Some(census) = LISTENER_CENSUS.get_ptr_mut(slot) else { return };
    // SAFETY: an entry of a map; one census runs at a time, and it alone writes here.
    let census = unsafe { &mut *census };
    if census.generation != generation {
        *census = ListenerCensus { generation, inode, ..ListenerCensus::default() };
    }
    census.dual += u32::from(dual);
    census.queues.add(queues);
}

/// A socket that the census finds at a listener's address, besides the listening ones.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketKind {
    /// A request, and whether its handshake is complete.
    HalfOpen {
        acked: bool,
    },
    FastOpen,
    Connected,
}

/// Adds a socket that came by way of a listener, if any listens at its local address. The census visits the listeners
/// before all other sockets.
///
/// # Safety
/// `socket` is a `sock_common` of that family that `M` can read.
#[inline(always)]
pub(crate) unsafe fn visit<M: Memory>(socket: *const u8, family: usize, generation: u32, kind: SocketKind) {
    // SAFETY: the caller's `socket`.
    let (address, port, device) = unsafe {
        let address = fields::local_address::<M>(socket, family);
        (address, M::read::<u16>(socket, &fields::OFF_NUM), listeners::bound_device::<M>(socket))
    };
    let Some(slot) = listener_lookup::find(address, port, listeners::family_of(address), device) else { return };
    let Some(census) = LISTENER_CENSUS.get_ptr_mut(slot) else { return };
    // SAFETY: an entry of a map; one census runs at a time, and it alone writes here.
    let census = unsafe { &mut *census };
    if census.generation != generation {
        return;
    }
    match kind {
        SocketKind::HalfOpen { acked } => {
            census.queues.half_open += 1;
            census.queues.waiting_for_data += u32::from(acked);
            // SAFETY: the caller's `socket`.
            let source = unsafe { fields::remote_address::<M>(socket, family) };
            if !sources::half_open(slot, source, generation) {
                census.queues.half_open_unnamed += 1;
            }
        }
        SocketKind::FastOpen => census.queues.fast_open += 1,
        SocketKind::Connected => census.queues.connected += 1,
    }
}
