//! Listening addresses: found by the packet programs, kept by the socket events and the census.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Queue},
};
use tracker_common::{
    classify::Family,
    counters::Loss,
    histogram, limits,
    listener::{ANY_V4, ANY_V6, Listener, ListenerCensus, ListenerCounters, ListenerKey, Port, is_mapped},
};

use crate::{
    atomic::{self, MINUS_ONE},
    count,
    fields::{self, Memory},
    losses,
    sockets::UNTIMED,
};

#[map]
static PORTS: Array<Port> = Array::with_max_entries(65_536, 0);

/// `BPF_F_MMAPABLE`: the daemon looks through all ports each second, which would be a system call each.
const MMAPABLE: u32 = 1 << 10;

#[map]
static REFUSED_SYNS: Array<u64> = Array::with_max_entries(65_536, MMAPABLE);

/// Larger than the slots: a listener without a slot of its own must still be found, or its SYNs would count as
/// meeting no listener.
#[map]
static LISTENERS: HashMap<ListenerKey, Listener> = HashMap::with_max_entries(limits::LISTENERS * 4, 0);

#[map]
static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(limits::LISTENERS, 0);

#[map]
static LISTENER_CTRS: PerCpuArray<ListenerCounters> = PerCpuArray::with_max_entries(limits::LISTENERS + 1, 0);

#[map]
static LISTENER_CENSUS: Array<ListenerCensus> = Array::with_max_entries(limits::LISTENERS + 1, 0);

const BPF_NOEXIST: u64 = 1;

/// Slot of the listener that a packet of `family` to this local address and port meets: on the address itself,
/// then on the wildcard, as `__inet_lookup_listener` scores them.
#[inline(always)]
pub(crate) fn find(address: &[u8; 16], port: u16, family: Family) -> Option<u32> {
    let entry = PORTS.get(u32::from(port))?;
    if entry.specific != 0 {
        let key = ListenerKey { netns: fields::NETNS.load(), port: u32::from(port), address: *address };
        // SAFETY: the value may change under the reader; every field is read by itself.
        if let Some(listener) = unsafe { LISTENERS.get(key) }
            && listener.sockets != 0
        {
            return Some(listener.slot);
        }
    }
    let slot_plus_one = match family {
        Family::Ipv4 if entry.any_v4 != 0 => entry.any_v4,
        Family::Ipv4 => entry.any_v6_dual,
        _ => entry.any_v6,
    };
    slot_plus_one.checked_sub(1)
}

/// Counts a SYN for a listener.
#[inline(always)]
pub(crate) fn count_syn(slot: u32, family: Family) {
    if let Some(counters) = LISTENER_CTRS.get_ptr_mut(slot) {
        // SAFETY: this CPU's own counters.
        count::add_flat(unsafe { &mut (*counters).syns }, family as usize, 1);
    }
}

/// Counts a completed handshake for a listener; `us` is its time, or [`UNTIMED`].
#[inline(always)]
pub(crate) fn count_completed(slot: u32, family: Family, watched: bool, us: u64) {
    let Some(counters) = LISTENER_CTRS.get_ptr_mut(slot) else { return };
    // SAFETY: this CPU's own counters.
    let counters = unsafe { &mut *counters };
    let completed = if watched { &mut counters.completed } else { &mut counters.completed_unwatched };
    count::add_flat(completed, family as usize, 1);
    if us != UNTIMED {
        counters.handshake_time.count(us, histogram::HANDSHAKE_SHIFT);
    }
}

/// Counts a SYN to a local address at a port where nothing listens.
#[inline(always)]
pub(crate) fn count_refused(port: u16) {
    if let Some(counter) = REFUSED_SYNS.get_ptr_mut(u32::from(port)) {
        // SAFETY: an aligned u64 in a map.
        unsafe { atomic::add(counter, 1) };
    }
}

