//! What the kernel is set to: the sysctls that say which local ports it may hand out, and which again.

use std::{
    num::ParseIntError,
    ops::{Range, RangeInclusive},
    str::FromStr,
    time::Duration,
};

use fixedbitset::FixedBitSet;
use tracker_common::{
    own_ranges::own_range,
    ports::{Bits, PORTS},
};
use tracker_model::api::PortRange;

/// A set of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSet(FixedBitSet);

impl Default for PortSet {
    /// No port.
    fn default() -> Self {
        Self(FixedBitSet::with_capacity(PORTS))
    }
}

impl PortSet {
    /// Adds all ports of a range.
    pub fn insert_range(&mut self, range: RangeInclusive<u16>) {
        self.0.insert_range(indices(&range));
    }

    /// Whether a port is in the set.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.contains(port.into())
    }

    /// How many ports there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        to_u32(self.0.count_ones(..))
    }

    /// How many ports of a range are in the set; both ends belong to it.
    #[must_use]
    pub fn count_in(&self, range: RangeInclusive<u16>) -> u32 {
        to_u32(self.0.count_ones(indices(&range)))
    }

    /// How many ports are in both sets.
    #[must_use]
    pub fn count_common(&self, other: &Self) -> u32 {
        to_u32(self.0.intersection_count(&other.0))
    }

    /// The ports that are in both sets.
    #[must_use]
    pub fn intersection(mut self, other: &Self) -> Self {
        self.0.intersect_with(&other.0);
        self
    }

    /// Adds all ports of another set.
    pub fn extend(&mut self, other: &Self) {
        self.0.union_with(&other.0);
    }

    /// The ports, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.ones().filter_map(|port| port.try_into().ok())
    }
}

fn indices(range: &RangeInclusive<u16>) -> Range<usize> {
    let start = usize::from(*range.start());
    start..(usize::from(*range.end()) + 1).max(start)
}

fn to_u32(ports: usize) -> u32 {
    u32::try_from(ports).unwrap_or(u32::MAX)
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        let mut set = Self::default();
        set.0.extend(ports.into_iter().map(usize::from));
        set
    }
}

impl From<&Bits> for PortSet {
    fn from(bits: &Bits) -> Self {
        let blocks = bits.words.iter().map(|word| usize::from_le_bytes(word.to_le_bytes()));
        Self(FixedBitSet::with_capacity_and_blocks(PORTS, blocks))
    }
}

impl From<&PortSet> for Bits {
    fn from(set: &PortSet) -> Self {
        let mut bits = Self::default();
        for (word, block) in bits.words.iter_mut().zip(set.0.as_slice()) {
            *word = u64::from_le_bytes(block.to_le_bytes());
        }
        bits
    }
}

impl FromStr for PortSet {
    type Err = ParseIntError;

    /// Reads a list as the kernel shows it (`proc_do_large_bitmap`, `kernel/sysctl.c`): `8080,9148-9150`, or nothing.
    fn from_str(list: &str) -> Result<Self, ParseIntError> {
        let mut set = Self::default();
        for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (start, end) = part.split_once('-').unwrap_or((part, part));
            set.insert_range(start.parse()?..=end.parse()?);
        }
        Ok(set)
    }
}

/// `net.ipv4.tcp_tw_reuse`: whether `connect()` may take the port of a `TIME_WAIT` socket to the same destination
/// (`tcp_twsk_unique`, `net/ipv4/tcp_ipv4.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TwReuse {
    /// No.
    Off = 0,
    /// Yes.
    On = 1,
    /// Where source or destination is a loopback address: the default.
    Loopback = 2,
}

