//! What is wrong with the daemon's view of the host: what it cannot see, or not in full.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tracker_common::counters::Loss;

use tracker_model::{
    api::{Health, MapFill, Unwatched},
    snapshot::Snapshot,
    text::listed,
};

/// A snapshot is taken every second; an older one than this means that reading the kernel's maps has stopped.
const SNAPSHOT_STALE_SECONDS: i64 = 10;
/// A census may be late by this many intervals.
const CENSUS_STALE_INTERVALS: f64 = 3.0;

/// What is wrong, worst first.
pub(super) fn problems(snapshot: &Snapshot, now: Timestamp) -> Vec<(Health, String)> {
    let mut problems = Vec::new();
    if snapshot.interfaces.is_empty() {
        problems.push((Health::Critical, "no interface is watched: packets and SYNs are not counted".to_owned()));
    }
    if snapshot.socket_events.is_empty() {
        let text = "no socket events: transitions, handshakes and connects are not counted";
        problems.push((Health::Critical, text.to_owned()));
    }
    problems.extend(stale(snapshot, now).map(|text| (Health::Critical, text)));
    problems.extend(missing(&snapshot.missing).map(|text| (Health::Warning, text)));
    problems.extend(snapshot.warnings.iter().map(|text| (Health::Warning, text.clone())));
    problems.extend(census_problem(snapshot, now).map(|text| (Health::Warning, text)));
    // A listener is counted from its second SYN on where many listen: that is how slots are given, and no fault.
    for loss in Loss::ALL.into_iter().filter(|loss| *loss != Loss::ListenerUncounted) {
        let lost = snapshot.losses[loss as usize];
        if lost > 0 {
            problems.push((Health::Warning, format!("{}: {lost} {}", loss.name(), loss.consequence())));
        }
    }
    let full = snapshot.maps.iter().filter(|map| map.entries >= map.capacity);
    problems.extend(full.map(|map| (Health::Warning, full_map(map))));
    problems
}

/// What is wrong when the figures are old.
#[must_use]
pub fn stale(snapshot: &Snapshot, now: Timestamp) -> Option<String> {
    let age = now.duration_since(snapshot.taken_at).as_secs();
    (age >= SNAPSHOT_STALE_SECONDS)
        .then(|| format!("the figures are {age} s old: the daemon no longer reads the kernel's maps"))
}

/// Interfaces that should be watched and are not. Those with the same reason are one line.
fn missing(interfaces: &[Unwatched]) -> impl Iterator<Item = String> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for interface in interfaces {
        reasons.entry(&interface.reason).or_default().push(&interface.name);
    }
    reasons.into_iter().map(|(reason, names)| {
        format!("{} {} not watched: {reason}", listed(&names), if names.len() == 1 { "is" } else { "are" })
    })
}

fn full_map(map: &MapFill) -> String {
    format!("{} is full ({} of {}): {}", map.name, map.entries, map.capacity, map.beyond().0)
}

