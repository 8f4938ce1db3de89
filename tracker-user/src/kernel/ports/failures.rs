//! Connects that got no port, as the socket events counted them.

use std::{cmp::Reverse, collections::BTreeSet, time::Duration};

use aya::Pod;
use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};
use tracker_common::{
    hash, limits,
    own_ranges::ends,
    ports::{Failure, FailureKey},
};
use tracker_model::{
    api::{PortFailure, PortRange},
    process::Process,
};

use crate::kernel::{
    error::KernelError,
    maps::{HashMap, Maps, name_of},
    sources::address,
};

/// An entry is removed when no call failed for this time: others need its place.
const FORGET: Duration = Duration::from_mins(30);
/// The time when the table fills, as with processes that make one call each.
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

    /// Whether an entry is too old to be kept in a table that holds `entries` of `capacity`.
    pub fn is_forgotten(&self, nanoseconds: u64, entries: usize, capacity: u32) -> bool {
        let fills = entries > capacity as usize / 4 * 3;
        self.ago(nanoseconds) > if fills { FORGET_SOON } else { FORGET }
    }

    /// How long ago that is.
    pub fn ago(&self, nanoseconds: u64) -> Duration {
        self.monotonic.saturating_sub(Duration::from_nanos(nanoseconds))
    }
}

/// Connects that got no port, the latest first.
pub fn read(maps: &mut Maps) -> Result<Vec<PortFailure>, KernelError> {
    let clock = Clock::now();
    let failures = table(&mut maps.connect_failures, limits::CONNECT_FAILURES, &clock)?;
    let seen = |(key, failure): (FailureKey, Failure)| {
        let (source, (low, high)) = (address(hash::to_octets(key.source)), ends(key.range));
        PortFailure {
            netns: key.netns,
            source: (!source.is_unspecified()).then_some(source),
            local_port_range: (key.range != 0).then_some(PortRange { low, high }),
            source_port: (key.bound != 0).then_some(u16::try_from(failure.source_port).unwrap_or_default()),
            destination: address(hash::to_octets(key.destination)),
            destination_port: key.port,
            process: Process { pid: key.pid, comm: name_of(&failure.comm) },
            cgroup: failure.cgroup,
            uid: failure.uid,
            count: failure.count,
            first: clock.when(failure.first),
            last: clock.when(failure.last),
        }
    };
    Ok(failures.into_iter().map(seen).collect())
}

/// The rows of a table of failed calls, the latest first. Those that are too old are removed from it.
pub fn table<K: Pod>(
    table: &mut HashMap<K, Failure>,
    capacity: u32,
    clock: &Clock,
) -> Result<Vec<(K, Failure)>, KernelError> {
    let rows: Vec<(K, Failure)> = table.entries().collect();
    let entries = rows.len();
    let (old, mut rows): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(_, failure)| clock.is_forgotten(failure.last, entries, capacity));
    for (key, _) in old {
        table.delete(&key)?;
    }
    rows.sort_by_key(|(_, failure)| Reverse(failure.last));
    Ok(rows)
}

/// How many calls failed, of those in a table.
pub fn count<K: Pod>(table: &HashMap<K, Failure>) -> u64 {
    table.entries().map(|(_, failure)| failure.count).sum()
}

/// Removes the failed calls of network namespaces that are gone, those of `bind()` too: `alive` are those that existed
/// `ago`.
pub fn forget(maps: &mut Maps, alive: &BTreeSet<u32>, ago: Duration) -> Result<(), KernelError> {
    let clock = Clock::now();
    let is_gone = |netns: u32, failure: &Failure| !alive.contains(&netns) && clock.ago(failure.last) > ago;
    maps.connect_failures.delete_where(|key, failure| is_gone(key.netns, failure))?;
    maps.bind_failures.delete_where(|key, failure| is_gone(key.netns, failure))
}
