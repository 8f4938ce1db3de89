//! SYNs to ports that are watched for a while: by interface here, by the reason of a drop in `programs/drops.rs`.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use tracker_common::{
    classify::Family,
    hash::AddrWords,
    watch::{self, Fate, WatchedPorts, WatchedSyns},
};

use crate::atomic;

#[map]
static WATCHED_PORTS: Array<WatchedPorts> = Array::with_max_entries(1, 0);

#[map]
static WATCHED_SYNS: Array<WatchedSyns> = Array::with_max_entries(watch::SYNS_ENTRIES, BPF_F_MMAPABLE);

#[map]
static WATCHED_DROPS: Array<u64> = Array::with_max_entries(watch::DROPS_ENTRIES, BPF_F_MMAPABLE);

/// Calls `act` for each place among those that are watched which has this port, with the address that is asked about,
/// zero for all.
#[inline(always)]
pub(crate) fn each(port: u16, act: impl Fn(u32, AddrWords)) {
    let Some(watched) = WATCHED_PORTS.get(0) else { return };
    // Mostly nothing is watched: the first place is taken first.
    if watched.ports[0] == 0 {
        return;
    }
    for (place, (watched, asked)) in watched.ports.iter().zip(&watched.addresses).enumerate() {
        if *watched == port && port != 0 {
            act(place as u32, *asked);
        }
    }
}

/// Counts a SYN that an interface received, if its port is watched.
#[inline(always)]
pub(crate) fn syn(destination: AddrWords, port: u16, family: Family, interface: u16, is_local: bool) {
    let family = usize::from(family == Family::Ipv6);
    each(port, |place, asked| {
        let Some(counts) = WATCHED_SYNS.get_ptr_mut(watch::syns_index(place, u32::from(interface))) else { return };
        // SAFETY: aligned numbers of a map; the family is 0 or 1.
        unsafe {
            let counts = if !is_local {
                &raw mut (*counts).not_local
            } else if asked == [0; 2] || asked == destination {
                &raw mut (*counts).asked
            } else {
                &raw mut (*counts).other
            };
            atomic::add(counts.cast::<u64>().add(family), 1);
        }
    });
}

/// Counts what became of a packet of a watched port.
#[inline(always)]
pub(crate) fn count(place: u32, fate: Fate, family: usize, reason: u32) {
    if let Some(counter) = WATCHED_DROPS.get_ptr_mut(watch::drops_index(place, fate, family as u32, reason)) {
        // SAFETY: an aligned number of a map.
        unsafe { atomic::add(counter, 1) };
    }
}
