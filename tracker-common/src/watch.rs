//! Ports whose SYNs are counted for a while, because somebody asks why nobody connects there: by interface, and by the
//! reason for which the kernel drops them.

#![allow(clippy::cast_possible_truncation, reason = "small numbers that are known when this is compiled")]

use crate::{hash::AddrWords, layout::abi, limits};

/// Ports that can be watched at one moment.
pub const PORTS: usize = 8;
/// Reasons that are counted apart: those of the kernel itself are below 200. The last one counts for all others.
pub const REASONS: u32 = 256;
/// IPv4 and IPv6.
pub const FAMILIES: u32 = 2;

abi! {
    /// What is watched. Value of [`crate::maps::WATCHED_PORTS`].
    pub struct WatchedPorts {
        /// Ports; 0 for a free place.
        pub ports: [u16; PORTS],
        /// The address that is asked about at each port, in mapped form; zero for all.
        pub addresses: [AddrWords; PORTS],
    }
}

abi! {
    /// SYNs to a watched port that one interface received, by family. Entry of [`crate::maps::WATCHED_SYNS`].
    pub struct WatchedSyns: Sum {
        /// To the address that is asked about, or to any of the host's if none is.
        pub asked: [u64; FAMILIES as usize],
        /// To another address of the host.
        pub other: [u64; FAMILIES as usize],
        /// To an address of another host.
        pub not_local: [u64; FAMILIES as usize],
    }
}

named! {
    /// What became of a packet of a watched port.
    pub enum Fate {
        /// A SYN to the port was dropped.
        SynDropped = 0,
        /// A SYN-ACK from the port was dropped on its way out.
        AnswerDropped = 1,
        /// A RST from the port was sent, and by no socket.
        Reset = 2,
    }
}

/// Entry of [`crate::maps::WATCHED_SYNS`] for a place among the watched ports and the slot of an interface.
#[inline(always)]
#[must_use]
pub const fn syns_index(place: u32, interface: u32) -> u32 {
    place * limits::INTERFACES + interface
}

/// Entry of [`crate::maps::WATCHED_DROPS`] for a place among the watched ports, the index of a family, and the reason
/// by the kernel's number, which is 0 for a RST.
#[inline(always)]
#[must_use]
pub const fn drops_index(place: u32, fate: Fate, family: u32, reason: u32) -> u32 {
    let reason = if reason < REASONS { reason } else { REASONS - 1 };
    ((place * Fate::COUNT as u32 + fate as u32) * FAMILIES + family) * REASONS + reason
}

/// Entries of [`crate::maps::WATCHED_SYNS`].
pub const SYNS_ENTRIES: u32 = PORTS as u32 * limits::INTERFACES;
/// Entries of [`crate::maps::WATCHED_DROPS`].
pub const DROPS_ENTRIES: u32 = PORTS as u32 * Fate::COUNT as u32 * FAMILIES * REASONS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_an_entry_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for place in 0..PORTS as u32 {
            for fate in Fate::ALL {
                for family in 0..FAMILIES {
                    assert!((0..REASONS).all(|reason| seen.insert(drops_index(place, fate, family, reason))));
                }
            }
        }
        assert_eq!((seen.len() as u32, seen.last().copied()), (DROPS_ENTRIES, Some(DROPS_ENTRIES - 1)));
        assert_eq!(drops_index(7, Fate::Reset, 1, 0x0003_0001), DROPS_ENTRIES - 1, "of another subsystem");
        assert_eq!(syns_index(PORTS as u32 - 1, limits::INTERFACES - 1), SYNS_ENTRIES - 1);
    }
}