fn census_problem(snapshot: &Snapshot, now: Timestamp) -> Option<String> {
    match (&snapshot.census_error, snapshot.census) {
        (Some(error), None) => Some(format!("the census failed: {error}; socket states and queues are unknown")),
        (Some(error), Some(census)) => Some(format!(
            "the last census failed: {error}; socket states and queues are those of {:.0}",
            census.taken_at
        )),
        (None, None) => Some("there was no census yet: socket states and queues are unknown".to_owned()),
        (None, Some(census)) => {
            let age = now.duration_since(census.taken_at).as_secs_f64();
            let limit = (census.interval_seconds * CENSUS_STALE_INTERVALS).max(15.0);
            (age > limit).then(|| format!("the last census is {age:.0} s old: socket states and queues are stale"))
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use tracker_fixtures as sample;
    use tracker_model::api::Status;

    use crate::view::{self, Daemon};

    /// The status of a changed snapshot, as it looks that number of seconds after it was taken.
    fn status(change: impl FnOnce(&mut Snapshot), seconds: i64) -> Status {
        let mut snapshot = sample::snapshot();
        change(&mut snapshot);
        let now = snapshot.taken_at + SignedDuration::from_secs(seconds);
        view::status(&snapshot, Daemon { version: "1.2.3", pid: 7 }, now)
    }

    fn unwatched(name: &str, reason: &str) -> Unwatched {
        Unwatched { name: name.to_owned(), reason: reason.to_owned() }
    }

    #[test]
    fn what_is_wrong_has_its_health_and_its_line() {
        type Change = fn(&mut Snapshot);
        let failed = "out of memory; socket states and queues are ";
        let cases: [(Change, Health, &str); 10] = [
            (|_| {}, Health::Ok, ""),
            (|it| it.interfaces.clear(), Health::Critical, "no interface is watched"),
            (|it| it.socket_events.clear(), Health::Critical, "no socket events"),
            (|it| it.warnings.push("the recording has ended".to_owned()), Health::Warning, "the recording has ended"),
            (|it| it.census_error = Some("out of memory".to_owned()), Health::Warning, failed),
            (
                |it| (it.census, it.census_error) = (None, Some("out of memory".to_owned())),
                Health::Warning,
                "the census failed: out of memory; socket states and queues are unknown",
            ),
            (|it| it.census = None, Health::Warning, "there was no census yet"),
            (|it| it.taken_at += SignedDuration::from_secs(60), Health::Warning, "the last census is 61 s old"),
            (
                |it| it.missing = vec![unwatched("eth1", "it is down")],
                Health::Warning,
                "eth1 is not watched: it is down",
            ),
            (
                |it| it.maps = vec![MapFill { name: "LOCAL_ADDRS".to_owned(), entries: 12, capacity: 10 }],
                Health::Warning,
                "LOCAL_ADDRS is full (12 of 10): SYNs to addresses beyond count as not_local",
            ),
        ];
        for (change, health, expected) in cases {
            let status = status(change, 0);
            assert_eq!(status.health, health, "{expected}");
            assert!(status.problems.concat().contains(expected), "{:?} has no {expected}", status.problems);
            assert_eq!(status.problems.len(), usize::from(health != Health::Ok), "{:?}", status.problems);
        }
        let old = status(|_| {}, 11);
        assert_eq!(old.health, Health::Critical);
        assert!(old.problems[0].starts_with("the figures are 11 s old"));
    }

    #[test]
    fn what_is_critical_comes_before_a_warning() {
        let both = status(|it| (it.losses[0] = 1, it.interfaces.clear()).1, 0);
        assert_eq!((both.health, both.problems.len()), (Health::Critical, 2));
        assert!(both.problems[0].starts_with("no interface is watched"));
    }

    #[test]
    fn each_loss_is_a_warning_that_names_the_lower_bound() {
        for loss in Loss::ALL.into_iter().filter(|loss| *loss != Loss::ListenerUncounted) {
            let status = status(|it| it.losses[loss as usize] = 3, 0);
            assert_eq!((status.health, status.losses[loss.name()]), (Health::Warning, 3));
            assert!(status.problems[0].starts_with(&format!("{}: 3 ", loss.name())), "{}", status.problems[0]);
        }
    }

    #[test]
    fn interfaces_that_are_not_watched_are_named_once_and_by_reason() {
        let refused = |count| (0..count).map(|number| unwatched(&format!("r{number}"), "refused"));
        let down = || [unwatched("eth1", "it is down")].into_iter();
        let few = status(|it| it.missing = down().chain([unwatched("lo", "refused")]).collect(), 0);
        assert_eq!(few.problems, ["eth1 is not watched: it is down", "lo is not watched: refused"]);
        let names: Vec<_> = few.unwatched.iter().map(|unwatched| unwatched.name.as_str()).collect();
        assert_eq!(names, ["eth1", "lo"], "though lo is among those that need not be watched too");
        let many = status(|it| it.missing = down().chain(refused(11)).collect(), 0);
        assert_eq!(many.problems[1], "r0, r1, r2, r3, r4, r5, r6, r7 and 3 more are not watched: refused");
    }
}
