//! The answer of `tracker status`: what is watched, and how far the figures can be trusted.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tracker_common::{
    classify::{Family, Outcome},
    counters::{InterfaceCounters, Loss},
};

use super::{alerts::firing, health::problems};
use tracker_model::{
    api::{CensusStatus, Health, InterfaceStatus, Status, Unwatched},
    counters::NamespaceCounters,
    snapshot::{Interface, Snapshot},
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
        alerts: firing(&snapshot.floods.alerts),
        tcp_counters: snapshot.tcp_counters.as_ref().map(by_name),
        interfaces: snapshot.interfaces.iter().map(interface).collect(),
        unwatched: unwatched(snapshot),
        socket_events: snapshot.socket_events_hook().to_owned(),
        census: snapshot.census.map(|census| CensusStatus {
            taken_at: census.taken_at,
            seconds: census.seconds,
            interval_seconds: census.interval_seconds,
            sockets: census.counts.states.as_flattened().iter().sum(),
        }),
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

fn interface(interface: &Interface) -> InterfaceStatus {
    let counters = &interface.counters;
    InterfaceStatus {
        name: interface.name.clone(),
        index: interface.index,
        hook: interface.hook.to_owned(),
        reason: interface.reason.clone(),
        packets: counters.packets.as_flattened().iter().sum(),
        syns: counters.packets[Outcome::TcpSyn as usize].iter().sum(),
        outcomes: outcomes(counters),
    }
}

fn outcomes(counters: &InterfaceCounters) -> BTreeMap<String, BTreeMap<String, u64>> {
    Outcome::ALL
        .into_iter()
        .map(|outcome| {
            let by_family: BTreeMap<_, _> = Family::ALL
                .into_iter()
                .map(|family| (family.name().to_owned(), counters.packets[outcome as usize][family as usize]))
                .filter(|(_, packets)| *packets > 0)
                .collect();
            (outcome.name().to_owned(), by_family)
        })
        .filter(|(_, by_family)| !by_family.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_fixtures as sample;

    const DAEMON: Daemon<'static> = Daemon { version: "1.2.3", pid: 7 };

    fn of(snapshot: &Snapshot) -> Status {
        status(snapshot, DAEMON, snapshot.taken_at)
    }

    #[test]
    fn a_healthy_daemon_reports_what_it_watches() {
        let status = of(&sample::snapshot());
        assert_eq!((status.health, status.problems.as_slice()), (Health::Ok, [].as_slice()));
        assert_eq!((status.version.as_str(), status.pid), ("1.2.3", 7));
        assert_eq!(status.socket_events, "tp_btf");
        let census = status.census.unwrap();
        assert_eq!(census.sockets, 3 + 40 + 5 + 7);
        let eth0 = &status.interfaces[0];
        assert_eq!((eth0.name.as_str(), eth0.packets, eth0.syns), ("eth0", 120 + 80 + 9 + 3, 120 + 80));
        assert_eq!(eth0.outcomes["tcp_syn"], BTreeMap::from([("ipv4".to_owned(), 120), ("ipv6".to_owned(), 80)]));
        assert_eq!(eth0.outcomes["non_ip"], BTreeMap::from([("none".to_owned(), 9)]));
        assert!(!eth0.outcomes.contains_key("udp"), "outcomes that are zero are left out");
        assert_eq!(status.losses.len(), Loss::COUNT);
    }

    #[test]
    fn the_counters_of_the_namespace_have_their_own_names() {
        let counters = of(&sample::snapshot()).tcp_counters.unwrap();
        assert_eq!((counters["SyncookiesSent"], counters["ListenOverflows"], counters["ListenDrops"]), (9, 2, 0));
        let unread = Snapshot { tcp_counters: None, ..sample::snapshot() };
        assert_eq!(of(&unread).tcp_counters, None);
    }

    #[test]
    fn an_alert_is_told_and_does_not_make_the_daemon_ill() {
        let status = of(&sample::under_flood());
        assert_eq!((status.health, status.alerts.firing, status.alerts.resolved), (Health::Ok, 2, 1));
        assert_eq!(status.alerts.worst[0].severity, tracker_model::api::Severity::Critical);
    }
}