impl TwReuse {
    /// From the sysctl's number, if it means something.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Off, Self::On, Self::Loopback].into_iter().find(|value| value.number() == number)
    }

    /// The sysctl's number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// What a network namespace is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// Lowest port that `connect()` and `bind(0)` choose (`net.ipv4.ip_local_port_range`; it holds for IPv6 too).
    pub low: u16,
    /// Highest of them, itself one of them.
    pub high: u16,
    /// Ports that are never chosen, only bound by number (`net.ipv4.ip_local_reserved_ports`).
    pub reserved: PortSet,
    /// Whether ports in `TIME_WAIT` are taken again (`net.ipv4.tcp_tw_reuse`).
    pub tw_reuse: TwReuse,
    /// How long a socket must have been in `TIME_WAIT` for that (`net.ipv4.tcp_tw_reuse_delay`, milliseconds, since
    /// 6.13; before that 1 s).
    pub tw_reuse_delay: Duration,
    /// Lowest port that needs no `CAP_NET_BIND_SERVICE` (`net.ipv4.ip_unprivileged_port_start`).
    pub unprivileged_start: u16,
}

impl Default for PortSettings {
    /// The kernel's defaults (`inet_init_net`, `net/ipv4/af_inet.c`; `tcp_sk_init`, `net/ipv4/tcp_ipv4.c`).
    fn default() -> Self {
        Self {
            low: 32_768,
            high: 60_999,
            reserved: PortSet::default(),
            tw_reuse: TwReuse::Loopback,
            tw_reuse_delay: Duration::from_secs(1),
            unprivileged_start: 1_024,
        }
    }
}

impl PortSettings {
    /// The settings as they are for a socket that has set a range for itself, which lies in that of the namespace.
    #[must_use]
    pub fn within(&self, range: PortRange) -> Self {
        Self { low: range.low, high: range.high, ..self.clone() }
    }

    /// The range that a socket has set for itself, by [`own_range`].
    #[must_use]
    pub fn own_range(&self, set: u32) -> Option<PortRange> {
        own_range(set, self.low, self.high).map(|(low, high)| PortRange { low, high })
    }

    /// The range, both ends included.
    #[must_use]
    pub fn range(&self) -> RangeInclusive<u16> {
        self.low..=self.high
    }

    /// How many ports the range has.
    #[must_use]
    pub fn range_len(&self) -> u32 {
        (u32::from(self.high) + 1).saturating_sub(u32::from(self.low))
    }

    /// How many of them are reserved.
    #[must_use]
    pub fn reserved_in_range(&self) -> u32 {
        self.reserved.count_in(self.range())
    }

    /// The ports that the kernel may choose: those of the range that are not reserved.
    #[must_use]
    pub fn choosable(&self) -> PortSet {
        let mut ports = PortSet::default();
        ports.insert_range(self.range());
        ports.0.difference_with(&self.reserved.0);
        ports
    }

    /// Whether the kernel may choose this port.
    #[must_use]
    pub fn may_choose(&self, port: u16) -> bool {
        self.range().contains(&port) && !self.reserved.contains(port)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_is_read_as_the_kernel_shows_it() {
        let ports = |list: &str| list.parse::<PortSet>().map(|set| set.iter().collect::<Vec<_>>()).ok();
        assert_eq!(ports("8080,9148-9150\n"), Some(vec![8_080, 9_148, 9_149, 9_150]));
        assert_eq!([ports("\n"), ports("65534-65535")], [Some(vec![]), Some(vec![65_534, 65_535])]);
        assert_eq!([ports("80,http"), ports("1-2-3"), ports("65536")], [None, None, None]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_set_is_what_a_set_of_numbers_is(
            ports in prop::collection::btree_set(any::<u16>(), 0..200),
            range in any::<(u16, u16)>(),
        ) {
            let set: PortSet = ports.iter().copied().collect();
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), ports.clone());
            let range = range.0.min(range.1)..=range.0.max(range.1);
            prop_assert_eq!(set.count_in(range.clone()) as usize, ports.range(range.clone()).count());
            let bits = Bits::from(&set);
            prop_assert!(ports.iter().all(|port| bits.contains(*port)));
            prop_assert_eq!(PortSet::from(&bits), set.clone());
            let (low, high) = range.clone().into_inner();
            let settings = PortSettings { low, high, reserved: set, ..Default::default() };
            let chosen = (0..=u16::MAX).filter(|port| settings.may_choose(*port));
            prop_assert_eq!(settings.choosable(), chosen.collect::<PortSet>());
        }
    }
}
