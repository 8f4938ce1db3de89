//! The interfaces as the packet programs know them: which slot each counts in, and what it counted.

use tracker_common::{
    counters::{Interface, InterfaceCounters},
    limits, names,
};

use crate::kernel::{
    error::KernelError,
    links::{Layer, Link},
    maps::{Maps, Sum as _},
};

/// Enters an interface into the table; false when another one has its place.
pub fn register(maps: &mut Maps, link: &Link, slot: u16) -> Result<bool, KernelError> {
    let place = place(link.index);
    let entry = maps.interfaces.get(&place, 0).map_err(fail)?;
    if entry.index != 0 && entry.index != link.index {
        return Ok(false);
    }
    let flags = if link.layer == Layer::Ip { Interface::RAW_IP } else { 0 };
    maps.interfaces.set(place, Interface { index: link.index, slot, flags }, 0).map_err(fail)?;
    Ok(true)
}

/// Takes an interface out of the table.
pub fn unregister(maps: &mut Maps, index: u32) -> Result<(), KernelError> {
    let place = place(index);
    if maps.interfaces.get(&place, 0).map_err(fail)?.index == index {
        maps.interfaces.set(place, Interface::default(), 0).map_err(fail)?;
    }
    Ok(())
}

/// Counters of a slot, summed over the CPUs.
pub fn counters(maps: &Maps, slot: u16) -> Result<InterfaceCounters, KernelError> {
    let values = maps.interface_counters.get(&u32::from(slot), 0).map_err(fail_counters)?;
    Ok(InterfaceCounters::sum(&values))
}

/// Sets the counters of a slot to zero.
pub fn clear(maps: &mut Maps, slot: u16) -> Result<(), KernelError> {
    let zeros = maps.zeros();
    maps.interface_counters.set(u32::from(slot), zeros, 0).map_err(fail_counters)
}

fn place(index: u32) -> u32 {
    index & (limits::INTERFACE_TABLE - 1)
}

fn fail(source: aya::maps::MapError) -> KernelError {
    KernelError::Map { name: names::INTERFACES, source }
}

fn fail_counters(source: aya::maps::MapError) -> KernelError {
    KernelError::Map { name: names::INTERFACE_COUNTERS, source }
}
