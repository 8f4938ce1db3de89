//! Connects that got no port, as the socket events counted them.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};
use tracker_common::{
    hash, limits,
    ports::{Failure, FailureKey},
};
use tracker_model::{ports::FailureSeen, snapshot::Process};

use crate::kernel::{
    error::KernelError,
    maps::{Maps, name_of},
    sources::address,
};

/// An entry is given up when nothing failed for so long: others need its place.
const FORGET: Duration = Duration::from_mins(30);
/// The same when the table fills, as with processes that make one call each.
const FORGET_SOON: Duration = Duration::from_secs(70);

/// Times of the kernel side as times of day.
#[derive(Clone, Copy)]
pub struct Clock {
    wall: Timestamp,
    /// `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns` has it.
    monotonic: Duration,
}

impl Clock {
    /// At this moment: both clocks are read at once.
    pub fn now() -> Self {
        Self {
            wall: Timestamp::now(),
            monotonic: clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default(),
        }
    }

    /// When that was.
    pub fn when(&self, nanoseconds: u64) -> Timestamp {
        self.wall - SignedDuration::try_from(self.ago(nanoseconds)).unwrap_or_default()
    }

    /// Whether it is so long ago that the entry is given up, of a table that holds `entries` of `capacity`.
    pub fn is_forgotten(&self, nanoseconds: u64, entries: usize, capacity: u32) -> bool {
        let fills = entries > capacity as usize / 4 * 3;
        self.ago(nanoseconds) > if fills { FORGET_SOON } else { FORGET }
    }

    /// How long ago that is.
    pub fn ago(&self, nanoseconds: u64) -> Duration {
        self.monotonic.saturating_sub(Duration::from_nanos(nanoseconds))
    }
}

/// All of them, the latest first.
pub fn read(maps: &mut Maps) -> Result<Vec<FailureSeen>, KernelError> {
    let clock = Clock::now();
    let keys: Vec<FailureKey> = maps.connect_failures.entries().map(|(key, _)| key).collect();
    let (mut failures, entries) = (Vec::with_capacity(keys.len()), keys.len());
    for key in keys {
        let Ok(Some(failure)) = maps.connect_failures.lookup(&key) else { continue };
        if clock.is_forgotten(failure.last, entries, limits::CONNECT_FAILURES) {
            maps.connect_failures.delete(&key)?;
            continue;
        }
        let source = address(hash::to_octets(key.source));
        failures.push(FailureSeen {
            netns: key.netns,
            source: (!source.is_unspecified()).then_some(source),
            source_port: (key.bound != 0).then_some(u16::try_from(failure.source_port).unwrap_or_default()),
            destination: address(hash::to_octets(key.destination)),
            destination_port: key.port,
            process: Process { pid: key.pid, comm: name_of(&failure.comm) },
            cgroup: failure.cgroup,
            uid: failure.uid,
            count: failure.count,
            first: clock.when(failure.first),
            last: clock.when(failure.last),
        });
    }
    failures.sort_by_key(|failure| Reverse(failure.last));
    Ok(failures)
}

/// How many there are, of those that [`read`] gives.
pub fn count(maps: &Maps) -> u64 {
    maps.connect_failures.entries().map(|(_, failure)| failure.count).sum()
}

/// Removes the failed calls of network namespaces that are gone, those of `bind()` too: `alive` are those that were there so
/// long ago.
pub fn forget(maps: &mut Maps, alive: &BTreeSet<u32>, ago: Duration) -> Result<(), KernelError> {
    let clock = Clock::now();
    let is_gone = |netns: u32, failure: &Failure| !alive.contains(&netns) && clock.ago(failure.last) > ago;
    maps.connect_failures.delete_where(|key, failure| is_gone(key.netns, failure))?;
    maps.bind_failures.delete_where(|key, failure| is_gone(key.netns, failure))
}
