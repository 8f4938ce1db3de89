//! Keeps the kernel side's sets of local addresses equal to the `local` routes.

use std::{collections::BTreeSet, fs, net::IpAddr};

use aya::maps::lpm_trie::Key;
use tracker_common::{
    hash::{self, AddrWords},
    limits,
};

use super::{error::KernelError, maps::Maps};

/// Length of a prefix that is one address, IPv4 in mapped form.
const HOST: u8 = 128;

/// Makes the kernel side know the address of a host as local.
///
/// # Errors
/// There are too many of them.
pub fn add(maps: &mut Maps, address: &[u8; 16]) -> Result<(), KernelError> {
    maps.local_addresses.update(address, 1)?;
    // Of two at one place the other is found in the hash map alone.
    set_place(maps, place(address), hash::to_words(address))
}

/// Takes an address back; one of those that `stay` may have its place.
fn remove(maps: &mut Maps, address: &[u8; 16], stay: &BTreeSet<(u8, [u8; 16])>) -> Result<(), KernelError> {
    let place = place(address);
    let mut others = stay.iter().filter(|(length, other)| *length == HOST && self::place(other) == place);
    set_place(maps, place, others.next().map_or([0; 2], |(_, other)| hash::to_words(other)))?;
    // Removing what is gone already is no loss.
    let _ = maps.local_addresses.delete(address);
    Ok(())
}

fn set_place(maps: &mut Maps, place: u32, address: AddrWords) -> Result<(), KernelError> {
    maps.local_places.update(place, address)
}

fn place(address: &[u8; 16]) -> u32 {
    hash::bucket_index(hash::to_words(address), 0, limits::LOCAL_PLACES.ilog2())
}

/// The local addresses that the kernel side knows.
#[derive(Default)]
pub struct LocalAddresses {
    known: BTreeSet<(u8, [u8; 16])>,
    /// Those that did not fit; SYNs to them count as to other hosts.
    left_out: BTreeSet<(u8, [u8; 16])>,
}

impl LocalAddresses {
    /// Those that are `present`.
    pub fn of(present: &BTreeSet<(u8, [u8; 16])>, maps: &mut Maps) -> Result<Self, KernelError> {
        let mut local = Self::default();
        local.update(present, maps)?;
        Ok(local)
    }

    /// Changes what differs from the prefixes that are `present`.
    pub fn update(&mut self, present: &BTreeSet<(u8, [u8; 16])>, maps: &mut Maps) -> Result<(), KernelError> {
        let mut known = &self.known & present;
        for (length, address) in self.known.difference(present) {
            if *length == HOST {
                remove(maps, address, &known)?;
            } else {
                // Removing what is gone already is no loss.
                let _ = maps.local_prefixes.delete(&Key::new(u32::from(*length), *address));
            }
        }
        let mut left_out = BTreeSet::new();
        for prefix in present.difference(&self.known) {
            let (length, address) = *prefix;
            let result = if length == HOST {
                add(maps, &address)
            } else {
                maps.local_prefixes.update(&Key::new(u32::from(length), address), 1)
            };
            match result {
                Ok(()) => drop(known.insert(*prefix)),
                Err(error) => {
                    if left_out.is_empty() && self.left_out.is_empty() {
                        tracing::warn!("a local address does not fit: {error}");
                    }
                    left_out.insert(*prefix);
                }
            }
        }
        (self.known, self.left_out) = (known, left_out);
        Ok(())
    }

    /// Whether a socket may be bound to an address: the host has it, or is set to do without.
    pub fn may_bind(&self, address: IpAddr) -> bool {
        let family = if address.to_canonical().is_ipv4() { "ipv4" } else { "ipv6" };
        let setting = fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
        setting.is_ok_and(|setting| setting.trim() == "1") || self.contains(address)
    }

    /// Whether packets to an address are delivered to this host.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let bits = u128::from(address);
        self.known.iter().chain(&self.left_out).any(|(length, prefix)| {
            let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
            (bits ^ u128::from_be_bytes(*prefix)) & mask == 0
        })
    }

    /// How many host addresses and how many wider prefixes there are, those that did not fit included.
    pub fn counts(&self) -> (u64, u64) {
        let all = || self.known.iter().chain(&self.left_out);
        let hosts = all().filter(|(length, _)| *length == HOST).count() as u64;
        (hosts, all().count() as u64 - hosts)
    }
}
