//! The host of [`super::snapshot`] in a bad hour.

use std::net::{IpAddr, Ipv4Addr};

use jiff::{SignedDuration, Timestamp};
use tracker_common::{
    classify::{Family, Outcome},
    counters::SynTarget,
};

use crate::{
    api::{
        Alert, AlertKind, AlertState, AlertSubject, Class, Evidence, FloodEvidence, Severity, SourceCount, SourceShare,
    },
    detect::FlowSample,
    snapshot::{Floods, Listener, ListenerQueues, NamespaceCounters, Process, Snapshot, Verdict},
};

/// As of [`super::snapshot`].
const NETNS: u32 = 4_026_531_840;
/// SYNs of the flood.
const FLOOD: u64 = 60_000;

/// A host whose web server is flooded for 12 s and that is scanned for 40 s, and whose web server accepted too slowly
/// a while ago.
#[must_use]
pub fn under_flood() -> Snapshot {
    let mut snapshot = super::snapshot();
    let now = snapshot.taken_at;
    let counters = &mut snapshot.interfaces[0].counters;
    counters.syns[SynTarget::Listener as usize][Family::Ipv4 as usize] += FLOOD;
    counters.packets[Outcome::TcpSyn as usize][Family::Ipv4 as usize] += FLOOD;
    snapshot.listeners[0].verdict = Some(Verdict::default());
    flood(&mut snapshot.listeners[1], now);
    snapshot.tcp_counters = Some(NamespaceCounters {
        syncookies_sent: 2_609,
        syncookies_failed: 1,
        listen_drops: 57_000,
        listen_overflows: 2,
        syn_queue_full_drops: 57_000,
        ..NamespaceCounters::default()
    });
    snapshot.floods = Floods {
        alerts: vec![spoofed(now), scan(now), slow_accept(now)],
        no_listener: Some(Verdict { class: Class::Scan, since: Some(ago(now, 40)), alert: Some(4) }),
        no_listener_sources: vec![share("203.0.113.9", 0.98, 0.02)],
    };
    snapshot
}

fn ago(now: Timestamp, seconds: i64) -> Timestamp {
    now - SignedDuration::from_secs(seconds)
}

fn share(source: &str, share: f64, error: f64) -> SourceShare {
    SourceShare { source: source.to_owned(), share, error }
}

fn flood(listener: &mut Listener, now: Timestamp) {
    let source = |last, count| SourceCount { source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), count };
    listener.syns.ipv4 += FLOOD;
    listener.syn_rate = 5_012.0;
    listener.verdict = Some(Verdict { class: Class::Spoofed, since: Some(ago(now, 12)), alert: Some(3) });
    // A standard deviation of 12.
    listener.sample = FlowSample { first: 60_080, repeated: 70, completed: 130, evicted: 5, repeated_variance: 144 };
    listener.distinct_sources = Some(4_987.4);
    listener.half_open_sources = vec![source(77, 3), source(200, 1)];
    listener.census = listener.census.map(|before| ListenerQueues {
        syn_queue: 511,
        syn_queue_young: 240,
        half_open: 511,
        drops: 57_000,
        half_open_unnamed: 240,
        ..before
    });
}

fn web() -> AlertSubject {
    AlertSubject {
        netns: NETNS,
        address: "::".parse().ok(),
        port: Some(443),
        process: Some(Process { pid: 815, comm: "nginx".to_owned() }),
        ..AlertSubject::default()
    }
}

