//! Listening addresses: found by the packet programs, kept by the socket events and the census.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Queue},
};
use tracker_common::{
    classify::Family,
    counters::Loss,
    flows::Sampling,
    hash::{self, Halves},
    histogram, limits,
    listener::{
        self, ANY_V4, ANY_V6, Listener, ListenerCensus, ListenerCounters, ListenerKey, Port, SINGLE_SHARED, Single,
        Slot, is_mapped,
    },
};

use crate::{
    atomic::{self, MINUS_ONE},
    count,
    fields::{self, Memory},
    flows, losses,
    sockets::UNTIMED,
    sources,
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
static SLOTS: Array<Slot> = Array::with_max_entries(limits::LISTENERS + 1, 0);

#[map]
static SINGLES: Array<Single> = Array::with_max_entries(limits::SINGLES, 0);

#[map]
static CENSUS_WANTED: Array<u32> = Array::with_max_entries(1, 0);

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
pub(crate) fn find(address: Halves, port: u16, family: Family) -> Option<u32> {
    let entry = PORTS.get(u32::from(port))?;
    let port = u32::from(port);
    if entry.specific != 0
        && let Some(slot) = find_single(address, port)
    {
        return Some(slot);
    }
    match family {
        Family::Ipv4 => {
            live(entry.any_v4, port, Slot::ANY_V4, false).or_else(|| live(entry.any_v6, port, Slot::ANY_V6, true))
        }
        _ => live(entry.any_v6, port, Slot::ANY_V6, false),
    }
}

/// Slot of the listener on this single address and port.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the lower half is the slot")]
fn find_single(address: Halves, port: u32) -> Option<u32> {
    let single = SINGLES.get_ptr(listener::single(address, port))?;
    // SAFETY: an aligned number of a map, read once.
    let single = unsafe { read_volatile(single) };
    // What stands in a slot decides; slot 0, which is shared, never has an address or port.
    if let Some(index) = (single as u32).checked_sub(1)
        && let Some(slot) = SLOTS.get(index)
        && slot.address == address
        && slot.port == port
        && slot.sockets != 0
    {
        return Some(index);
    }
    if single & SINGLE_SHARED == 0 {
        return None;
    }
    let key = ListenerKey { netns: fields::NETNS.load(), port, address: hash::address(address) };
    // SAFETY: the value may change under the reader; every field is read by itself.
    let listener = unsafe { LISTENERS.get(key) }?;
    (listener.sockets != 0).then_some(listener.slot)
}

/// The slot, if a wildcard listener of this port still has it and a socket listens: one that takes IPv4 too when
/// `dual` is set.
#[inline(always)]
fn live(slot_plus_one: u32, port: u32, wildcard: u32, dual: bool) -> Option<u32> {
    let index = slot_plus_one.checked_sub(1)?;
    if index == 0 {
        // Shared by those that got no slot; nobody counts who of them still listens.
        return Some(0);
    }
    let slot = SLOTS.get(index)?;
    let sockets = if dual { slot.dual } else { slot.sockets };
    (slot.port == port && slot.wildcard == wildcard && sockets != 0).then_some(index)
}

/// Counts a SYN for a listener; `flow` is the hash of its connection.
#[inline(always)]
pub(crate) fn count_syn(slot: u32, family: Family, sampling: Sampling, flow: u64, sequence: u32) {
    if let Some(counters) = LISTENER_CTRS.get_ptr_mut(slot) {
        // SAFETY: this CPU's own counters.
        let counters = unsafe { &mut *counters };
        count::add_flat(&mut counters.syns, family as usize, 1);
        flows::syn(&mut counters.flows, sampling, slot, flow, sequence);
    }
}

/// Counts a completed handshake for a listener; `us` is its time, or [`UNTIMED`], `flow` the hash of its connection if that can be
/// in the sample.
#[inline(always)]
pub(crate) fn count_completed(slot: u32, family: Family, watched: bool, us: u64, flow: Option<u64>) {
    let Some(counters) = LISTENER_CTRS.get_ptr_mut(slot) else { return };
    // SAFETY: this CPU's own counters.
    let counters = unsafe { &mut *counters };
    let completed = if watched { &mut counters.completed } else { &mut counters.completed_unwatched };
    count::add_flat(completed, family as usize, 1);
    if let Some(flow) = flow {
        flows::completed(&mut counters.flows, slot, flow);
    }
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

/// Key of a listening socket, and whether it is IPv6 and takes IPv4 too.
///
/// A socket that was bound by the kernel has lost its `skc_num` by the time it is closed; the port still stands in
/// `inet_sport`.
#[inline(always)]
unsafe fn identity<M: Memory>(socket: *const u8, family: usize) -> (ListenerKey, bool) {
    // SAFETY: the caller's: `socket` is a full `sock` of that family; as a `tcp_sock` it begins with an `inet_sock`.
    unsafe {
        let mut port: u16 = M::read(socket, &fields::OFF_NUM);
        if port == 0 {
            let tcp = M::tcp_sock(socket);
            if !tcp.is_null() {
                port = u16::from_be(M::read(tcp, &fields::OFF_SPORT));
            }
        }
        let key = ListenerKey {
            netns: fields::NETNS.load(),
            port: u32::from(port),
            address: fields::local_address::<M>(socket, family),
        };
        let byte: u8 = M::read(socket, &fields::OFF_IPV6ONLY);
        let v6only = byte >> (fields::IPV6ONLY_BIT.load() & 7) & 1;
        (key, family == 1 && v6only == 0)
    }
}

/// A socket of the daemon's namespace began to listen, in the context of its process.
#[inline(always)]
pub(crate) unsafe fn opened<M: Memory>(socket: *const u8, family: usize) {
    // SAFETY: the caller's: `socket` is a full `sock` of that family.
    let (key, dual) = unsafe { identity::<M>(socket, family) };
    if key.port == 0 {
        // listen() without bind(): the kernel chooses the port after this event (`inet_csk_listen_start`).
        want_census();
        return;
    }
    let Some(listener) = add(&key) else { return };
    // SAFETY: the entry is in a map; counts change atomically. The first socket, or the first after the last one
    // closed, makes it a new listener.
    unsafe {
        let listener = &mut *listener;
        atomic::add(&raw mut listener.version, 1);
        if atomic::fetch_add(&raw mut listener.sockets, 1) == 0 {
            listener.opened_ns = bpf_ktime_get_boot_ns();
            listener.cgroup = fields::cgroup::<M>(socket);
            listener.uid = M::read(socket, &fields::OFF_UID);
            listener.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
            listener.comm = bpf_get_current_comm().unwrap_or_default();
        }
        if dual {
            atomic::add(&raw mut listener.dual, 1);
        }
        change_slot(listener.slot, 1, dual);
    }
}

/// A socket of the daemon's namespace stopped listening.
#[inline(always)]
pub(crate) unsafe fn closed<M: Memory>(socket: *const u8, family: usize) {
    // SAFETY: the caller's: `socket` is a full `sock` of that family.
    let (key, dual) = unsafe { identity::<M>(socket, family) };
    let Some(listener) = LISTENERS.get_ptr_mut(key) else { return };
    // SAFETY: the entry is in a map; counts change atomically. The daemon frees the slot once it has read the
    // last counts.
    unsafe {
        let listener = &mut *listener;
        atomic::add(&raw mut listener.version, 1);
        if atomic::fetch_add(&raw mut listener.sockets, MINUS_ONE) == 0 {
            // It listened before the daemon came and no census had counted it yet.
            atomic::add(&raw mut listener.sockets, 1);
            return;
        }
        if dual {
            atomic::add(&raw mut listener.dual, MINUS_ONE);
        }
        change_slot(listener.slot, MINUS_ONE, dual);
    }
}

/// Changes the counts that the packet programs look at; `by` is one or [`MINUS_ONE`].
#[inline(always)]
fn change_slot(index: u32, by: u64, dual: bool) {
    if index == 0 {
        return;
    }
    if let Some(slot) = SLOTS.get_ptr_mut(index) {
        // SAFETY: aligned counts in a map.
        unsafe {
            atomic::add(&raw mut (*slot).sockets, by);
            if dual {
                atomic::add(&raw mut (*slot).dual, by);
            }
        }
    }
}

/// Asks the daemon for a census.
#[inline(always)]
fn want_census() {
    if let Some(wanted) = CENSUS_WANTED.get_ptr_mut(0) {
        // SAFETY: an aligned number; all who write write the same.
        unsafe { *wanted = 1 };
    }
}

/// The census met a listening socket: its queues, and the listener itself if no event told of it.
#[inline(always)]
pub(crate) unsafe fn seen<M: Memory>(socket: *const u8, family: usize, generation: u32, queues: ListenerCensus) {
    // SAFETY: the caller's: `socket` is a full `sock` of that family.
    let (key, dual) = unsafe { identity::<M>(socket, family) };
    let Some(listener) = add(&key) else { return };
    // SAFETY: the entry is in a map. The iterator holds the socket's lock, so no event of this socket runs at the same
    // time. No process is entered: the current one is the daemon, which finds the right one by the inode.
    let slot = unsafe {
        let listener = &mut *listener;
        if listener.sockets == 0 {
            // One is enough to be found; the daemon sets the number when the census is complete.
            atomic::add(&raw mut listener.sockets, 1);
            if dual {
                atomic::add(&raw mut listener.dual, 1);
            }
            change_slot(listener.slot, 1, dual);
        }
        if listener.slot == 0 {
            give_slot(&key, listener);
        }
        listener.slot
    };
    let Some(census) = LISTENER_CENSUS.get_ptr_mut(slot) else { return };
    // SAFETY: one census runs at a time, and it alone writes here.
    unsafe {
        let census = &mut *census;
        if census.generation != generation {
            *census = ListenerCensus { generation, inode: queues.inode, ..ListenerCensus::default() };
        }
        census.sockets += 1;
        census.dual += u32::from(dual);
        census.syn_queue += queues.syn_queue;
        census.syn_queue_young += queues.syn_queue_young;
        census.accept_queue += queues.accept_queue;
        census.accept_queue_max += queues.accept_queue_max;
        census.drops += queues.drops;
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
    let Some(slot) = find(hash::halves(&address), port, family_of(&address)) else { return };
    let Some(census) = LISTENER_CENSUS.get_ptr_mut(slot) else { return };
    // SAFETY: as in `seen`. The census meets listeners before all other sockets.
    unsafe {
        if (*census).generation == generation {
            match met {
                Met::HalfOpen => {
                    (*census).half_open += 1;
                    if !sources::half_open(slot, &fields::remote_address::<M>(socket, family), generation) {
                        (*census).half_open_unnamed += 1;
                    }
                }
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

/// The entry of a listener, made and shown to the packet programs if there is none. None when the map is full.
#[inline(always)]
fn add(key: &ListenerKey) -> Option<*mut Listener> {
    if let Some(listener) = LISTENERS.get_ptr_mut(key) {
        return Some(listener);
    }
    let slot = match FREE_SLOTS.pop() {
        Ok(Some(slot)) => slot,
        _ => {
            losses::count(Loss::ListenerTableFull);
            0
        }
    };
    fill_slot(slot, key, &Listener::default());
    let fresh = Listener { slot, ..Listener::default() };
    if LISTENERS.insert(key, fresh, BPF_NOEXIST).is_ok() {
        publish(key, slot);
    } else if slot != 0 {
        // Another CPU was faster, or the map is full. It cannot fail: the slot was just taken out of the queue.
        let _ = FREE_SLOTS.push(slot, 0);
    }
    let listener = LISTENERS.get_ptr_mut(key);
    if listener.is_none() {
        losses::count(Loss::ListenerTableFull);
    }
    listener
}

/// Gives a slot that has become free to a listener that came when there was none.
///
/// An event that comes between the reading of its sockets and the writing of its slot is missing in the slot; the daemon
/// compares the two after the next census.
#[inline(always)]
fn give_slot(key: &ListenerKey, listener: &mut Listener) {
    let Ok(Some(slot)) = FREE_SLOTS.pop() else { return };
    fill_slot(slot, key, listener);
    listener.slot = slot;
    publish(key, slot);
}

/// Writes what the packet programs look at into a slot that was just taken out of the queue, so that nobody else has it.
#[inline(always)]
fn fill_slot(slot: u32, key: &ListenerKey, listener: &Listener) {
    if slot != 0
        && let Some(entry) = SLOTS.get_ptr_mut(slot)
    {
        let (sockets, dual, address) = (listener.sockets, listener.dual, hash::halves(&key.address));
        // SAFETY: nobody else has the slot.
        unsafe { *entry = Slot { sockets, dual, port: key.port, wildcard: wildcard(key), address } };
    }
}

/// [`Slot::ANY_V4`], [`Slot::ANY_V6`], or zero for a single address.
#[inline(always)]
fn wildcard(key: &ListenerKey) -> u32 {
    match key.address {
        ANY_V4 => Slot::ANY_V4,
        ANY_V6 => Slot::ANY_V6,
        _ => 0,
    }
}

/// Tells the packet programs where to look for a listener.
#[inline(always)]
fn publish(key: &ListenerKey, slot: u32) {
    let Some(port) = PORTS.get_ptr_mut(key.port) else { return };
    // SAFETY: aligned numbers; the entry of an address is made by one CPU alone.
    unsafe {
        match wildcard(key) {
            Slot::ANY_V4 => (*port).any_v4 = slot + 1,
            Slot::ANY_V6 => (*port).any_v6 = slot + 1,
            _ => {
                publish_single(key, slot);
                write_volatile(&raw mut (*port).specific, 1);
            }
        }
    }
}

/// The same of a listener on a single address, whose place others may share.
#[inline(always)]
fn publish_single(key: &ListenerKey, slot: u32) {
    let Some(single) = SINGLES.get_ptr_mut(listener::single(hash::halves(&key.address), key.port)) else { return };
    // One without a slot of its own is found by the hash map alone.
    let own = if slot == 0 { 0 } else { Single::from(slot) + 1 };
    // SAFETY: an aligned number of a map. Whoever is not the first at a place says that it is shared, so of several at a time it
    // does not matter who is the last.
    unsafe {
        if own == 0 || atomic::exchange_if(single, 0, own) != 0 {
            write_volatile(single, SINGLE_SHARED | own);
        }
    }
}
