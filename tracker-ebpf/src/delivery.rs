//! SYNs on their way from a packet program to TCP: where they were sent to, and where TCP looks for their listener.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{bindings::BPF_F_MMAPABLE, helpers::generated::bpf_get_prandom_u32, macros::map, maps::Array};
use tracker_common::{
    delivery::{self, SynOrigin, Target},
    hash::AddrWords,
    limits, ports,
};

use crate::{
    atomic::{self, MINUS_ONE},
    fields::SCATTER,
    flows, listener_counters, sources,
};

#[map]
static SYN_ORIGINS: Array<u64> = Array::with_max_entries(limits::SYN_ORIGINS, 0);

/// The daemon looks through all ports each second, hence mapped.
#[map]
static CLOSED_DELIVERED: Array<u64> = Array::with_max_entries(ports::PORTS as u32, BPF_F_MMAPABLE);

#[map]
static CLOSED_DIVERTED: Array<u64> = Array::with_max_entries(ports::PORTS as u32, BPF_F_MMAPABLE);

#[map]
static DIVERTED_FROM: Array<u32> = Array::with_max_entries(limits::LISTENERS + 1, 0);

/// Notes where a SYN was sent to; `source` is the hash of its source address.
#[inline(always)]
pub(crate) fn received(source: u64, source_port: u16, target: Target) {
    let hash = delivery::hash(source, source_port);
    note(delivery::hash_to(hash, target), target);
    note(hash, target);
}

/// Notes a SYN that was just received. Whichever SYN comes last has the place.
#[inline(always)]
fn note(hash: u64, target: Target) {
    if let Some(origin) = SYN_ORIGINS.get_ptr_mut(delivery::index(hash)) {
        // SAFETY: an aligned number in a map, written at once.
        unsafe { write_volatile(origin, SynOrigin::received(hash, target).to_bits()) };
    }
}

/// The SYN of this hash and where it stands, if it still stands there.
#[inline(always)]
fn find(hash: u64) -> Option<(*mut u64, SynOrigin)> {
    let origin = SYN_ORIGINS.get_ptr_mut(delivery::index(hash))?;
    // SAFETY: an aligned number in a map, read at once.
    let syn = SynOrigin::from_bits(unsafe { read_volatile(origin) });
    syn.is_of(hash).then_some((origin, syn))
}

/// TCP looks for a listener at `place`, for a packet of this source, whose hash is `source`. It is a SYN's first
/// lookup, or another one: by a rule for transparent proxies before that of TCP, or for the ACK that returns a cookie.
#[inline(always)]
pub(crate) fn looked_up(address: AddrWords, source: u64, source_port: u16, place: Target) {
    if SCATTER.load() != 0 {
        // A benchmark runs this many times for one SYN, each time as if it had just been received.
        note(delivery::hash_to(delivery::hash(source, source_port), place), place);
    }
    let hash = delivery::hash(source, source_port);
    let any = find(hash);
    if let Some((origin, syn)) = find(delivery::hash_to(hash, place)) {
        if syn.delivered().is_some() {
            return;
        }
        deliver(origin, syn, place);
        if let Some((origin, syn)) = any
            && syn.target() == place
        {
            // SAFETY: the place that was found; a SYN that came there meanwhile on another CPU is lost to it.
            unsafe { write_volatile(origin, syn.delivered_to(place).to_bits()) };
        }
    } else if let Some((origin, syn)) = any {
        match syn.delivered() {
            // A rule looked for a listener where the SYN was sent to, found none, and TCP now has another.
            Some(before) if before.port().is_some() && place.slot().is_some() => {
                count(syn.target(), before, MINUS_ONE);
            }
            // What comes when it was delivered is no SYN, or is one for nobody to take away from its listener.
            Some(_) => return,
            None => {}
        }
        deliver(origin, syn, place);
    } else {
        return;
    }
    note_source(address, source, place);
}

/// A SYN was delivered to `place`.
#[inline(always)]
fn deliver(origin: *mut u64, syn: SynOrigin, place: Target) {
    // SAFETY: a place that was found; a SYN that came there meanwhile on another CPU is lost to it.
    unsafe { write_volatile(origin, syn.delivered_to(place).to_bits()) };
    count(syn.target(), place, 1);
}

/// Notes the source of a SYN with the listener that it reached, or with the ports that have none.
#[inline(always)]
fn note_source(address: AddrWords, source: u64, place: Target) {
    let slot = match place.slot() {
        Some(slot) => slot,
        None => limits::NO_LISTENER_SLOT,
    };
    // SAFETY: a helper without arguments.
    let number = unsafe { bpf_get_prandom_u32() };
    sources::seen(slot, address, source, number.into(), flows::sampling().mask);
}

/// Where TCP last looked for the listener of this source's SYN; none when that is not known (any more).
#[inline(always)]
pub(crate) fn place(source: u64, source_port: u16) -> Option<Target> {
    let (_, syn) = find(delivery::hash(source, source_port))?;
    syn.delivered()
}

/// Counts, or with minus one takes back, a SYN sent to `target` that TCP looked up at `place`.
#[inline(always)]
fn count(target: Target, place: Target, by: u64) {
    let here = target == place;
    if let Some(slot) = target.slot() {
        listener_counters::delivered(slot, here, by);
    } else if let Some(port) = target.port()
        && !here
    {
        add(&CLOSED_DIVERTED, port, by);
    }
    if let Some(port) = place.port() {
        add(&CLOSED_DELIVERED, port, by);
    } else if let Some(slot) = place.slot()
        && !here
    {
        listener_counters::diverted_here(slot, by);
        if let Some(from) = DIVERTED_FROM.get_ptr_mut(slot) {
            // SAFETY: an aligned number in a map; the last one stays.
            unsafe { write_volatile(from, target.to_number()) };
        }
    }
}

#[inline(always)]
fn add(counters: &Array<u64>, port: u16, by: u64) {
    if let Some(counter) = counters.get_ptr_mut(u32::from(port)) {
        // SAFETY: an aligned u64 in a map.
        unsafe { atomic::add(counter, by) };
    }
}
