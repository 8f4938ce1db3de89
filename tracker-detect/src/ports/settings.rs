//! What the kernel is set to: the sysctls that say which local ports it may hand out, and to whom again.

use std::{
    error::Error,
    fmt::{self, Display, Formatter},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

/// Ports there are.
const PORTS: usize = 65_536;
/// Words of 64 bits that hold one bit for each.
const WORDS: usize = PORTS / 64;

/// A set of ports.
#[derive(Clone, PartialEq, Eq)]
pub struct PortSet {
    /// One bit for each port: that of port `p` is bit `p % 64` of word `p / 64`, as in the kernel's bitmaps of little-endian
    /// machines.
    words: Box<[u64; WORDS]>,
}

impl Default for PortSet {
    fn default() -> Self {
        Self { words: Box::new([0; WORDS]) }
    }
}

impl PortSet {
    /// No port.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The set that these words hold: the bit of port `p` is bit `p % 64` of word `p / 64`.
    #[must_use]
    pub fn from_words(words: Box<[u64; WORDS]>) -> Self {
        Self { words }
    }

    /// The words, as for [`Self::from_words`].
    #[must_use]
    pub fn words(&self) -> &[u64; WORDS] {
        &self.words
    }

    /// Puts a port in, and tells whether it is new.
    pub fn insert(&mut self, port: u16) -> bool {
        let (word, bit) = place(port);
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Takes a port out, and tells whether it was in.
    pub fn remove(&mut self, port: u16) -> bool {
        let (word, bit) = place(port);
        let was = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        was
    }

    /// Puts in all ports of a range.
    pub fn insert_range(&mut self, range: RangeInclusive<u16>) {
        for (word, mask) in masks(&range) {
            self.words[word] |= mask;
        }
    }

    /// Whether a port is in.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let (word, bit) = place(port);
        self.words[word] & bit != 0
    }

    /// How many ports are in.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether none is in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many ports of a range are in; both ends belong to it.
    #[must_use]
    pub fn count_in(&self, range: RangeInclusive<u16>) -> u32 {
        masks(&range).map(|(word, mask)| (self.words[word] & mask).count_ones()).sum()
    }

    /// The ports that are in one of the two.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.extend(other);
        union
    }

    /// Puts in all ports of another set.
    pub fn extend(&mut self, other: &Self) {
        for (mine, theirs) in self.words.iter_mut().zip(other.words.iter()) {
            *mine |= theirs;
        }
    }

    /// The ports, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..=u16::MAX).filter(|port| self.contains(*port))
    }

    /// The ports as ranges, lowest first: as few as there can be.
    fn ranges(&self) -> Vec<RangeInclusive<u16>> {
        let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
        for port in self.iter() {
            match ranges.last_mut() {
                Some(last) if last.end().checked_add(1) == Some(port) => *last = *last.start()..=port,
                _ => ranges.push(port..=port),
            }
        }
        ranges
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        let mut set = Self::new();
        for port in ports {
            set.insert(port);
        }
        set
    }
}

/// Where the bit of a port is.
const fn place(port: u16) -> (usize, u64) {
    (port as usize / 64, 1 << (port % 64))
}

/// The words that may hold bits of a range, each with those bits.
fn masks(range: &RangeInclusive<u16>) -> impl Iterator<Item = (usize, u64)> + use<> {
    let range = range.clone();
    let words = usize::from(*range.start()) / 64..=usize::from(*range.end()) / 64;
    words.map(move |word| (word, mask(word, &range)))
}

/// The bits of a word that belong to a range.
pub(super) fn mask(word: usize, range: &RangeInclusive<u16>) -> u64 {
    let (start, end) = (usize::from(*range.start()), usize::from(*range.end()));
    if range.is_empty() || word < start / 64 || word > end / 64 {
        return 0;
    }
    let from = if word == start / 64 { u64::MAX << (start % 64) } else { u64::MAX };
    let to = if word == end / 64 { u64::MAX >> (63 - end % 64) } else { u64::MAX };
    from & to
}

impl Display for PortSet {
    /// As the kernel shows `net.ipv4.ip_local_reserved_ports` (`proc_do_large_bitmap`, `kernel/sysctl.c`): `8080,9148-9150`.
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges().into_iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (start, end) if start == end => write!(formatter, "{comma}{start}")?,
                (start, end) => write!(formatter, "{comma}{start}-{end}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "PortSet({self})")
    }
}

impl FromStr for PortSet {
    type Err = PortListError;

    /// Reads what [`Display`] writes, in any order, with white space around a part; nothing at all is the empty set.
    fn from_str(list: &str) -> Result<Self, PortListError> {
        let mut set = Self::new();
        if list.trim().is_empty() {
            return Ok(set);
        }
        for part in list.split(',') {
            set.insert_range(range(part.trim())?);
        }
        Ok(set)
    }
}

