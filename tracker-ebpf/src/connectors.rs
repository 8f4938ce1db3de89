//! Which process connects to a destination that is short of ports. A connection in `TIME_WAIT` no longer has a process;
//! only here is it known who made it.

use aya_ebpf::{EbpfContext, macros::map, maps::HashMap};
use tracker_common::{
    counters::Loss,
    limits,
    ports::{Connector, ConnectorKey, Watched},
};

use crate::{
    atomic, counted_map,
    fields::{self, Memory},
    ports, ranges,
};

#[map]
static WATCHED: HashMap<Watched, u64> = HashMap::with_max_entries(limits::WATCHED, 0);

#[map]
static CONNECTORS: HashMap<ConnectorKey, Connector> = HashMap::with_max_entries(limits::CONNECTORS, 0);

/// Counts a call of `connect()` for the running process, if its destination is watched.
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read.
#[inline(always)]
pub(crate) unsafe fn connecting<M: Memory, C: EbpfContext>(ctx: &C, socket: *const u8, family: usize) {
    if ports::pass().is_none_or(|pass| pass.watching == 0) {
        return;
    }
    // SAFETY: the caller's `socket`, which begins with a `sock_common`.
    let (destination, port) = unsafe {
        let destination = fields::remote_address::<M>(socket, family);
        (destination, u32::from(u16::from_be(M::read(socket, &fields::OFF_DPORT))))
    };
    if WATCHED.get_ptr(Watched { destination, port, padding: 0 }).is_none() {
        return;
    }
    let key = ConnectorKey { destination, port, pid: counted_map::process() };
    let first = || Connector { comm: ctx.command().unwrap_or_default(), ..Connector::default() };
    if let Some(connector) = counted_map::entry(&CONNECTORS, &key, Loss::ConnectorTableFull, first) {
        // SAFETY: an aligned entry of a map; the caller's `socket`. Of two CPUs either range will do.
        unsafe {
            (*connector).range = ranges::set_by(socket);
            atomic::add(&raw mut (*connector).connects, 1);
        }
    }
}
