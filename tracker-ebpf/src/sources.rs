//! Sources of SYNs, in sketches of fixed size: how many, and a random sample of which.

use aya_ebpf::{macros::map, maps::Array};
use tracker_common::{
    hash::{self, Halves},
    limits,
    sources::{HalfOpenSource, Registers, SourceSample},
};

use crate::fields::HASH_KEY;

#[map]
static SOURCES: Array<Registers> = Array::with_max_entries(limits::SLOTS, 0);

#[map]
static SOURCE_SAMPLES: Array<SourceSample> = Array::with_max_entries(limits::SLOTS, 0);

/// `BPF_F_MMAPABLE`: the daemon looks through it after each census that met a half-open request.
const MMAPABLE: u32 = 1 << 10;

#[map]
static HALF_OPEN_SRCS: Array<HalfOpenSource> = Array::with_max_entries(limits::HALF_OPEN_SOURCES, MMAPABLE);

/// Takes in the source of a SYN, whose hash is `hash`. Under load only one in `mask` + 1 goes into the sample.
/// `number` is that of the SYN among those of this CPU.
///
/// Two CPUs may write one register or one entry at a time: then one of two ranks is kept, which the next SYN of that
/// rank mends, or an entry holds half of two addresses, which is one of 256.
#[inline(always)]
pub(crate) fn seen(slot: u32, source: Halves, hash: u64, number: u64, mask: u32) {
    if let Some(registers) = SOURCES.get_ptr_mut(slot) {
        // SAFETY: bytes in a map; see above.
        unsafe { (*registers).insert(hash) };
    }
    let place = hash::spread(hash, number);
    if (place >> 16) & mask != 0 {
        return;
    }
    if let Some(sample) = SOURCE_SAMPLES.get_ptr_mut(slot) {
        // SAFETY: as above.
        let sources = unsafe { &mut (*sample).sources };
        if let Some(entry) = sources.get_mut(place as usize & (limits::SOURCE_SAMPLE - 1)) {
            *entry = source;
        }
    }
}

/// The census met a half-open request from `source` to the listener of `slot`. False when there is no place for another
/// source. One census runs at a time, and it alone writes here.
#[inline(always)]
pub(crate) fn half_open(slot: u32, source: &[u8; 16], generation: u32) -> bool {
    let hash = hash::source(HASH_KEY.load() ^ u64::from(slot), hash::halves(source)) as u32;
    for i in 0..limits::HALF_OPEN_TRIES {
        let index = hash.wrapping_add(i) & (limits::HALF_OPEN_SOURCES - 1);
        let Some(entry) = HALF_OPEN_SRCS.get_ptr_mut(index) else { return false };
        // SAFETY: an entry of a map.
        let entry = unsafe { &mut *entry };
        if entry.generation != generation {
            *entry = HalfOpenSource { address: *source, generation, slot, count: 1, padding: 0 };
            return true;
        }
        if entry.slot == slot && entry.address == *source {
            entry.count += 1;
            return true;
        }
    }
    false
}