/// Key of a listening socket, its flags, and the family of its address.
#[inline(always)]
unsafe fn identity<M: Memory>(socket: *const u8, family: usize) -> (ListenerKey, u32) {
    // SAFETY: the caller's: `socket` is a `sock_common` of that family.
    unsafe {
        let key = ListenerKey {
            netns: fields::NETNS.load(),
            port: u32::from(M::read::<u16>(socket, &fields::OFF_NUM)),
            address: fields::local_address::<M>(socket, family),
        };
        let byte: u8 = M::read(socket, &fields::OFF_IPV6ONLY);
        let v6only = byte >> (fields::IPV6ONLY_BIT.load() & 7) & 1;
        (key, if v6only == 0 { 0 } else { Listener::V6ONLY })
    }
}

/// A socket of the daemon's namespace began to listen, in the context of its process.
#[inline(always)]
pub(crate) unsafe fn opened<M: Memory>(socket: *const u8, family: usize) {
    // SAFETY: the caller's: `socket` is a full `sock` of that family.
    let (key, flags) = unsafe { identity::<M>(socket, family) };
    let mut fresh = Listener {
        sockets: 1,
        version: 1,
        flags,
        // SAFETY: a helper without arguments.
        opened_ns: unsafe { bpf_ktime_get_boot_ns() },
        // SAFETY: as for `identity`.
        cgroup: unsafe { fields::cgroup::<M>(socket) },
        // SAFETY: as for `identity`.
        uid: unsafe { M::read(socket, &fields::OFF_UID) },
        pid: (bpf_get_current_pid_tgid() >> 32) as u32,
        comm: bpf_get_current_comm().unwrap_or_default(),
        slot: 0,
    };
    if let Some(listener) = add(&key, &mut fresh) {
        // SAFETY: the entry is in a map; counts change atomically. A first socket after the last one closed
        // makes the address a new listener in its old slot.
        unsafe {
            atomic::add(&raw mut (*listener).version, 1);
            if atomic::fetch_add(&raw mut (*listener).sockets, 1) == 0 {
                fresh.slot = (*listener).slot;
                (*listener).flags = flags;
                (*listener).opened_ns = fresh.opened_ns;
                (*listener).cgroup = fresh.cgroup;
                (*listener).uid = fresh.uid;
                (*listener).pid = fresh.pid;
                (*listener).comm = fresh.comm;
                publish(&key, fresh.slot, flags);
            }
        }
    }
}

/// A socket of the daemon's namespace stopped listening.
#[inline(always)]
pub(crate) unsafe fn closed<M: Memory>(socket: *const u8, family: usize) {
    // SAFETY: the caller's: `socket` is a full `sock` of that family.
    let (key, flags) = unsafe { identity::<M>(socket, family) };
    let Some(listener) = LISTENERS.get_ptr_mut(key) else { return };
    // SAFETY: the entry is in a map; counts change atomically. The daemon frees the slot once it has read the
    // last counts.
    unsafe {
        atomic::add(&raw mut (*listener).version, 1);
        match atomic::fetch_add(&raw mut (*listener).sockets, MINUS_ONE) {
            1 => withdraw(&key, flags),
            // It listened before the daemon came and no census had counted it yet.
            0 => atomic::add(&raw mut (*listener).sockets, 1),
            _ => {}
        }
    }
}

/// The census met a listening socket: its queues, and the listener itself if no event told of it.
#[inline(always)]
pub(crate) unsafe fn seen<M: Memory>(socket: *const u8, family: usize, generation: u32, queues: ListenerCensus) {
    // SAFETY: the caller's: `socket` is a full `sock` of that family.
    let (key, flags) = unsafe { identity::<M>(socket, family) };
    let slot = match LISTENERS.get_ptr_mut(key) {
        // SAFETY: the slot of an entry does not change. The iterator holds the socket's lock, so no event of this
        // socket runs at the same time; one that miscounted an older group is mended here.
        Some(listener) => unsafe {
            if (*listener).sockets == 0 {
                (*listener).sockets = 1;
                publish(&key, (*listener).slot, flags);
            }
            (*listener).slot
        },
        None => {
            // No process: the current one is the daemon. The daemon finds it by the inode.
            let mut fresh = Listener { sockets: 1, flags, ..Listener::default() };
            match add(&key, &mut fresh) {
                // SAFETY: as above.
                Some(listener) => unsafe { (*listener).slot },
                None => fresh.slot,
            }
        }
    };
    let Some(census) = LISTENER_CENSUS.get_ptr_mut(slot) else { return };
    // SAFETY: one census runs at a time, and it alone writes here.
    unsafe {
        if (*census).generation != generation {
            *census = ListenerCensus { generation, inode: queues.inode, ..ListenerCensus::default() };
        }
        (*census).sockets += 1;
        (*census).syn_queue += queues.syn_queue;
        (*census).syn_queue_young += queues.syn_queue_young;
        (*census).accept_queue += queues.accept_queue;
        (*census).accept_queue_max += queues.accept_queue_max;
        (*census).drops += queues.drops;
    }
}

