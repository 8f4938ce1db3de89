//! Listening addresses: found by the packet programs, kept by the socket events and the census.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_comm, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{Array, HashMap, Queue},
};
use tracker_common::{
    classify::Family,
    counters::Loss,
    hash::{self, AddrWords},
    limits,
    listener::{self, ANY_V4, ANY_V6, EXACT_SHARED, ExactListener, Listener, ListenerKey, Port, Slot, is_mapped},
    ports,
};

use crate::{
    atomic::{self, MINUS_ONE},
    counted_map,
    fields::{self, Memory},
    losses,
};

#[map]
static PORTS: Array<Port> = Array::with_max_entries(ports::PORTS as u32, 0);

/// Larger than the slots: a listener without a slot of its own must still be found, or its SYNs would count as
/// meeting no listener.
#[map]
static LISTENERS: HashMap<ListenerKey, Listener> = HashMap::with_max_entries(limits::LISTENERS * 4, 0);

#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(limits::LISTENERS + 1, 0);

#[map]
static EXACT_LISTENERS: Array<ExactListener> = Array::with_max_entries(limits::EXACT_LISTENERS, 0);

#[map]
static CENSUS_WANTED: Array<u32> = Array::with_max_entries(1, 0);

#[map]
static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(limits::LISTENERS, 0);

/// Slot of the listener for a packet of `family` to this local address and port: on the address itself, then on the
/// wildcard, as `__inet_lookup_listener` scores them.
#[inline(always)]
pub(crate) fn find(address: AddrWords, port: u16, family: Family) -> Option<u32> {
    let entry = PORTS.get(u32::from(port))?;
    let port = u32::from(port);
    if entry.specific != 0
        && let Some(slot) = find_exact(address, port)
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
fn find_exact(address: AddrWords, port: u32) -> Option<u32> {
    let single = EXACT_LISTENERS.get_ptr(listener::exact_index(address, port))?;
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
    if single & EXACT_SHARED == 0 {
        return None;
    }
    let key = ListenerKey { netns: fields::NETNS.load(), port, address: hash::to_octets(address) };
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

/// Key of a listening socket, and whether it is IPv6 and takes IPv4 too.
///
/// A socket that was bound by the kernel has lost its `skc_num` by the time it is closed; the port still stands in
/// `inet_sport`.
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read.
#[inline(always)]
unsafe fn identity<M: Memory>(socket: *const u8, family: usize) -> (ListenerKey, bool) {
    // SAFETY: the caller's `socket`; as a `tcp_sock` it begins with an `inet_sock`.
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
            address: hash::to_octets(fields::local_address::<M>(socket, family)),
        };
        let byte: u8 = M::read(socket, &fields::OFF_IPV6ONLY);
        let v6only = byte >> (fields::IPV6ONLY_BIT.load() & 7) & 1;
        (key, family == 1 && v6only == 0)
    }
}

/// A socket of the daemon's namespace began to listen, in the context of its process.
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read.
#[inline(always)]
pub(crate) unsafe fn opened<M: Memory>(socket: *const u8, family: usize) {
    // SAFETY: the caller's `socket`.
    let (key, dual) = unsafe { identity::<M>(socket, family) };
    if key.port == 0 {
        // listen() without bind(): the kernel chooses the port after this event (`inet_csk_listen_start`).
        want_census();
        return;
    }
    let Some(listener) = add(&key) else { return };
    // SAFETY: an aligned entry of a map; counts change atomically, and no reference is made, as other CPUs write it
    // too. The first socket, or the first after the last one closed, makes it a new listener.
    unsafe {
        atomic::add(&raw mut (*listener).version, 1);
        if add_socket(&key, listener, dual) == 0 {
            (*listener).opened_ns = bpf_ktime_get_boot_ns();
            (*listener).cgroup = fields::cgroup::<M>(socket);
            (*listener).uid = M::read(socket, &fields::OFF_UID);
            (*listener).pid = counted_map::process();
            (*listener).comm = bpf_get_current_comm().unwrap_or_default();
        }
    }
}

/// A socket of the daemon's namespace stopped listening.
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read.
#[inline(always)]
pub(crate) unsafe fn closed<M: Memory>(socket: *const u8, family: usize) {
    // SAFETY: the caller's `socket`.
    let (key, dual) = unsafe { identity::<M>(socket, family) };
    let Some(listener) = LISTENERS.get_ptr_mut(key) else { return };
    // SAFETY: an aligned entry of a map; counts change atomically. The daemon frees the slot once it has read the last
    // counts.
    unsafe {
        atomic::add(&raw mut (*listener).version, 1);
        let before = atomic::fetch_add(&raw mut (*listener).sockets, MINUS_ONE);
        if before == 0 {
            // It listened before the daemon came and no census had counted it yet.
            atomic::add(&raw mut (*listener).sockets, 1);
            return;
        }
        if dual {
            atomic::add(&raw mut (*listener).dual, MINUS_ONE);
        }
        change_slot((*listener).slot, MINUS_ONE, dual);
        if before == 1 && (*listener).slot == 0 {
            withdraw(&key);
            // A socket that began to listen meanwhile has made it known before it was withdrawn.
            if read_volatile(&raw const (*listener).sockets) != 0 {
                publish_shared(&key, listener);
            }
            // Of sockets older than the daemon one alone may be counted: a census finds the others.
            want_census();
        }
    }
}

