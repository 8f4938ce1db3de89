//! The interfaces as the packet programs know them: which slot each counts in.

use tracker_common::{counters::Interface, limits};

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

fn place(index: u32) -> u32 {
    index & (limits::INTERFACE_TABLE - 1)
}
