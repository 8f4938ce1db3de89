//! The TCP counters of the namespace over the last seconds.

use std::{collections::VecDeque, time::Duration};

use tracker_model::counters::NamespaceCounters;

/// Readings kept: a minute or so of them, also while there are eight a second.
const READINGS: usize = 512;

/// Readings of the counters.
#[derive(Debug, Default)]
pub struct NamespaceHistory {
    readings: VecDeque<(Duration, NamespaceCounters)>,
}

impl NamespaceHistory {
    /// Adds a reading, if there is one.
    pub fn push(&mut self, at: Duration, counters: Option<NamespaceCounters>) {
        let Some(counters) = counters else { return };
        if self.readings.len() == READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back((at, counters));
    }

    /// The last reading.
    pub fn last(&self) -> Option<NamespaceCounters> {
        self.readings.back().map(|(_, counters)| *counters)
    }

    /// The last reading at or before `at`, or else the first.
    pub fn before(&self, at: Duration) -> Option<NamespaceCounters> {
        let index = self.readings.partition_point(|(reading, _)| *reading <= at);
        self.readings.get(index.saturating_sub(1)).map(|(_, counters)| *counters)
    }

    /// Connections turned away since then because an accept queue was full; none when it is not known.
    pub fn overflows_since(&self, at: Duration) -> Option<u64> {
        Some(self.last()?.listen_overflows.saturating_sub(self.before(at)?.listen_overflows))
    }
}