/// A port, `8080`, or a range of them, `9148-9150`.
fn range(part: &str) -> Result<RangeInclusive<u16>, PortListError> {
    let error = |reason| PortListError { part: part.to_owned(), reason };
    let number = |text: &str| match text.trim() {
        text if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(error("is no port or range such as 8080 or 9148-9150"))
        }
        text => text.parse::<u16>().map_err(|_| error("is beyond 65535, the highest port")),
    };
    match part.split_once('-') {
        None => number(part).map(|port| port..=port),
        Some((start, end)) => match (number(start)?, number(end)?) {
            (start, end) if start > end => Err(error("is a range that ends before it begins")),
            (start, end) => Ok(start..=end),
        },
    }
}

/// Why a list of ports cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortListError {
    /// The part between two commas that is wrong.
    pub part: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Display for PortListError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "list of ports: {:?} {}", self.part, self.reason)
    }
}

impl Error for PortListError {}

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
    /// From the sysctl's number; none of one that there is not.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Off),
            1 => Some(Self::On),
            2 => Some(Self::Loopback),
            _ => None,
        }
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
    /// How long a socket must have been in `TIME_WAIT` for that (`net.ipv4.tcp_tw_reuse_delay`, milliseconds, since 6.13;
    /// before that 1 s).
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
            reserved: PortSet::new(),
            tw_reuse: TwReuse::Loopback,
            tw_reuse_delay: Duration::from_secs(1),
            unprivileged_start: 1_024,
        }
    }
}

impl PortSettings {
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
    fn a_list_is_read_and_shown_as_the_kernel_shows_it() {
        for list in ["", "8080", "8080,9148-9150", "0-65535", "0,2,4,65535", "1-2,4-63,65-128"] {
            assert_eq!(list.parse::<PortSet>().unwrap().to_string(), list);
        }
        assert_eq!(" 9150 , 8080,9148 - 9149\n".parse::<PortSet>().unwrap().to_string(), "8080,9148-9150");
        assert_eq!("\n".parse::<PortSet>().unwrap(), PortSet::new());
    }

    #[test]
    fn what_is_no_list_is_refused_with_the_part_that_is_wrong() {
        let error = |list: &str| list.parse::<PortSet>().unwrap_err().to_string();
        assert_eq!(error("80,http"), "list of ports: \"http\" is no port or range such as 8080 or 9148-9150");
        assert_eq!(error("80,,90"), "list of ports: \"\" is no port or range such as 8080 or 9148-9150");
        assert_eq!(error("1-2-3"), "list of ports: \"1-2-3\" is no port or range such as 8080 or 9148-9150");
        assert_eq!(error("+1"), "list of ports: \"+1\" is no port or range such as 8080 or 9148-9150");
        assert_eq!(error("65536"), "list of ports: \"65536\" is beyond 65535, the highest port");
        assert_eq!(error("9-8"), "list of ports: \"9-8\" is a range that ends before it begins");
    }

    #[test]
    fn the_range_counts_both_ends() {
        let settings = PortSettings { reserved: "32768,40000-40009,61000".parse().unwrap(), ..PortSettings::default() };
        assert_eq!((settings.range_len(), settings.reserved_in_range()), (28_232, 11));
        assert!(settings.may_choose(60_999) && !settings.may_choose(61_000) && !settings.may_choose(40_003));
        let all = PortSettings { low: 0, high: u16::MAX, ..PortSettings::default() };
        assert_eq!(all.range_len(), 65_536);
    }

    #[test]
    fn numbers_of_the_sysctl_are_those_of_the_manual() {
        let known: Vec<_> = (0..=u8::MAX).filter_map(TwReuse::from_number).collect();
        assert_eq!(known, [TwReuse::Off, TwReuse::On, TwReuse::Loopback]);
        assert!(known.iter().all(|value| TwReuse::from_number(value.number()) == Some(*value)));
    }

    proptest! {
        #[test]
        fn a_set_is_what_a_set_of_numbers_is(
            ports in prop::collection::btree_set(any::<u16>(), 0..200),
            others in prop::collection::btree_set(any::<u16>(), 0..200),
            range in any::<(u16, u16)>(),
            edge in any::<u16>(),
        ) {
            let set: PortSet = ports.iter().copied().collect();
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), ports.clone());
            prop_assert_eq!(set.len() as usize, ports.len());
            let range = range.0.min(range.1)..=range.0.max(range.1);
            prop_assert_eq!(set.count_in(range.clone()) as usize, ports.range(range.clone()).count());
            prop_assert_eq!(set.to_string().parse::<PortSet>().unwrap(), set.clone());
            prop_assert_eq!(PortSet::from_words(Box::new(*set.words())), set.clone());
            let other: PortSet = others.iter().copied().collect();
            prop_assert_eq!(set.union(&other).iter().collect::<BTreeSet<_>>(), ports.union(&others).copied().collect());
            let mut filled = PortSet::new();
            filled.insert_range(range.clone());
            prop_assert_eq!(filled.len() as usize, range.len());
            prop_assert_eq!(filled.contains(edge), range.contains(&edge));
            prop_assert!(filled.insert(edge) != range.contains(&edge) && filled.remove(edge) && !filled.contains(edge));
        }
    }
}
