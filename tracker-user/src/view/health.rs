//! What is wrong with the daemon's view of the host: what it cannot see, or not in full.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tracker_common::{counters::Loss, names};

use tracker_model::{
    api::{Health, MapFill, Unwatched},
    snapshot::Snapshot,
};

/// A snapshot is taken every second; an older one than this means that reading the kernel's maps has stopped.
const SNAPSHOT_STALE_SECONDS: i64 = 10;
/// A census may be late by this many intervals.
const CENSUS_STALE_INTERVALS: f64 = 3.0;

/// Interfaces that are named when many cannot be watched for one reason.
const NAMED: usize = 8;

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
    let age = now.duration_since(snapshot.taken_at).as_secs();
    if age > SNAPSHOT_STALE_SECONDS {
        problems.push((
            Health::Critical,
            format!("the figures are {age} s old: the daemon no longer reads the kernel's maps"),
        ));
    }
    problems.extend(missing(&snapshot.missing).map(|text| (Health::Warning, text)));
    if snapshot.unjudged > 0 {
        let text = format!(
            "listeners without a slot of their own: {}; floods of SYNs to them are not called until others close",
            snapshot.unjudged
        );
        problems.push((Health::Warning, text));
    }
    problems.extend(snapshot.warnings.iter().map(|text| (Health::Warning, text.clone())));
    problems.extend(census_problem(snapshot, now).map(|text| (Health::Warning, text)));
    for loss in Loss::ALL {
        let lost = snapshot.losses[loss as usize];
        if lost > 0 {
            problems.push((Health::Warning, format!("{}: {lost} {}", loss.name(), loss.consequence())));
        }
    }
    let full = snapshot.maps.iter().filter(|map| map.entries >= map.capacity);
    problems.extend(full.map(|map| (Health::Warning, full_map(map))));
    problems
}

/// Interfaces that should be watched and are not. Those with the same reason are one line.
fn missing(interfaces: &[Unwatched]) -> impl Iterator<Item = String> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for interface in interfaces {
        reasons.entry(&interface.reason).or_default().push(&interface.name);
    }
    reasons.into_iter().map(|(reason, names)| match names.len() {
        1 => format!("{} is not watched: {reason}", names[0]),
        count if count <= NAMED => format!("{} are not watched: {reason}", names.join(", ")),
        count => format!("{} and {} more are not watched: {reason}", names[..NAMED].join(", "), count - NAMED),
    })
}

