//! Which process connects to a destination that is short of ports. A connection in `TIME_WAIT` has no process any more; who
//! made it is known only here.

use aya_ebpf::{EbpfContext, bindings::BPF_NOEXIST, helpers::bpf_get_current_pid_tgid, macros::map, maps::HashMap};
use tracker_common::{
    counters::Loss,
    hash, limits,
    ports::{Maker, MakerKey, Watched},
};

use crate::{
    atomic,
    fields::{self, Memory},
    losses, ports,
};

#[map]
static WATCHED: HashMap<Watched, u64> = HashMap::with_max_entries(limits::WATCHED, 0);

#[map]
static MAKERS: HashMap<MakerKey, Maker> = HashMap::with_max_entries(limits::MAKERS, 0);

/// A process calls `connect()`: it is the running one.
#[inline(always)]
pub(crate) unsafe fn connecting<M: Memory, C: EbpfContext>(ctx: &C, socket: *const u8, family: usize) {
    if ports::pass().is_none_or(|pass| pass.watching == 0) {
        return;
    }
    // SAFETY: the caller's: a full socket of that family.
    let (destination, port) = unsafe {
        let destination = hash::halves(&fields::remote_address::<M>(socket, family));
        (destination, u32::from(u16::from_be(M::read(socket, &fields::OFF_DPORT))))
    };
    if WATCHED.get_ptr(Watched { destination, port, padding: 0 }).is_none() {
        return;
    }
    let key = MakerKey { destination, port, pid: (bpf_get_current_pid_tgid() >> 32) as u32 };
    if MAKERS.get_ptr_mut(key).is_none() {
        let maker = Maker { comm: ctx.command().unwrap_or_default(), connects: 0 };
        // Another CPU may have been quicker: its entry serves as well.
        let _ = MAKERS.insert(key, maker, u64::from(BPF_NOEXIST));
    }
    match MAKERS.get_ptr_mut(key) {
        // SAFETY: an entry of a map.
        Some(maker) => unsafe { atomic::add(&raw mut (*maker).connects, 1) },
        None => losses::count(Loss::MakerTableFull),
    }
}