/// What the census met at a listener's address, besides the listening sockets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    HalfOpen,
    Connected,
}

/// The census met a socket that came by way of a listener, if any listens at its local address.
#[inline(always)]
pub(crate) unsafe fn met<M: Memory>(socket: *const u8, family: usize, generation: u32, met: Met) {
    // SAFETY: the caller's: `socket` is a `sock_common` of that family.
    let (address, port) =
        unsafe { (fields::local_address::<M>(socket, family), M::read::<u16>(socket, &fields::OFF_NUM)) };
    let Some(slot) = find(&address, port, family_of(&address)) else { return };
    let Some(census) = LISTENER_CENSUS.get_ptr_mut(slot) else { return };
    // SAFETY: as in `seen`. The census meets listeners before all other sockets.
    unsafe {
        if (*census).generation == generation {
            match met {
                Met::HalfOpen => (*census).half_open += 1,
                Met::Connected => (*census).connected += 1,
            }
        }
    }
}

/// Protocol of the packets of a connection with this local address.
#[inline(always)]
pub(crate) fn family_of(address: &[u8; 16]) -> Family {
    if is_mapped(address) { Family::Ipv4 } else { Family::Ipv6 }
}

/// Adds a listener and makes it known to the packet programs. When another CPU was faster, returns its entry.
#[inline(always)]
fn add(key: &ListenerKey, fresh: &mut Listener) -> Option<*mut Listener> {
    if let Some(listener) = LISTENERS.get_ptr_mut(key) {
        return Some(listener);
    }
    fresh.slot = if let Ok(Some(slot)) = FREE_SLOTS.pop() {
        slot
    } else {
        losses::count(Loss::ListenerTableFull);
        0
    };
    if LISTENERS.insert(key, *fresh, BPF_NOEXIST).is_err() {
        if fresh.slot != 0 {
            // It cannot fail: the slot was just taken out of the queue.
            let _ = FREE_SLOTS.push(fresh.slot, 0);
        }
        if let Some(listener) = LISTENERS.get_ptr_mut(key) {
            return Some(listener);
        }
        losses::count(Loss::ListenerTableFull);
        fresh.slot = 0;
    }
    publish(key, fresh.slot, fresh.flags);
    None
}

/// Makes a listener known to the packet programs.
#[inline(always)]
fn publish(key: &ListenerKey, slot: u32, flags: u32) {
    let Some(entry) = PORTS.get_ptr_mut(key.port) else { return };
    // SAFETY: aligned u32 fields; each wildcard field belongs to one listener, the count changes atomically.
    unsafe {
        if key.address == ANY_V4 {
            (*entry).any_v4 = slot + 1;
        } else if key.address == ANY_V6 {
            (*entry).any_v6 = slot + 1;
            (*entry).any_v6_dual = if flags & Listener::V6ONLY == 0 { slot + 1 } else { 0 };
        } else {
            atomic::add(&raw mut (*entry).specific, 1);
        }
    }
}

/// Undoes [`publish`].
#[inline(always)]
fn withdraw(key: &ListenerKey, flags: u32) {
    let Some(entry) = PORTS.get_ptr_mut(key.port) else { return };
    // SAFETY: as in `publish`.
    unsafe {
        if key.address == ANY_V4 {
            (*entry).any_v4 = 0;
        } else if key.address == ANY_V6 {
            (*entry).any_v6 = 0;
            if flags & Listener::V6ONLY == 0 {
                (*entry).any_v6_dual = 0;
            }
        } else {
            atomic::add(&raw mut (*entry).specific, MINUS_ONE);
        }
    }
}