fn full_map(map: &MapFill) -> String {
    let MapFill { name, entries, capacity } = map;
    let meaning = match name.as_str() {
        names::LISTENERS => "listeners beyond are not known: SYNs to them count as meeting none",
        names::LISTENER_COUNTERS => "listeners beyond share one slot: they have no SYNs and handshakes of their own",
        names::INTERFACE_COUNTERS => "interfaces beyond share one slot: they count in the interface `other`",
        names::LOCAL_ADDRESSES | names::LOCAL_PREFIXES => "SYNs to addresses beyond count as not_local",
        names::TIMED => "lifetimes of connections beyond are not measured",
        _ => "what is beyond is not kept",
    };
    format!("{name} is full ({entries} of {capacity}): {meaning}")
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
    use super::*;
    use tracker_fixtures as sample;
    use tracker_model::api::Status;

    use crate::view::{self, Daemon};

    const DAEMON: Daemon<'static> = Daemon { version: "1.2.3", pid: 7 };

    fn of(snapshot: &Snapshot) -> Status {
        view::status(snapshot, DAEMON, snapshot.taken_at)
    }

    #[test]
    fn each_loss_is_a_warning_that_names_the_lower_bound() {
        for loss in Loss::ALL {
            let mut snapshot = sample::snapshot();
            snapshot.losses[loss as usize] = 3;
            let status = of(&snapshot);
            assert_eq!(status.health, Health::Warning);
            assert_eq!(status.losses[loss.name()], 3);
            assert!(status.problems[0].starts_with(&format!("{}: 3 ", loss.name())), "{}", status.problems[0]);
        }
    }

    #[test]
    fn an_interface_that_should_be_watched_and_is_not_is_a_warning() {
        let unwatched = |name: &str, reason: &str| Unwatched { name: name.to_owned(), reason: reason.to_owned() };
        let mut snapshot = sample::snapshot();
        snapshot.missing = vec![unwatched("eth1", "it is down"), unwatched("lo", "refused")];
        let status = of(&snapshot);
        assert_eq!(status.health, Health::Warning);
        assert_eq!(status.problems, ["eth1 is not watched: it is down", "lo is not watched: refused"]);
        assert_eq!(status.unwatched, snapshot.missing, "each name once");
        snapshot.missing.pop();
        snapshot.missing.extend((0..11).map(|number| unwatched(&format!("r{number}"), "refused")));
        let refused = "r0, r1, r2, r3, r4, r5, r6, r7 and 3 more are not watched: refused";
        assert_eq!(of(&snapshot).problems, ["eth1 is not watched: it is down", refused]);
        snapshot.missing.truncate(1);
        let names: Vec<_> = of(&snapshot).unwatched.into_iter().map(|unwatched| unwatched.name).collect();
        assert_eq!(names, ["eth1", "lo"]);
    }

    #[test]
    fn what_is_wrong_with_the_daemon_itself_is_a_warning() {
        let snapshot = Snapshot { warnings: vec!["the recording has ended".to_owned()], ..sample::snapshot() };
        let status = of(&snapshot);
        assert_eq!((status.health, status.problems), (Health::Warning, snapshot.warnings));
    }

    #[test]
    fn listeners_that_are_not_judged_are_a_warning() {
        let mut snapshot = sample::snapshot();
        snapshot.unjudged = 3;
        let problems = of(&snapshot).problems;
        assert!(problems[0].starts_with("listeners without a slot of their own: 3; "), "{problems:?}");
    }

    #[test]
    fn a_full_map_is_a_warning_that_tells_what_it_means() {
        let problems = |name: &str, entries| {
            let mut snapshot = sample::snapshot();
            snapshot.maps = vec![MapFill { name: name.to_owned(), entries, capacity: 10 }];
            let status = of(&snapshot);
            assert_eq!(status.health == Health::Warning, !status.problems.is_empty());
            status.problems.concat()
        };
        assert_eq!(problems("LOCAL_ADDRS", 9), "");
        assert_eq!(
            problems("LOCAL_ADDRS", 12),
            "LOCAL_ADDRS is full (12 of 10): SYNs to addresses beyond count as not_local"
        );
        for (name, meaning) in [
            ("LISTENERS", "are not known"),
            ("LISTENER_CTRS", "listeners beyond share one slot"),
            ("LOCAL_PREFIXES", "count as not_local"),
            ("TIMED", "are not measured"),
            ("INTERFACE_CTRS", "interfaces beyond share one slot"),
        ] {
            let problem = problems(name, 10);
            assert!(problem.starts_with(&format!("{name} is full (10 of 10): ")) && problem.contains(meaning));
        }
    }

    #[test]
    fn a_census_that_failed_or_is_late_is_a_warning() {
        let mut snapshot = sample::snapshot();
        snapshot.census_error = Some("out of memory".to_owned());
        let status = of(&snapshot);
        assert_eq!(status.health, Health::Warning);
        assert!(status.problems[0].contains("out of memory; socket states and queues are those of 2027-"));
        snapshot.census = None;
        assert!(of(&snapshot).problems[0].ends_with("out of memory; socket states and queues are unknown"));
        snapshot.census_error = None;
        assert!(of(&snapshot).problems[0].starts_with("there was no census yet"));

        let mut late = sample::snapshot();
        late.taken_at += jiff::SignedDuration::from_secs(60);
        assert!(of(&late).problems[0].starts_with("the last census is 61 s old"));
    }

    #[test]
    fn a_missing_source_is_critical_and_outweighs_a_warning() {
        let mut snapshot = sample::snapshot();
        snapshot.losses[0] = 1;
        snapshot.interfaces.clear();
        let status = of(&snapshot);
        assert_eq!((status.health, status.problems.len()), (Health::Critical, 2));
        assert!(status.problems[0].starts_with("no interface is watched"));

        let mut snapshot = sample::snapshot();
        snapshot.socket_events.clear();
        let status = of(&snapshot);
        assert_eq!((status.health, status.socket_events.as_str()), (Health::Critical, "none"));
    }

    #[test]
    fn figures_that_are_no_longer_read_are_critical() {
        let snapshot = sample::snapshot();
        let now = snapshot.taken_at + jiff::SignedDuration::from_secs(11);
        let status = view::status(&snapshot, DAEMON, now);
        assert_eq!(status.health, Health::Critical);
        assert!(status.problems[0].starts_with("the figures are 11 s old"));
    }
}
