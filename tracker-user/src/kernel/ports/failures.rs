//! Connects that got no port, as the socket events counted them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};
use tracker_common::{hash, names, ports::FailureKey};
use tracker_model::{ports::FailureSeen, snapshot::Process};

use crate::kernel::{
    error::KernelError,
    maps::{Maps, name_of},
    sources::address,
};

/// An entry is given up when nothing failed for so long: others need its place.
const FORGET: Duration = Duration::from_mins(30);

/// All of them, the latest first.
pub fn read(maps: &mut Maps, now: Timestamp) -> Result<Vec<FailureSeen>, KernelError> {
    let monotonic = monotonic();
    let keys: Vec<FailureKey> = maps.connect_failures.keys().filter_map(Result::ok).collect();
    let mut failures = Vec::with_capacity(keys.len());
    for key in keys {
        let Ok(failure) = maps.connect_failures.get(&key, 0) else { continue };
        let ago = |at: u64| Duration::from_nanos(monotonic.saturating_sub(at));
        if ago(failure.last) > FORGET {
            maps.connect_failures
                .remove(&key)
                .map_err(|source| KernelError::Map { name: names::CONNECT_FAILURES, source })?;
            continue;
        }
        let when = |at: u64| now - SignedDuration::try_from(ago(at)).unwrap_or_default();
        let source = address(hash::address(key.source));
        failures.push(FailureSeen {
            netns: key.netns,
            source: (!source.is_unspecified()).then_some(source),
            destination: address(hash::address(key.destination)),
            destination_port: key.port,
            process: Process { pid: key.pid, comm: name_of(&failure.comm) },
            cgroup: failure.cgroup,
            uid: failure.uid,
            count: failure.count,
            first: when(failure.first),
            last: when(failure.last),
        });
    }
    failures.sort_by_key(|failure| std::cmp::Reverse(failure.last));
    Ok(failures)
}

/// How many there are, of those that [`read`] gives.
pub fn count(maps: &Maps) -> u64 {
    maps.connect_failures.iter().filter_map(Result::ok).map(|(_, failure)| failure.count).sum()
}

/// `CLOCK_MONOTONIC`, nanoseconds, as `bpf_ktime_get_ns` has it.
fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}
