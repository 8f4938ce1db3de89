//! Sources of SYNs, in sketches of fixed size: how many, and a random sample of which.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, helpers::bpf_get_prandom_u32, macros::map, maps::Array};
use tracker_common::{
    hash::{self, AddrWords},
    limits,
    sources::{self, CompletedSample, HalfOpenSource, Registers, SourceSample},
};

use crate::fields::HASH_KEY;

#[map]
static SOURCES: Array<Registers> = Array::with_max_entries(limits::SLOTS, 0);

#[map]
static SOURCE_SAMPLES: Array<SourceSample> = Array::with_max_entries(limits::SLOTS, 0);

#[map]
static COMPLETED: Array<CompletedSample> = Array::with_max_entries(limits::SLOTS, 0);

/// The daemon looks through it after each census that found a half-open request, hence mapped.
#[map]
static HALF_OPEN_SRCS: Array<HalfOpenSource> = Array::with_max_entries(limits::HALF_OPEN_SOURCES, BPF_F_MMAPABLE);

/// Adds the source of a SYN, whose hash is `hash`. Under load only one in `mask` + 1 goes into the sample. `number` is
/// that of the SYN among those of this CPU.
///
/// Two CPUs may write one register or one entry at a time: then one of two ranks is kept, which the next SYN of that
/// rank corrects, or an entry holds half of two addresses, which is one entry of 256.
#[inline(always)]
pub(crate) fn seen(slot: u32, source: AddrWords, hash: u64, number: u64, mask: u32) {
    if let Some(registers) = SOURCES.get_ptr_mut(slot) {
        let (index, rank) = sources::register(hash);
        // SAFETY: in bounds of an entry of a map. No reference is made, as other CPUs write it too.
        unsafe {
            let register = registers.cast::<u8>().add(index);
            if *register < rank {
                *register = rank;
            }
        }
    }
    let place = hash::scramble(hash, number);
    if (place >> 16) & mask != 0 {
        return;
    }
    if let Some(sample) = SOURCE_SAMPLES.get_ptr_mut(slot) {
        // SAFETY: in bounds of an entry of a map. No reference is made, as other CPUs write it too.
        unsafe { *sample.cast::<AddrWords>().add(place as usize & (limits::SOURCE_SAMPLE - 1)) = source };
    }
}

/// Adds the source of a handshake that was completed, at a place that nobody can foresee. As above, two CPUs may write
/// one entry at a time.
#[inline(always)]
pub(crate) fn completed(slot: u32, source: AddrWords) {
    if let Some(sample) = COMPLETED.get_ptr_mut(slot) {
        // SAFETY: the helper has no conditions.
        let place = unsafe { bpf_get_prandom_u32() } as usize & (limits::COMPLETED_SAMPLE - 1);
        // SAFETY: in bounds of an entry of a map. No reference is made, as other CPUs write it too.
        unsafe { *sample.cast::<AddrWords>().add(place) = source };
    }
}

/// Counts a half-open request from `source` to the listener of `slot`, for the census. False when there is no place for
/// another source.
#[inline(always)]
pub(crate) fn half_open(slot: u32, source: AddrWords, generation: u32) -> bool {
    let hash = hash::source(HASH_KEY.load() ^ u64::from(slot), source) as u32;
    let address = hash::to_octets(source);
    for i in 0..limits::HALF_OPEN_TRIES {
        let index = hash.wrapping_add(i) & (limits::HALF_OPEN_SOURCES - 1);
        let Some(entry) = HALF_OPEN_SRCS.get_ptr_mut(index) else { return false };
        // SAFETY: an entry of a map; one census runs at a time, and it alone writes here.
        let entry = unsafe { &mut *entry };
        if entry.generation != generation {
            *entry = HalfOpenSource { address, generation, slot, count: 1, padding: 0 };
            return true;
        }
        if entry.slot == slot && entry.address == address {
            entry.count += 1;
            return true;
        }
    }
    false
}
