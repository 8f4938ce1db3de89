//! Ranges that sockets set for themselves (`IP_LOCAL_PORT_RANGE`), from one pass to the next.
//!
//! A pass finds them on open sockets, and counts whole what it began with: a minisocket in `TIME_WAIT` no longer has
//! its range. So each is remembered for longer than a `TIME_WAIT` lasts.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use tracker_common::{
    hash::{self, AddrWords},
    limits,
    own_ranges::{OwnRange, RANGES_OF_TUPLE, RangedTuple, slots},
    ports::{PortTotals, PortTuple, TupleCounts},
};
use tracker_model::api::PortRange;

use crate::kernel::{error::KernelError, maps::Maps, sources::octets};

/// A range that no socket has set for this time is forgotten: twice the time of a `TIME_WAIT`.
const KEPT: Duration = Duration::from_secs(2 * limits::TIME_WAIT_SECONDS as u64);
/// Ranges that a pass begins with at most: the fullest. The rest of the places is for new ones.
const MOST: usize = limits::PORT_RANGES as usize * 3 / 4;

/// The ranges of a network namespace.
#[derive(Default)]
pub struct Ranges {
    known: Vec<Known>,
    /// How many the pass under way began with.
    begun: u32,
    /// Whether there are more than a pass can begin with.
    too_many: bool,
}

/// A range of a tuple.
#[derive(Clone, Copy)]
struct Known {
    key: Key,
    /// When a socket that has set it was last seen.
    seen: Instant,
    /// Ports of it in use.
    used: u32,
}

/// Source, destination, port, lowest and highest port.
type Key = (AddrWords, AddrWords, u16, u16, u16);

const fn key(range: &OwnRange) -> Key {
    (range.source, range.destination, range.port, range.low, range.high)
}

/// What a pass counted in ranges.
pub struct RangesSeen {
    /// Those that are counted whole.
    pub whole: Vec<OwnRange>,
    /// Sockets with other ranges.
    pub lost: u64,
    /// Whether another pass would count more.
    pub repeat: bool,
}

impl Ranges {
    /// Enters what is known for the next pass; returns how many ranges that are.
    pub fn prepare(&mut self, maps: &mut Maps) -> Result<u32, KernelError> {
        self.known.retain(|range| range.seen.elapsed() < KEPT);
        self.known.sort_by_key(|Known { key: (.., low, high), used, .. }| {
            let ports = u32::from(high - low) + 1;
            std::cmp::Reverse(used * 1_000 / ports)
        });
        self.too_many = self.known.len() > MOST;
        self.known.truncate(MOST);
        let mut ranged: HashMap<RangedTuple, u64> = HashMap::new();
        for (index, Known { key, .. }) in (0..).zip(&self.known) {
            let counts = TupleCounts { next_free: u32::MAX, ..TupleCounts::default() };
            let (source, destination, port, low, high) = *key;
            let entry = OwnRange { source, destination, counts, port, low, high, ..OwnRange::default() };
            maps.port_ranges.update(index, entry)?;
            let tuple = RangedTuple { source, destination, port: port.into(), ..RangedTuple::default() };
            let word = ranged.entry(tuple).or_default();
            // Of more than fit the fullest come first; the others are found again, and counted as lost.
            let free = slots(*word).count();
            if free < RANGES_OF_TUPLE as usize {
                *word |= (u64::from(index) + 1) << (8 * free);
            }
        }
        maps.ranged.delete_where(|tuple, _| !ranged.contains_key(tuple))?;
        for (tuple, word) in ranged {
            maps.ranged.update(tuple, word)?;
        }
        self.begun = u32::try_from(self.known.len()).unwrap_or(limits::PORT_RANGES);
        Ok(self.begun)
    }

    /// What the pass found.
    pub fn take_over(&mut self, maps: &Maps, totals: &PortTotals) -> Result<RangesSeen, KernelError> {
        let (mut whole, mut lost) = (Vec::new(), totals.unranged);
        for index in 0..u32::try_from(totals.ranges).unwrap_or(u32::MAX).min(limits::PORT_RANGES) {
            let range = maps.port_ranges.lookup(index)?;
            self.keep(&range);
            if index < self.begun {
                whole.push(range);
            } else {
                lost += u64::from(range.sockets);
            }
        }
        let repeat = totals.ranges > u64::from(self.begun) && !self.too_many;
        Ok(RangesSeen { whole, lost, repeat })
    }

    fn keep(&mut self, range: &OwnRange) {
        let used = range.counts.sockets();
        let now = Instant::now();
        match self.known.iter_mut().find(|known| known.key == key(range)) {
            Some(known) => {
                known.used = used;
                known.seen = if range.sockets > 0 { now } else { known.seen };
            }
            None => self.known.push(Known { key: key(range), seen: now, used }),
        }
    }

    /// Connections from here to there have just been made with this range: a pass may find none of them open.
    pub fn learn(&mut self, (source, destination, port): (IpAddr, IpAddr, u16), range: PortRange) {
        let [source, destination] = [source, destination].map(|address| hash::to_words(&octets(address)));
        let key = (source, destination, port, range.low, range.high);
        match self.known.iter_mut().find(|known| known.key == key) {
            Some(known) => known.seen = Instant::now(),
            None => self.known.push(Known { key, seen: Instant::now(), used: 0 }),
        }
    }

    /// Whether all sockets of a tuple are counted in ranges: nothing is left for a row of the namespace's range.
    pub fn has_all(&self, tuple: &PortTuple) -> bool {
        slots(tuple.ranges).all(|index| index < self.begun) && u32::from(tuple.ranged) >= tuple.counts.sockets()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(begun: u32) -> Ranges {
        Ranges { begun, ..Ranges::default() }
    }

    #[test]
    fn a_tuple_with_a_range_that_is_new_is_not_counted_whole() {
        let mut tuple = PortTuple { ranges: 0x0301, ranged: 7, ..PortTuple::default() };
        tuple.counts.states[1] = 7;
        assert!(ranges(3).has_all(&tuple) && ranges(32).has_all(&tuple));
        assert!(!ranges(2).has_all(&tuple), "the third is new");
        tuple.counts.states[6] = 1;
        assert!(!ranges(3).has_all(&tuple), "one TIME_WAIT lies in no range");
    }

    #[test]
    fn a_range_stays_known_while_its_sockets_are_closed() {
        let mut known = ranges(0);
        let range = OwnRange { low: 40_000, high: 40_099, sockets: 1, ..OwnRange::default() };
        known.keep(&range);
        let seen = known.known[0].seen;
        known.keep(&OwnRange { sockets: 0, ..range });
        assert_eq!((known.known.len(), known.known[0].seen), (1, seen), "no socket has it any more");
        known.learn(("::".parse().unwrap(), "::".parse().unwrap(), 0), PortRange { low: 40_000, high: 40_099 });
        assert_eq!(known.known.len(), 1);
        assert!(known.known[0].seen > seen);
        known.learn(("::".parse().unwrap(), "::".parse().unwrap(), 0), PortRange { low: 40_000, high: 40_199 });
        assert_eq!(known.known.len(), 2);
    }
}
