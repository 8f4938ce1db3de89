//! Half-open requests by source, as the last census met them.

use std::{cmp::Reverse, collections::HashMap};

use tracker_model::api::SourceCount;

use super::{maps::Maps, sources::address};

/// Sources of a listener that are named.
const TOP: usize = 10;

/// Half-open requests by slot of the listener, most first.
#[derive(Default)]
pub struct HalfOpen {
    slots: HashMap<u32, Vec<SourceCount>>,
}

impl HalfOpen {
    /// Takes over what the census of this number has met; `requests` in all.
    pub fn read(&mut self, maps: &Maps, generation: u32, requests: u64) {
        self.slots.clear();
        if requests == 0 {
            return;
        }
        for entry in maps.half_open_sources.read().filter(|entry| entry.generation == generation) {
            let source = SourceCount { source: address(entry.address), count: entry.count };
            self.slots.entry(entry.slot).or_default().push(source);
        }
        for sources in self.slots.values_mut() {
            sources.sort_unstable_by_key(|source| (Reverse(source.count), source.source));
            sources.truncate(TOP);
            sources.shrink_to_fit();
        }
    }

    /// Those of a listener.
    pub fn of_slot(&self, slot: u32) -> Vec<SourceCount> {
        self.slots.get(&slot).cloned().unwrap_or_default()
    }
}
