//! Sources of SYNs: reads the sketches of the kernel side, sets them back, and sums them up while a flood is watched.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use tracker_common::{
    hash::{self, AddrWords},
    sources::{CompletedSample, Registers, SourceSample},
};
use tracker_detect::{estimators::hll, syn::SourcesObservation};

use super::{error::KernelError, maps::Maps};

/// Between two readings of a listener that is not watched.
const PAUSE: Duration = Duration::from_secs(1);
/// Readings that are kept of a listener that is not watched: a flood begins a moment before it is suspected.
const KEPT: usize = 3;
/// A reading of fewer SYNs is not worth its 8 KiB.
const WORTH_KEEPING: u64 = 16;
/// Distinct sources are shown of this time at least, however often they are read: what is of another time each time
/// cannot be compared.
const SHOWN: Duration = Duration::from_secs(1);

/// What is kept of the sources of each slot.
#[derive(Default)]
pub struct Sources {
    slots: HashMap<u32, Slot>,
}

/// Which sources are asked for. Times are on one clock.
pub struct Question {
    /// Slot of the listener.
    pub slot: u32,
    /// Its SYNs, and handshakes that were completed.
    pub counted: (u64, u64),
    pub at: Duration,
    /// While it is watched: for what began then, every call is answered.
    pub watched: Option<Duration>,
    /// Since when distinct sources are to be summed up even if they were watched before.
    pub anew: Option<Duration>,
}

struct Slot {
    read_at: Duration,
    /// SYNs and handshakes of the slot at the last reading.
    counted: (u64, u64),
    shown: Shown,
    /// The last readings before the slot was watched: the SYNs of each, and when it was read.
    before: VecDeque<(Box<Registers>, u64, Duration)>,
    /// All readings since the slot is watched, and those kept from before; and since when that is.
    total: Option<(Box<Registers>, u64, Duration)>,
}

/// Distinct sources as they are shown: of the last window of [`SHOWN`] or more that had any SYNs.
#[derive(Default)]
struct Shown {
    /// A window that has begun, and when.
    window: Option<(Box<Registers>, Duration)>,
    distinct: Option<f64>,
}

impl Shown {
    /// Adds what was read of the time from `from` to `to`.
    fn add(&mut self, registers: &Registers, from: Duration, to: Duration) {
        let (window, _) = self.window.get_or_insert_with(|| (Box::default(), from));
        hll::merge(window, registers);
        self.end(to);
    }

    /// Ends the window if it is long enough.
    fn end(&mut self, at: Duration) {
        if let Some((window, _)) = self.window.take_if(|(_, from)| at.saturating_sub(*from) >= SHOWN) {
            self.distinct = Some(hll::estimate(&window).round());
        }
    }
}

impl Sources {
    /// Sources of the SYNs of a slot since the last answer; none while there were none, or too soon after it.
    pub fn read(&mut self, maps: &mut Maps, asked: &Question) -> Result<Option<SourcesObservation>, KernelError> {
        let Question { slot, counted: (syns, completed), at, .. } = *asked;
        let kept = self.slots.entry(slot).or_insert_with(|| Slot {
            read_at: at,
            counted: (0, 0),
            shown: Shown::default(),
            before: VecDeque::new(),
            total: None,
        });
        if syns < kept.counted.0 {
            // The slot was given to another listener.
            (kept.counted, kept.shown, kept.total) = ((0, 0), Shown::default(), None);
            kept.before.clear();
        }
        if asked.watched.is_none() {
            kept.total = None;
        }
        let before = kept.counted.0;
        if syns == before || (asked.watched.is_none() && at.saturating_sub(kept.read_at) < PAUSE && before != 0) {
            kept.shown.end(at);
            return Ok(None);
        }
        let (registers, sample, completed_sample) = take(maps, slot)?;
        let (covered, completed) = (syns - before, completed.saturating_sub(kept.counted.1));
        kept.shown.add(&registers, kept.read_at, at);
        (kept.read_at, kept.counted) = (at, asked.counted);
        let distinct = hll::estimate(&registers);
        let (distinct_total, syns_total) = match asked.watched {
            Some(onset) => kept.sum_up(&registers, covered, onset, asked.anew),
            None => kept.remember(registers, covered, distinct),
        };
        let syns = covered;
        Ok(Some(SourcesObservation { syns, distinct, distinct_total, syns_total, sample, completed, completed_sample }))
    }

    /// Distinct sources of the last second or more of a slot in which there were any SYNs.
    pub fn distinct(&self, slot: u32) -> Option<f64> {
        self.slots.get(&slot)?.shown.distinct
    }

    /// A slot was freed.
    pub fn forget(&mut self, slot: u32) {
        self.slots.remove(&slot);
    }
}

