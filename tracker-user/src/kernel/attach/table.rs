//! The interfaces as the packet programs know them: which slot each counts in, and what it counted.

use tracker_common::{
    counters::{Interface, InterfaceCounters},
    limits,
};

use crate::kernel::{
    error::KernelError,
    links::{Layer, Link},
    maps::Maps,
};

/// Enters an interface into the table; false when another one has its place.
pub fn register(maps: &mut Maps, link: &Link, slot: u16) -> Result<bool, KernelError> {
    let place = place(link.index);
    let entry = maps.interfaces.lookup(place)?;
    if entry.index != 0 && entry.index != link.index {
        return Ok(false);
    }
    let flags = if link.layer == Layer::Ip { Interface::RAW_IP } else { 0 };
    maps.interfaces.update(place, Interface { index: link.index, slot, flags })?;
    Ok(true)
}

/// Takes an interface out of the table.
pub fn unregister(maps: &mut Maps, index: u32) -> Result<(), KernelError> {
    let place = place(index);
    if maps.interfaces.lookup(place)?.index == index {
        maps.interfaces.update(place, Interface::default())?;
    }
    Ok(())
}

/// Counters of a slot, summed over the CPUs.
pub fn counters(maps: &Maps, slot: u16) -> Result<InterfaceCounters, KernelError> {
    maps.interface_counters.sum(u32::from(slot))
}

/// Sets the counters of a slot to zero.
pub fn clear(maps: &mut Maps, slot: u16) -> Result<(), KernelError> {
    maps.interface_counters.reset(u32::from(slot))
}

fn place(index: u32) -> u32 {
    index & (limits::INTERFACE_TABLE - 1)
}
