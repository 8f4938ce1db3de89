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
