//! Sources of SYNs: reads the sketches of the kernel side, sets them back, and sums them up while a flood is watched.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use tracker_common::{
    hash,
    sources::{Registers, SourceSample},
};
use tracker_detect::{estimators::hll, syn::SourcesObservation};

use super::{error::KernelError, maps::Maps};

/// Between two readings of a listener that is not watched.
const PAUSE: Duration = Duration::from_secs(1);
/// Readings that are kept of a listener that is not watched: a flood begins a moment before it is suspected.
const KEPT: usize = 3;
/// A reading of fewer SYNs is not worth its 8 KiB.
const WORTH_KEEPING: u64 = 16;

/// What is kept of the sources of each slot.
#[derive(Default)]
pub struct Sources {
    slots: HashMap<u32, Slot>,
}

struct Slot {
    read_at: Duration,
    /// SYNs of the slot at the last reading.
    syns: u64,
    /// Distinct sources of the last reading that had any SYNs.
    distinct: Option<f64>,
    /// The last readings before the slot was watched: the SYNs of each, and when it was read.
    before: VecDeque<(Box<Registers>, u64, Duration)>,
    /// All readings since the slot is watched, and those kept from before.
    total: Option<(Box<Registers>, u64)>,
}

impl Sources {
    /// Sources of the SYNs of a slot since the last answer; none while there were none, or too soon after it. While it
    /// is `watched`, for what began then, every call is answered. Times are on one clock.
    pub fn read(
        &mut self,
        maps: &mut Maps,
        slot: u32,
        syns: u64,
        at: Duration,
        watched: Option<Duration>,
    ) -> Result<Option<SourcesObservation>, KernelError> {
        let kept = self.slots.entry(slot).or_insert_with(|| Slot {
            read_at: at,
            syns: 0,
            distinct: None,
            before: VecDeque::new(),
            total: None,
        });
        if syns < kept.syns {
            // The slot was given to another listener.
            (kept.syns, kept.distinct, kept.total) = (0, None, None);
            kept.before.clear();
        }
        if watched.is_none() {
            kept.total = None;
        }
        if syns == kept.syns || (watched.is_none() && at.saturating_sub(kept.read_at) < PAUSE && kept.syns != 0) {
            return Ok(None);
        }
        let (registers, sample) = take(maps, slot)?;
        let covered = syns - kept.syns;
        (kept.read_at, kept.syns) = (at, syns);
        let distinct = hll::estimate(&registers);
        kept.distinct = Some(distinct);
        let (distinct_total, syns_total) = match watched {
            Some(onset) => kept.sum_up(&registers, covered, onset),
            None => kept.remember(registers, covered, distinct),
        };
        Ok(Some(SourcesObservation { syns: covered, distinct, distinct_total, syns_total, sample }))
    }

    /// Distinct sources of the last reading of a slot that had any SYNs.
    pub fn distinct(&self, slot: u32) -> Option<f64> {
        self.slots.get(&slot)?.distinct
    }

    /// A slot was freed.
    pub fn forget(&mut self, slot: u32) {
        self.slots.remove(&slot);
    }
}

impl Slot {
    /// Adds a reading to the sum; the answer is how many distinct sources it has, and of how many SYNs.
    fn sum_up(&mut self, registers: &Registers, syns: u64, onset: Duration) -> (f64, u64) {
        let before = &mut self.before;
        let (total, covered) = self.total.get_or_insert_with(|| {
            let (mut total, mut covered) = (Box::<Registers>::default(), 0);
            for (registers, syns, _) in before.drain(..).filter(|(.., read_at)| *read_at > onset) {
                hll::merge(&mut total, &registers);
                covered += syns;
            }
            (total, covered)
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

/// Reads the sketches of a slot and sets them to zero. What comes in between the two is lost: a few microseconds'
/// worth, or a few milliseconds' in a flood that takes the CPU away just then.
fn take(maps: &mut Maps, slot: u32) -> Result<(Box<Registers>, Vec<IpAddr>), KernelError> {
    let registers = Box::new(maps.sources.lookup(slot)?);
    let sample = maps.source_samples.lookup(slot)?;
    clear(maps, slot)?;
    let sample = sample
        .sources
        .into_iter()
        .filter(|source| *source != [0; 2])
        .map(|source| address(hash::to_octets(source)))
        .collect();
    Ok((registers, sample))
}

/// Sets the sketches of a slot to zero.
pub fn clear(maps: &mut Maps, slot: u32) -> Result<(), KernelError> {
    maps.sources.update(slot, Registers::default())?;
    maps.source_samples.update(slot, SourceSample::default())
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
