//! Packet counters by interface.

use aya_ebpf::{
    macros::map,
    maps::{Array, PerCpuArray},
};
use tracker_common::{
    counters::{Interface, InterfaceCounters, Loss},
    limits,
};

use crate::losses;

#[map]
static INTERFACES: Array<Interface> = Array::with_max_entries(limits::INTERFACE_TABLE, 0);

#[map]
static INTERFACE_CTRS: PerCpuArray<InterfaceCounters> = PerCpuArray::with_max_entries(limits::INTERFACES, 0);

/// The entry of a watched interface.
#[inline(always)]
pub(crate) fn find(index: u32) -> Option<Interface> {
    let entry = INTERFACES.get(index & (limits::INTERFACE_TABLE - 1))?;
    (entry.index == index).then_some(*entry)
}

/// The entry of the interface a packet came by, and its counters on this CPU. An interface without an entry
/// shares slot 0.
#[inline(always)]
pub(crate) fn counters(index: u32) -> Option<(Interface, *mut InterfaceCounters)> {
    let entry = if let Some(entry) = find(index) {
        entry
    } else {
        losses::count(Loss::InterfaceTableFull);
        Interface { index, slot: 0, flags: 0 }
    };
    Some((entry, INTERFACE_CTRS.get_ptr_mut(u32::from(entry.slot))?))
}
