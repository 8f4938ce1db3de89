//! Where the packet programs find a listener: the entry of a port, of a single address, and the slot.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap},
};
use tracker_common::{
    classify::Family,
    counters::{Interface, Loss},
    hash::{self, AddrWords},
    limits,
    listener::{self, ANY_V4, ANY_V6, EXACT_SHARED, ExactListener, Listener, ListenerKey, Port, Slot},
    ports,
};

use crate::{atomic, fields, interfaces, losses};

#[map]
static PORTS: Array<Port> = Array::with_max_entries(ports::PORTS as u32, 0);

/// Larger than the slots: a listener without a slot of its own must still be found, or its SYNs would count as
/// meeting no listener.
#[map]
pub(crate) static LISTENERS: HashMap<ListenerKey, Listener> = HashMap::with_max_entries(limits::KNOWN_LISTENERS, 0);

/// The daemon looks through it at each reading, hence mapped.
#[map]
static SHARED_SYNS: Array<u64> = Array::with_max_entries(limits::SHARED_SYNS, BPF_F_MMAPABLE);

#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(limits::LISTENERS + 1, 0);

#[map]
static EXACT_LISTENERS: Array<ExactListener> = Array::with_max_entries(limits::EXACT_LISTENERS, 0);

/// Slot of the listener for a packet of `family` to this local address and port: on the address itself, then on the
/// wildcard, as `__inet_lookup_listener` scores them. `interface` is where a packet came by, or the device that a
/// socket is bound to, 0 for none.
#[inline(always)]
pub(crate) fn find(address: AddrWords, port: u16, family: Family, interface: Interface) -> Option<u32> {
    let entry = PORTS.get(u32::from(port))?;
    let port = u32::from(port);
    if entry.bound != 0 {
        return find_by_device(*entry, address, port, family, interface);
    }
    find_unbound(*entry, address, port, family)
}

/// As [`find`], of listeners that are bound to no device.
#[inline(always)]
fn find_unbound(entry: Port, address: AddrWords, port: u32, family: Family) -> Option<u32> {
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

/// As [`find`], at a port where listeners are bound to devices: of two on one address that of the device comes first
/// (`compute_score`). A device stacked on the interface, such as a bridge or a VLAN, comes last: whether the packet
/// will reach it is not known here.
#[inline(always)]
fn find_by_device(entry: Port, address: AddrWords, port: u32, family: Family, interface: Interface) -> Option<u32> {
    if let Some(slot) = bound_to(address, port, family, interface.index, false) {
        return Some(slot);
    }
    if entry.specific != 0
        && let Some(slot) = find_exact(address, port)
    {
        return Some(slot);
    }
    if let Some(slot) = bound_to(address, port, family, interface.index, true) {
        return Some(slot);
    }
    let wildcards = Port { specific: 0, ..entry };
    if let Some(slot) = find_unbound(wildcards, address, port, family) {
        return Some(slot);
    }
    let stacked = interfaces::find(entry.bound)?;
    if interface.slot == 0 || stacked.slot != interface.slot {
        return None;
    }
    bound_to(address, port, family, entry.bound, false).or_else(|| bound_to(address, port, family, entry.bound, true))
}

/// Slot of the listener that is bound to this device: on the address itself, or on the wildcard.
#[inline(always)]
fn bound_to(address: AddrWords, port: u32, family: Family, device: u32, wildcard: bool) -> Option<u32> {
    let mut key = ListenerKey { netns: fields::NETNS.load(), port, address: hash::to_octets(address), device };
    if wildcard && family == Family::Ipv4 {
        key.address = ANY_V4;
        // SAFETY: the value may change under the reader; every field is read by itself.
        if let Some(listener) = unsafe { LISTENERS.get(key) }
            && listener.sockets != 0
        {
            return Some(listener.slot);
        }
    }
    if wildcard {
        key.address = ANY_V6;
    }
    // SAFETY: as above.
    let listener = unsafe { LISTENERS.get(key) }?;
    let sockets = if wildcard && family == Family::Ipv4 { listener.dual } else { listener.sockets };
    (sockets != 0).then_some(listener.slot)
}

/// Notes a SYN or a handshake of a listener that [`find`] found and that has no slot of its own: the daemon gives it
/// one.
#[inline(always)]
pub(crate) fn note_shared(address: AddrWords, port: u16, family: Family) {
    losses::count(Loss::ListenerUncounted);
    mark_shared(address, port, family);
}

/// As [`note_shared`], of what is counted elsewhere.
#[inline(always)]
pub(crate) fn mark_shared(address: AddrWords, port: u16, family: Family) {
    let Some(entry) = PORTS.get(u32::from(port)) else { return };
    let port = u32::from(port);
    let is_any_v4 = family == Family::Ipv4 && entry.any_v4 == 1;
    if entry.bound != 0 {
        // Which of them it was is not worth a search: all that it may be get a slot.
        note(address, port);
        note(hash::to_words(&ANY_V4), port);
        note(hash::to_words(&ANY_V6), port);
    } else if entry.specific != 0 && find_exact(address, port).is_some() {
        note(address, port);
    } else if is_any_v4 {
        note(hash::to_words(&ANY_V4), port);
    } else {
        note(hash::to_words(&ANY_V6), port);
    }
}

#[inline(always)]
fn note(address: AddrWords, port: u32) {
    if let Some(count) = SHARED_SYNS.get_ptr_mut(listener::shared_index(address, port)) {
        // SAFETY: an aligned number in a map.
        unsafe { atomic::add(count, 1) };
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
    let key = ListenerKey { netns: fields::NETNS.load(), port, address: hash::to_octets(address), device: 0 };
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

/// Changes the counts that the packet programs look at.
#[inline(always)]
pub(crate) fn change_slot(index: u32, by: u64, dual: bool) {
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

/// Writes what the packet programs look at into a slot that was just taken out of the queue, so that nobody else has
/// it.
#[inline(always)]
pub(crate) fn fill_slot(slot: u32, key: &ListenerKey, sockets: u64, dual: u64) {
    if slot != 0
        && let Some(entry) = SLOTS.get_ptr_mut(slot)
    {
        let address = hash::to_words(&key.address);
        // One bound to a device is found by the hash map alone: no port leads to its slot.
        let port = if key.device == 0 { key.port } else { 0 };
        // SAFETY: nobody else has the slot.
        unsafe { *entry = Slot { sockets, dual, port, wildcard: wildcard(key), address } };
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
pub(crate) fn publish(key: &ListenerKey, slot: u32) {
    let Some(port) = PORTS.get_ptr_mut(key.port) else { return };
    // SAFETY: aligned numbers; the entry of an address is made by one CPU alone.
    unsafe {
        if key.device != 0 {
            write_volatile(&raw mut (*port).bound, key.device);
            return;
        }
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
pub(crate) unsafe fn publish_shared(key: &ListenerKey, listener: *mut Listener) {
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
pub(crate) fn withdraw(key: &ListenerKey) {
    if key.device != 0 {
        return;
    }
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