fn spoofed(now: Timestamp) -> Alert {
    let namespace = [("SyncookiesSent", 2_600), ("TCPReqQFullDrop", 57_000)];
    Alert {
        id: 3,
        kind: AlertKind::SynFlood,
        severity: Severity::Critical,
        state: AlertState::Firing,
        since: ago(now, 12),
        until: None,
        subject: web(),
        class: Some(Class::Spoofed),
        summary: "SYN flood of [::]:443: 5,012 SYN/s from about 59,310 sources all over (spoofed), 100 % unanswered; since 2027-01-15 07:59:48 UTC"
            .to_owned(),
        evidence: Evidence::Flood(FloodEvidence {
            syns: FLOOD,
            rates_until: Some(now),
            rates_seconds: 2.0,
            syn_rate: 5_012.0,
            peak_syn_rate: 5_404.5,
            unanswered_rate: 5_000.0,
            completed_rate: 11.5,
            usual_completed_rate: 12.5,
            distinct_sources: 59_310.0,
            distinct_sources_error: 0.012,
            top_sources: vec![share("192.0.2.77", 0.008, 0.011), share("198.51.100.4", 0.004, 0.008)],
            top_prefixes: vec![share("192.0.2.0/24", 0.012, 0.013)],
            repeated_share: Some(0.001),
            completed_share: Some(0.002),
            half_open: Some(511),
            syn_queue: Some(511),
            syn_queue_young: Some(240),
            syn_queue_max: Some(511),
            accept_queue: Some(0),
            accept_queue_max: Some(511),
            dropped: Some(56_998),
            namespace: namespace.map(|(name, count)| (name.to_owned(), count)).into(),
            ports: None,
            pulses: 0,
        }),
        advice: "Turn SYN cookies on (net.ipv4.tcp_syncookies=1).".to_owned(),
        unknown: Vec::new(),
    }
}

fn scan(now: Timestamp) -> Alert {
    Alert {
        id: 4,
        kind: AlertKind::PortScan,
        severity: Severity::Info,
        state: AlertState::Firing,
        since: ago(now, 40),
        until: None,
        subject: AlertSubject { netns: NETNS, ..AlertSubject::default() },
        class: Some(Class::Scan),
        summary: "Port scan: up to 1,210 ports without a listener tried, mostly from 203.0.113.9, 31 SYN/s; since 2027-01-15 07:59:20 UTC".to_owned(),
        evidence: Evidence::Flood(FloodEvidence {
            syns: 1_300,
            syn_rate: 31.0,
            peak_syn_rate: 40.0,
            unanswered_rate: 31.0,
            distinct_sources: 2.0,
            distinct_sources_error: 0.012,
            top_sources: vec![share("203.0.113.9", 0.98, 0.02)],
            top_prefixes: vec![share("203.0.113.0/24", 0.98, 0.02)],
            ports: Some(1_210),
            ..FloodEvidence::default()
        }),
        advice: "Nothing, if the firewall is meant to let this through.".to_owned(),
        unknown: Vec::new(),
    }
}

fn slow_accept(now: Timestamp) -> Alert {
    Alert {
        id: 1,
        kind: AlertKind::AcceptOverflow,
        severity: Severity::Warning,
        state: AlertState::Resolved,
        since: ago(now, 3_700),
        until: Some(ago(now, 3_600)),
        subject: web(),
        class: Some(Class::SlowAccept),
        summary: "[::]:443 accepts too slowly: accept queue 512 of 511, 4 connections/s turned away; from 2027-01-15 06:58:20 to 07:00:00 UTC".to_owned(),
        evidence: Evidence::Flood(FloodEvidence {
            syns: 2_000,
            syn_rate: 20.0,
            peak_syn_rate: 30.0,
            unanswered_rate: 4.0,
            completed_rate: 16.0,
            usual_completed_rate: 15.0,
            distinct_sources: 40.0,
            distinct_sources_error: 0.012,
            repeated_share: Some(0.2),
            half_open: Some(12),
            syn_queue: Some(12),
            syn_queue_young: Some(2),
            accept_queue: Some(512),
            syn_queue_max: Some(511),
            accept_queue_max: Some(511),
            dropped: Some(2),
            pulses: 1,
            ..FloodEvidence::default()
        }),
        advice: "See why nginx does not call accept().".to_owned(),
        unknown: vec!["the census failed for 10 s: queues are those before it".to_owned()],
    }
}
