//! Listening addresses, as the socket events and the census keep them.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_comm, bpf_ktime_get_boot_ns},
    macros::map,
    maps::{Array, Queue},
};
use tracker_common::{
    classify::Family,
    counters::{Interface, Loss},
    hash::{self, AddrWords},
    limits,
    listener::{self, Listener, ListenerKey, SlotOrder, is_mapped},
};

use crate::{
    atomic::{self, MINUS_ONE},
    counted_map,
    fields::{self, Memory},
    listener_lookup::{LISTENERS, change_slot, fill_slot, publish, publish_shared, withdraw},
    listening, losses,
};

#[map]
static CENSUS_WANTED: Array<u32> = Array::with_max_entries(1, 0);

#[map]
static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(limits::LISTENERS, 0);

#[map]
static RESERVED_SLOTS: Queue<u32> = Queue::with_max_entries(limits::LISTENERS, 0);

#[map]
static SLOT_ORDERS: Array<SlotOrder> = Array::with_max_entries(listener::SLOT_ORDERS, 0);

/// Where [`crate::listener_lookup::find`] looks for the listener of a socket: by the device that it is bound to, which
/// a connection has from its listener.
///
/// # Safety
/// `socket` is a `sock_common` that `M` can read.
#[inline(always)]
pub(crate) unsafe fn bound_device<M: Memory>(socket: *const u8) -> Interface {
    // SAFETY: the caller's `socket`.
    Interface { index: unsafe { M::read(socket, &fields::OFF_DEVICE) }, slot: 0, flags: 0 }
}

/// Key of a listening socket, and whether it is IPv6 and takes IPv4 too.
///
/// A socket that was bound by the kernel has lost its `skc_num` by the time it is closed; the port still stands in
/// `inet_sport`.
///
/// # Safety
/// `socket` is a full `sock` of that family that `M` can read.
#[inline(always)]
pub(crate) unsafe fn identity<M: Memory>(socket: *const u8, family: usize) -> (ListenerKey, bool) {
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
            device: M::read(socket, &fields::OFF_DEVICE),
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
    let (key, dual) = unsafe {
        listening::mark_new::<M>(socket);
        identity::<M>(socket, family)
    };
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
    // No process is entered: the current one is the daemon, which finds the right one by the inode.
    // SAFETY: an aligned entry of a map; counts change atomically. The iterator holds the socket's lock, so no event of
    // this socket runs at the same time.
    unsafe {
        if (*listener).sockets == 0 {
            // One is enough to be found; the daemon sets the number when the census is complete.
            add_socket(&key, listener, dual);
        }
        if (*listener).slot == 0 {
            give_slot(&key, listener, &FREE_SLOTS);
        }
        obey(&key, listener);
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
        _ => 0,
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

/// Does with the slot of a listening socket's listener what the daemon wants, if anything.
#[inline(always)]
pub(crate) fn obey_orders(key: &ListenerKey) {
    if is_ordered(0)
        && let Some(listener) = LISTENERS.get_ptr_mut(key)
    {
        // SAFETY: the entry of this key.
        unsafe { obey(key, listener) };
    }
}

/// As [`obey_orders`].
///
/// # Safety
/// `listener` is the entry of `key` in the map.
#[inline(always)]
unsafe fn obey(key: &ListenerKey, listener: *mut Listener) {
    if !is_ordered(0) {
        return;
    }
    // SAFETY: the caller's `listener`, whose fields are aligned numbers.
    unsafe {
        let slot = read_volatile(&raw const (*listener).slot);
        let shared = listener::shared_index(hash::to_words(&key.address), key.port);
        if slot == 0 && is_ordered(listener::grant_index(shared)) {
            give_slot(key, listener, &RESERVED_SLOTS);
        } else if slot != 0 && is_ordered(slot) {
            take_slot(key, listener);
        }
    }
}

#[inline(always)]
fn is_ordered(index: u32) -> bool {
    SLOT_ORDERS.get(index).is_some_and(|order| *order != 0)
}

/// Takes the slot of a listener away; the daemon clears it and gives it to another. A SYN or an event that found the
/// slot just before may still count there.
///
/// # Safety
/// `listener` is the entry of `key` in the map.
#[inline(always)]
unsafe fn take_slot(key: &ListenerKey, listener: *mut Listener) {
    // SAFETY: the caller's `listener`, whose fields are aligned numbers.
    unsafe {
        write_volatile(&raw mut (*listener).slot, 0);
        publish_shared(key, listener);
        // A socket that stopped listening meanwhile has not withdrawn what was not shared then.
        if read_volatile(&raw const (*listener).sockets) == 0 {
            withdraw(key);
        }
    }
}

/// Gives a slot that is free to a listener that has none.
///
/// An event that comes between the reading of its sockets and the writing of its slot is missing in the slot; the
/// daemon compares the two after the next census.
///
/// # Safety
/// `listener` is the entry of `key` in the map.
#[inline(always)]
unsafe fn give_slot(key: &ListenerKey, listener: *mut Listener, free: &Queue<u32>) {
    let Ok(Some(slot)) = free.pop() else { return };
    // SAFETY: the caller's `listener`, whose fields are aligned numbers.
    unsafe {
        fill_slot(slot, key, (*listener).sockets, (*listener).dual);
        write_volatile(&raw mut (*listener).slot, slot);
    }
    publish(key, slot);
}
