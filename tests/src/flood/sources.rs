//! Sources of a flood, in random order, with the number of distinct ones known without a table of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Family;

/// Where a flood says that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sources {
    /// The whole address space, as far as a host would take a packet from there: no address comes twice.
    Everywhere(Family),
    /// Addresses of one prefix: of at most 16 free bits, in which they come again, or of 64, in which none does.
    Prefix(IpAddr, u8),
    /// One address.
    One(IpAddr),
    /// One address after the other.
    Each(Vec<IpAddr>),
}

/// Sources, one after the other.
#[derive(Debug)]
pub struct Draw {
    sources: Sources,
    random: fastrand::Rng,
    seed: u64,
    drawn: u64,
    /// Of a small prefix: which have come.
    seen: Vec<bool>,
    distinct: u64,
}

impl Draw {
    /// Nothing drawn yet.
    pub fn new(sources: &Sources) -> Self {
        let small = match sources {
            Sources::Prefix(..) => 1 << 16,
            _ => 0,
        };
        let mut random = fastrand::Rng::new();
        let seed = random.u64(..);
        Self { sources: sources.clone(), random, seed, drawn: 0, seen: vec![false; small], distinct: 0 }
    }

    /// How many distinct ones were drawn.
    pub fn distinct(&self) -> u64 {
        self.distinct
    }

    /// The next source, its bytes as a number.
    pub fn next(&mut self) -> u128 {
        match &self.sources {
            Sources::Everywhere(Family::Ipv4) => {
                self.distinct += 1;
                self.anywhere_ipv4()
            }
            Sources::Everywhere(Family::Ipv6) => {
                self.distinct += 1;
                // 2000::/3, the addresses given out so far; the lower half alone makes them distinct.
                let high = self.random.u64(..) >> 3 | 1 << 61;
                u128::from(high) << 64 | u128::from(self.permuted())
            }
            &Sources::Prefix(network, bits) => self.in_prefix(number(network), width(network) - bits),
            &Sources::One(address) => {
                self.distinct = 1;
                number(address)
            }
            Sources::Each(addresses) => {
                let count = u64::try_from(addresses.len()).expect("a few addresses");
                let address = addresses[usize::try_from(self.drawn % count).expect("an index")];
                self.drawn += 1;
                self.distinct = self.drawn.min(count);
                number(address)
            }
        }
    }

    /// 64 bits that do not come again: each step of `mix` can be undone.
    fn permuted(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.drawn.wrapping_add(self.seed))
    }

    fn anywhere_ipv4(&mut self) -> u128 {
        loop {
            self.drawn += 1;
            let number = u32::try_from(self.drawn & 0xffff_ffff).expect("32 bits");
            let address = mix32(number.wrapping_add(u32::try_from(self.seed >> 32).expect("32 bits")));
            if is_usable(Ipv4Addr::from_bits(address)) {
                return address.into();
            }
        }
    }

    fn in_prefix(&mut self, network: u128, free: u8) -> u128 {
        match free {
            64 => {
                self.distinct += 1;
                network | u128::from(self.permuted())
            }
            1..=16 => {
                // Neither the address of the network nor that of all its hosts.
                let host = self.random.u32(1..(1 << free) - 1);
                let seen = &mut self.seen[usize::try_from(host).expect("16 bits")];
                self.distinct += u64::from(!*seen);
                *seen = true;
                network | u128::from(host)
            }
            _ => panic!("a prefix with {free} free bits"),
        }
    }
}

/// Whether a host takes packets from there, and nobody in the lab answers: 198.18.0.0/15 and 10.77.0.0/16 are the
/// lab's.
fn is_usable(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    !matches!((first, second), (0 | 127 | 224.., _) | (10, 77) | (198, 18 | 19))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => Ipv6Addr::to_bits(address),
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The finalizer of `SplitMix64`: a permutation of 64 bits.
fn mix(mut value: u64) -> u64 {
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// The finalizer of `MurmurHash3`: a permutation of 32 bits.
fn mix32(mut value: u32) -> u32 {
    value = (value ^ value >> 16).wrapping_mul(0x85eb_ca6b);
    value = (value ^ value >> 13).wrapping_mul(0xc2b2_ae35);
    value ^ value >> 16
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn distinct_sources_are_counted() {
        let one = IpAddr::from([198, 18, 7, 7]);
        let cases = [
            Sources::Everywhere(Family::Ipv4),
            Sources::Everywhere(Family::Ipv6),
            Sources::Prefix(IpAddr::from([198, 18, 0, 0]), 16),
            Sources::Prefix(IpAddr::from([203, 0, 113, 0]), 24),
            Sources::Prefix(IpAddr::from([0x2001, 0xdb8, 0x64, 0x64, 0, 0, 0, 0]), 64),
            Sources::One(one),
            Sources::Each(vec![one, IpAddr::from([198, 18, 7, 8])]),
        ];
        for sources in cases {
            let mut draw = Draw::new(&sources);
            let drawn: HashSet<u128> = (0..100_000).map(|_| draw.next()).collect();
            assert_eq!(draw.distinct(), u64::try_from(drawn.len()).unwrap(), "{sources:?}");
        }
    }

    #[test]
    fn nobody_of_the_lab_is_spoofed() {
        let mut draw = Draw::new(&Sources::Everywhere(Family::Ipv4));
        let sources = (0..100_000).map(|_| Ipv4Addr::from_bits(u32::try_from(draw.next()).unwrap()));
        assert!(sources.into_iter().all(|source| is_usable(source) && !source.is_loopback() && !source.is_multicast()));
    }
}