/// Counts one more socket of a listener; returns how many there were.
///
/// # Safety
/// `listener` is the entry of `key` in the map.
#[inline(always)]
unsafe fn add_socket(key: &ListenerKey, listener: *mut Listener, dual: bool) -> u64 {
    // SAFETY: the caller's `listener`, whose counts are aligned.
    unsafe {
        let before = atomic::fetch_add(&raw mut (*listener).sockets, 1);
        if dual {
            atomic::add(&raw mut (*listener).dual, 1);
        }
        change_slot((*listener).slot, 1, dual);
        if before == 0 && (*listener).slot == 0 {
            publish_shared(key, listener);
        }
        before
    }
}

/// Changes the counts that the packet programs look at.
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
        // SAFETY: an aligned number; every CPU writes the same value.
        unsafe { *wanted = 1 };
    }
}

/// Slot of the listener that a socket which the census visits belongs to, and whether it takes IPv4 too. The listener
/// is entered if it is not yet known from an event. None when the table is full.
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read, and its lock is held.
#[inline(always)]
pub(crate) unsafe fn found<M: Memory>(socket: *const u8, family: usize) -> Option<(u32, bool)> {
    // SAFETY: the caller's `socket`.
    let (key, dual) = unsafe { identity::<M>(socket, family) };
    let listener = add(&key)?;
    // SAFETY: an aligned entry of a map; counts change atomically. The iterator holds the socket's lock, so no event of
    // this socket runs at the same time. No process is entered: the current one is the daemon, which finds the right
    // one by the inode.
    unsafe {
        if (*listener).sockets == 0 {
            // One is enough to be found; the daemon sets the number when the census is complete.
            add_socket(&key, listener, dual);
        }
        if (*listener).slot == 0 {
            give_slot(&key, listener);
        }
        Some(((*listener).slot, dual))
    }
}

/// Protocol of the packets of a connection with this local address.
#[inline(always)]
pub(crate) fn family_of(address: AddrWords) -> Family {
    if is_mapped(&hash::to_octets(address)) { Family::Ipv4 } else { Family::Ipv6 }
}

/// The entry of a listener, made and shown to the packet programs if it is missing. None when the map is full.
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
    fill_slot(slot, key, 0, 0);
    let fresh = Listener { slot, ..Listener::default() };
    if LISTENERS.insert(key, fresh, u64::from(BPF_NOEXIST)).is_ok() {
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
/// An event that comes between the reading of its sockets and the writing of its slot is missing in the slot; the
/// daemon compares the two after the next census.
///
/// # Safety
/// `listener` is the entry of `key` in the map.
#[inline(always)]
unsafe fn give_slot(key: &ListenerKey, listener: *mut Listener) {
    let Ok(Some(slot)) = FREE_SLOTS.pop() else { return };
    // SAFETY: the caller's `listener`, whose fields are aligned numbers.
    unsafe {
        fill_slot(slot, key, (*listener).sockets, (*listener).dual);
        write_volatile(&raw mut (*listener).slot, slot);
    }
    publish(key, slot);
}

/// Writes what the packet programs look at into a slot that was just taken out of the queue, so that nobody else has
/// it.
#[inline(always)]
fn fill_slot(slot: u32, key: &ListenerKey, sockets: u64, dual: u64) {
    if slot != 0
        && let Some(entry) = SLOTS.get_ptr_mut(slot)
    {
        let address = hash::to_words(&key.address);
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
                publish_exact(key, slot);
                write_volatile(&raw mut (*port).specific, 1);
            }
        }
    }
}

/// Tells the packet programs of a listener that has no slot of its own; of the one that it gets at this moment, if so.
///
/// # Safety
/// `listener` is the entry of `key` in the map.
#[inline(always)]
unsafe fn publish_shared(key: &ListenerKey, listener: *mut Listener) {
    publish(key, 0);
    // SAFETY: the caller's `listener`, whose fields are aligned numbers. Whoever gives a slot writes it before
    // publishing it, so that one of the two comes last with it.
    let slot = unsafe { read_volatile(&raw const (*listener).slot) };
    if slot != 0 {
        publish(key, slot);
    }
}

/// Takes a wildcard listener back that has no slot of its own: the slot that it shares does not say who still listens.
#[inline(always)]
fn withdraw(key: &ListenerKey) {
    let Some(port) = PORTS.get_ptr_mut(key.port) else { return };
    let shift = match wildcard(key) {
        Slot::ANY_V4 => 0,
        Slot::ANY_V6 => 32,
        _ => return,
    };
    #[expect(clippy::cast_ptr_alignment, reason = "an entry of an array map is aligned to 8 bytes")]
    let both = port.cast::<u64>();
    // SAFETY: aligned, as the line before says; the first 8 bytes are `any_v4` and `any_v6`.
    unsafe {
        let before = read_volatile(both);
        if before >> shift & 0xffff_ffff == 1 {
            // Where another CPU writes at the same time it stays, and SYNs count for the shared slot as before.
            atomic::exchange_if(both, before, before & !(1 << shift));
        }
    }
}

/// Tells the packet programs where to look for a listener on a single address; others may share the entry.
#[inline(always)]
fn publish_exact(key: &ListenerKey, slot: u32) {
    let Some(single) = EXACT_LISTENERS.get_ptr_mut(listener::exact_index(hash::to_words(&key.address), key.port))
    else {
        return;
    };
    // One without a slot of its own is found by the hash map alone.
    let own = if slot == 0 { 0 } else { ExactListener::from(slot) + 1 };
    // SAFETY: an aligned number of a map. Whoever is not the first at a place says that it is shared, so of several at
    // a time it does not matter who is the last.
    unsafe {
        if own == 0 || atomic::exchange_if(single, 0, own) != 0 {
            write_volatile(single, EXACT_SHARED | own);
        }
    }
}