impl Slot {
    /// Adds a reading to the sum; the answer is how many distinct sources it has, and of how many SYNs. What was summed
    /// up before `anew` is left out.
    fn sum_up(&mut self, registers: &Registers, syns: u64, onset: Duration, anew: Option<Duration>) -> (f64, u64) {
        self.total.take_if(|(.., from)| anew.is_some_and(|anew| anew > *from));
        let before = &mut self.before;
        let (total, covered, _) = self.total.get_or_insert_with(|| {
            let (mut total, mut covered) = (Box::<Registers>::default(), 0);
            for (registers, syns, _) in before.drain(..).filter(|(.., read_at)| *read_at > onset) {
                hll::merge(&mut total, &registers);
                covered += syns;
            }
            (total, covered, onset)
        });
        hll::merge(total, registers);
        *covered += syns;
        (hll::estimate(total), *covered)
    }

    fn remember(&mut self, registers: Box<Registers>, syns: u64, distinct: f64) -> (f64, u64) {
        if syns >= WORTH_KEEPING {
            self.before.truncate(KEPT - 1);
            self.before.push_front((registers, syns, self.read_at));
        }
        (distinct, syns)
    }
}

/// Distinct sources, some of them, and some of those that completed handshakes.
type Taken = (Box<Registers>, Vec<IpAddr>, Vec<IpAddr>);

/// Reads the sketches of a slot and sets them to zero. What comes in between the two is lost: a few microseconds'
/// worth, or a few milliseconds' in a flood that takes the CPU away just then.
fn take(maps: &mut Maps, slot: u32) -> Result<Taken, KernelError> {
    let registers = Box::new(maps.sources.lookup(slot)?);
    let sample = maps.source_samples.lookup(slot)?;
    let completed = maps.completed_samples.lookup(slot)?;
    clear(maps, slot)?;
    Ok((registers, addresses(&sample.sources), addresses(&completed.sources)))
}

/// Those of a sample that are taken.
fn addresses(sample: &[AddrWords]) -> Vec<IpAddr> {
    sample.iter().filter(|source| **source != [0; 2]).map(|source| address(hash::to_octets(*source))).collect()
}

/// Sets the sketches of a slot to zero.
pub fn clear(maps: &mut Maps, slot: u32) -> Result<(), KernelError> {
    maps.sources.update(slot, Registers::default())?;
    maps.source_samples.update(slot, SourceSample::default())?;
    maps.completed_samples.update(slot, CompletedSample::default())
}

/// An address as the kernel side has it.
pub fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// An address of the kernel side.
pub fn address(octets: [u8; 16]) -> IpAddr {
    let address = Ipv6Addr::from(octets);
    address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Registers of some sources that are in no other reading.
    fn registers(reading: u64, sources: u64) -> Registers {
        // SplitMix64: what follows has nothing to do with what was before.
        let hash = |number: u64| {
            let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let mut registers = Registers::default();
        for source in 1..=sources {
            registers.insert(hash(reading * 1_000_000 + source));
        }
        registers
    }

    #[test]
    fn however_often_it_is_read_what_is_shown_is_of_a_second_or_more() {
        // 3,000 new sources a second, read at all kinds of intervals.
        for interval in [100, 250, 400, 900] {
            let (mut shown, mut seen) = (Shown::default(), Vec::new());
            for reading in 0..60 {
                let (from, to) = (reading * interval, (reading + 1) * interval);
                let time = Duration::from_millis;
                shown.add(&registers(reading, 3 * interval), time(from), time(to));
                seen.extend(shown.distinct);
            }
            let longest = 1_000_u64.next_multiple_of(interval) * 3;
            #[expect(clippy::cast_precision_loss, reason = "a small figure")]
            let longest = longest as f64;
            assert!(seen.iter().all(|it| (it / longest - 1.0).abs() < 0.05), "{interval}: {seen:?}, not {longest}");
            assert!(seen.len() > 40, "{}", seen.len());
        }
    }

    #[test]
    fn a_lone_source_is_one_and_stays_shown_when_nothing_follows() {
        let mut shown = Shown::default();
        shown.add(&registers(1, 1), Duration::ZERO, Duration::from_millis(300));
        assert_eq!(shown.distinct, None, "the window has just begun");
        for seconds in 1..5 {
            shown.end(Duration::from_secs(seconds));
            assert_eq!(shown.distinct, Some(1.0));
        }
    }

    #[test]
    fn what_is_summed_up_anew_leaves_out_what_was_before() {
        let time = Duration::from_secs;
        let (shown, counted) = (Shown::default(), (0, 0));
        let mut slot = Slot { read_at: time(0), counted, shown, before: VecDeque::new(), total: None };
        let flood = slot.sum_up(&registers(1, 8_000), 8_000, time(1), None);
        let both = slot.sum_up(&registers(2, 8_000), 8_000, time(1), None);
        let scan = slot.sum_up(&registers(3, 1), 500, time(9), Some(time(9)));
        let more = slot.sum_up(&registers(3, 1), 500, time(9), Some(time(9)));
        assert!((7_600.0..8_400.0).contains(&flood.0) && (15_200.0..16_800.0).contains(&both.0), "{flood:?} {both:?}");
        assert_eq!((both.1, scan.0.round(), scan.1, more.0.round(), more.1), (16_000, 1.0, 500, 1.0, 1_000));
    }
}
