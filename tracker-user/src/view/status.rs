//! The answer of `tracker status`: what is watched, and how far the figures can be trusted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tracker_common::counters::Loss;

use super::{alerts::firing, health::problems};
use tracker_model::{
    api::{Health, Status, Unwatched},
    counters::NamespaceCounters,
    snapshot::Snapshot,
};

/// What the daemon knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Daemon<'a> {
    /// Its version.
    pub version: &'a str,
    /// Its process id.
    pub pid: u32,
}

/// The answer of `GET /v1/status`.
#[must_use]
pub fn status(snapshot: &Snapshot, daemon: Daemon<'_>, now: Timestamp) -> Status {
    let problems = problems(snapshot, now);
    Status {
        version: daemon.version.to_owned(),
        pid: daemon.pid,
        started_at: snapshot.started_at,
        taken_at: snapshot.taken_at,
        netns: snapshot.netns,
        health: problems.iter().map(|(health, _)| *health).max().unwrap_or(Health::Ok),
        problems: problems.into_iter().map(|(_, text)| text).collect(),
        unavailable: unavailable(snapshot),
        alerts: firing(&snapshot.alerts),
        tcp_counters: snapshot.tcp_counters.as_ref().map(by_name),
        interfaces: snapshot.interfaces.clone(),
        unwatched: unwatched(snapshot),
        socket_events: snapshot.socket_events_hook().to_owned(),
        census: snapshot.census,
        losses: Loss::ALL.into_iter().map(|loss| (loss.name().to_owned(), snapshot.losses[loss as usize])).collect(),
        programs: snapshot.programs.clone(),
        maps: snapshot.maps.clone(),
    }
}

/// What cannot be told here, and why.
fn unavailable(snapshot: &Snapshot) -> Vec<String> {
    let is_blind = snapshot.ports.conflicts_seen_by == "no";
    let sees_delivery = snapshot.no_listener.undelivered.is_some();
    let lines = [
        (is_blind, "bind_conflict alerts: the kernel refuses fexit programs; run the daemon with --trace-bind"),
        (
            !sees_delivery,
            "which SYNs reach TCP: the kernel refuses sk_lookup programs; SYNs to translated ports may raise syn_flood",
        ),
    ];
    lines.into_iter().filter(|(missing, _)| *missing).map(|(_, line)| line.to_owned()).collect()
}

fn by_name(counters: &NamespaceCounters) -> BTreeMap<String, u64> {
    counters.named().into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Those that should be watched first, each name once.
fn unwatched(snapshot: &Snapshot) -> Vec<Unwatched> {
    let mut all: Vec<Unwatched> = Vec::new();
    for interface in snapshot.missing.iter().chain(&snapshot.unwatched) {
        if all.iter().all(|other| other.name != interface.name) {
            all.push(interface.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracker_fixtures as sample;
    use tracker_model::api::Ports;

    use super::*;

    #[test]
    fn alerts_that_cannot_be_raised_are_named_and_leave_health_as_it_is() {
        for (seen_by, named) in [("fexit", 0), ("tracepoints", 0), ("no", 1)] {
            let mut snapshot = sample::snapshot();
            snapshot.ports = Arc::new(Ports { conflicts_seen_by: seen_by.to_owned(), ..Ports::default() });
            let status = status(&snapshot, Daemon { version: "1", pid: 7 }, snapshot.taken_at);
            assert_eq!((status.unavailable.len(), status.health), (named, Health::Ok), "{seen_by}");
            assert!(status.unavailable.iter().all(|line| line.starts_with("bind_conflict alerts: ")));
        }
        let mut snapshot = sample::snapshot();
        snapshot.no_listener.undelivered = None;
        let status = status(&snapshot, Daemon { version: "1", pid: 7 }, snapshot.taken_at);
        assert!(status.unavailable.iter().any(|line| line.starts_with("which SYNs reach TCP: ")), "{status:?}");
    }
}
