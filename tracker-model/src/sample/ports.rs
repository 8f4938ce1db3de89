//! The host of [`super::snapshot`] when its local ports run out.

use std::net::{IpAddr, Ipv4Addr};

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{
        Alert, AlertKind, AlertState, AlertSubject, BindPoolUse, Evidence, FailedCalls, LeakEvidence, PortConflict,
        PortEvidence, PortFailure, PortHolder, PortPool, PortRange, PortRest, PortSpace, PortUse, Ports, Severity,
        UdpPorts,
    },
    ports::explain::Protocol,
    snapshot::{Process, Snapshot},
};

/// As of [`super::snapshot`].
const NETNS: u32 = 4_026_531_840;
/// The range that was narrowed.
pub(super) const RANGE: PortRange = PortRange { low: 40_000, high: 40_999 };
/// Where the connections are made from.
pub(super) const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
/// Where those are made to for which there is no port any more.
pub(super) const FULL: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
/// The destination that fills.
const FILLING: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 20));

/// A host with a range of 1,000 ports: to one destination none is left, another fills, a third is well, a fourth is idle; a
/// process leaks, and an address was held when another wanted it.
#[must_use]
pub fn under_shortage() -> Snapshot {
    let mut snapshot = super::snapshot();
    let now = snapshot.taken_at;
    snapshot.floods.alerts = vec![failed(now), full(now), filling(now), pool(now), conflict(now)];
    snapshot.floods.alerts.extend([leak(now), half_closed(now)]);
    snapshot.ports = Ports {
        taken_at: Some(ago(now, 1)),
        namespaces: vec![PortSpace {
            netns: NETNS,
            name: None,
            taken_at: ago(now, 1),
            range: RANGE,
            reserved: 10,
            bound: 12,
            tw_reuse: 2,
            rest: PortRest { sockets: 5_000, tuples_at_least: 1_900, most: 2 },
            udp: UdpPorts {
                sockets: 60,
                ephemeral: 42,
                in_use: 40,
                capacity: 990,
                used_ratio: 40.0 / 990.0,
                processes: vec![PortHolder { pid: 53, comm: "resolver".to_owned(), ports: 40 }],
            },
            sources_lost: 3,
        }],
        ports: tuples(),
        bind_pools: vec![bind_pool(SOURCE, 990, 300), bind_pool(Ipv4Addr::LOCALHOST.into(), 15, 12)],
        failures: vec![
            PortFailure {
                netns: NETNS,
                source: Some(SOURCE),
                source_port: None,
                destination: FULL,
                destination_port: 443,
                process: process(4_711, "app"),
                cgroup: 8_123,
                uid: 33,
                count: 1_300,
                first: ago(now, 95),
                last: ago(now, 1),
            },
            PortFailure {
                netns: NETNS,
                source: None,
                source_port: None,
                destination: FULL,
                destination_port: 443,
                process: process(99, "cron-job"),
                cgroup: 1,
                uid: 0,
                count: 12,
                first: ago(now, 60),
                last: ago(now, 40),
            },
        ],
        conflicts: vec![PortConflict {
            netns: NETNS,
            protocol: "tcp".to_owned(),
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 8080,
            process: process(5_000, "new-app"),
            cgroup: 1,
            uid: 0,
            count: 3,
            first: ago(now, 30),
            last: ago(now, 10),
            holders: vec![PortHolder { pid: 815, comm: "nginx".to_owned(), ports: 1 }],
        }],
        conflicts_seen_by: "fexit".to_owned(),
        unread: None,
    }
    .into();
    snapshot
}

fn ago(now: Timestamp, seconds: i64) -> Timestamp {
    now - SignedDuration::from_secs(seconds)
}

pub(super) fn process(pid: u32, comm: &str) -> Process {
    Process { pid, comm: comm.to_owned() }
}

fn holder(pid: u32, comm: &str, ports: u32) -> PortHolder {
    PortHolder { pid, comm: comm.to_owned(), ports }
}

fn states(states: &[(&str, u32)]) -> std::collections::BTreeMap<String, u32> {
    states.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn bind_pool(source: IpAddr, in_use: u32, bound: u32) -> BindPoolUse {
    let used_ratio = f64::from(in_use) / 990.0;
    BindPoolUse { netns: NETNS, source, in_use, bound, capacity: 990, used_ratio }
}

/// To a destination from [`SOURCE`], nothing reusable.
fn tuple(destination: IpAddr, destination_port: u16, in_use: u32, time_wait: u32) -> PortUse {
    PortUse {
        netns: NETNS,
        source: SOURCE,
        destination,
        destination_port,
        in_use,
        time_wait,
        reusable: 0,
        recyclable: 0,
        bound: 0,
        capacity: 978,
        used_ratio: f64::from(in_use) / 978.0,
        growth_per_second: None,
        full_in_seconds: None,
        next_free_seconds: None,
        failures: 0,
        states: states(&[("established", in_use - time_wait), ("time_wait", time_wait)]),
        processes: Vec::new(),
        made_by: Vec::new(),
    }
}

fn tuples() -> Vec<PortUse> {
    let loopback = Ipv4Addr::LOCALHOST.into();
    vec![
        PortUse {
            recyclable: 350,
            growth_per_second: Some(0.0),
            next_free_seconds: Some(0.4),
            failures: 1_312,
            states: states(&[("established", 570), ("close_wait", 8), ("time_wait", 400)]),
            processes: vec![holder(4_711, "app", 500), holder(99, "cron-job", 78)],
            made_by: vec![holder(4_711, "app", 880), holder(99, "cron-job", 90)],
            ..tuple(FULL, 443, 978, 400)
        },
        PortUse {
            bound: 2,
            growth_per_second: Some(3.5),
            full_in_seconds: Some(62.0),
            states: states(&[("established", 761)]),
            processes: vec![holder(77, "pgbench", 761)],
            ..tuple(FILLING, 5_432, 761, 0)
        },
        PortUse {
            source: "2001:db8::10".parse().unwrap_or(SOURCE),
            reusable: 60,
            recyclable: 60,
            used_ratio: 60.0 / 978.0,
            growth_per_second: Some(-1.25),
            next_free_seconds: Some(12.0),
            states: states(&[("time_wait", 120)]),
            made_by: vec![holder(53, "unbound", 101)],
            ..tuple("2001:db8::53".parse().unwrap_or(FULL), 853, 120, 120)
        },
        PortUse { source: loopback, ..tuple(loopback, 8_080, 3, 1) },
    ]
}

/// Figures of a tuple, those of the namespace with them.
fn evidence(tuple: &PortUse) -> PortEvidence {
    PortEvidence {
        pool: PortPool::Connect,
        in_use: Some(tuple.in_use),
        states: tuple.states.clone(),
        time_wait: Some(tuple.time_wait),
        reusable: Some(tuple.reusable),
        recyclable: Some(tuple.recyclable),
        used_ratio: Some(tuple.used_ratio),
        peak_used_ratio: Some(tuple.used_ratio),
        growth_per_second: tuple.growth_per_second,
        full_in_seconds: tuple.full_in_seconds,
        processes: tuple.processes.clone(),
        made_by: tuple.made_by.clone(),
        ..unlisted()
    }
}

fn unlisted() -> PortEvidence {
    PortEvidence { capacity: 978, range: RANGE, reserved: 10, bound: 12, tw_reuse: 2, ..PortEvidence::default() }
}

fn to(destination: IpAddr, port: u16, process: Process) -> AlertSubject {
    AlertSubject {
        netns: NETNS,
        source: Some(SOURCE),
        destination: Some(destination),
        destination_port: Some(port),
        process: Some(process),
        ..AlertSubject::default()
    }
}

fn alert(id: u64, kind: AlertKind, severity: Severity, since: Timestamp, evidence: Evidence) -> Alert {
    Alert {
        id,
        kind,
        severity,
        state: AlertState::Firing,
        since,
        until: None,
        subject: AlertSubject { netns: NETNS, ..AlertSubject::default() },
        class: None,
        summary: String::new(),
        evidence,
        advice: String::new(),
        unknown: Vec::new(),
    }
}

fn failed(now: Timestamp) -> Alert {
    let by = |pid, comm: &str, uid, cgroup, failures| FailedCalls { pid, comm: comm.to_owned(), uid, cgroup, failures };
    let evidence =
        PortEvidence { failures: 1_300, failed: vec![by(4_711, "app", 33, 8_123, 1_300)], ..evidence(&tuples()[0]) };
    Alert {
        subject: to(FULL, 443, process(4_711, "app")),
        summary: "connect() to 198.51.100.7:443 from 192.0.2.10 found no free local port: 1,300 calls failed, all of app (pid 4711); 978 of 978 used (100 %), 400 of them in TIME_WAIT; since 2027-01-15 07:58:25 UTC".to_owned(),
        advice: "sysctl net.ipv4.tcp_tw_reuse=1 lets connect() take 350 of the ports in TIME_WAIT at once.".to_owned(),
        ..alert(12, AlertKind::PortAllocationFailed, Severity::Critical, ago(now, 95), Evidence::Ports(evidence))
    }
}

fn full(now: Timestamp) -> Alert {
    let evidence = Evidence::Ports(PortEvidence { failures: 1_312, ..evidence(&tuples()[0]) });
    Alert {
        subject: to(FULL, 443, process(4_711, "app")),
        summary: "Local ports from 192.0.2.10 to 198.51.100.7:443 are gone: 978 of 978 used (100 %), 400 of them in TIME_WAIT; since 2027-01-15 07:56:40 UTC".to_owned(),
        advice: "sysctl net.ipv4.tcp_tw_reuse=1 lets connect() take 350 of the ports in TIME_WAIT at once.".to_owned(),
        ..alert(11, AlertKind::PortExhaustion, Severity::Critical, ago(now, 200), evidence)
    }
}

fn filling(now: Timestamp) -> Alert {
    Alert {
        subject: to(FILLING, 5_432, process(77, "pgbench")),
        summary: "Local ports from 192.0.2.10 to 203.0.113.20:5432 run out: 761 of 978 used (78 %), full in 62 s; since 2027-01-15 07:59:40 UTC".to_owned(),
        advice: "Close connections that are idle or leaked: pgbench (pid 77) holds 761.".to_owned(),
        ..alert(13, AlertKind::PortExhaustion, Severity::Warning, ago(now, 20), Evidence::Ports(evidence(&tuples()[1])))
    }
}

fn pool(now: Timestamp) -> Alert {
    let evidence = PortEvidence {
        pool: PortPool::Bind,
        in_use: Some(990),
        capacity: 990,
        used_ratio: Some(1.0),
        peak_used_ratio: Some(1.0),
        ..unlisted()
    };
    Alert {
        subject: AlertSubject { netns: NETNS, source: Some(SOURCE), ..AlertSubject::default() },
        summary: "Local ports that bind() can choose on 192.0.2.10 are gone: 990 of 990 used (100 %); since 2027-01-15 07:59:30 UTC".to_owned(),
        advice: "Each further source address has as many ports again.".to_owned(),
        unknown: vec!["3 sockets could not be counted by address: it may be fuller".to_owned()],
        ..alert(14, AlertKind::PortExhaustion, Severity::Critical, ago(now, 30), Evidence::Ports(evidence))
    }
}

fn conflict(now: Timestamp) -> Alert {
    let failed = FailedCalls { pid: 600, comm: "httpd".to_owned(), uid: 0, cgroup: 9, failures: 2 };
    let evidence = PortEvidence {
        pool: PortPool::Bind,
        failures: 2,
        failed: vec![failed],
        processes: vec![holder(815, "nginx", 1)],
        ..unlisted()
    };
    Alert {
        state: AlertState::Resolved,
        until: Some(ago(now, 3_590)),
        subject: AlertSubject {
            netns: NETNS,
            address: Some(Ipv4Addr::UNSPECIFIED.into()),
            port: Some(80),
            protocol: Some(Protocol::Tcp),
            process: Some(process(600, "httpd")),
            ..AlertSubject::default()
        },
        summary: "bind() to 0.0.0.0:80 failed, the address is in use: 2 calls failed, all of httpd (pid 600); held by nginx (pid 815); from 2027-01-15 07:00:00 to 07:00:10 UTC".to_owned(),
        advice: "See who holds it, and what would help: `tracker explain bind 0.0.0.0:80`.".to_owned(),
        ..alert(10, AlertKind::BindConflict, Severity::Warning, ago(now, 3_600), Evidence::Ports(evidence))
    }
}

fn leak(now: Timestamp) -> Alert {
    let evidence = LeakEvidence { leaked: 212, leaked_peak: 1_230, oldest_seconds: 2_640.0 };
    Alert {
        subject: AlertSubject { netns: NETNS, process: Some(process(99, "cron-job")), ..AlertSubject::default() },
        summary: "cron-job (pid 99) leaks connections: 212 sockets in CLOSE_WAIT, the oldest for at least 44 min; since 2027-01-15 07:20:00 UTC".to_owned(),
        advice: "The peers have closed these connections and the process does not call close(): mend it; a restart frees them.".to_owned(),
        ..alert(9, AlertKind::CloseWaitLeak, Severity::Warning, ago(now, 2_400), Evidence::Leak(evidence))
    }
}

fn half_closed(now: Timestamp) -> Alert {
    let evidence = LeakEvidence { leaked: 60, leaked_peak: 60, oldest_seconds: 75.0 };
    Alert {
        subject: AlertSubject { netns: NETNS, process: Some(process(4_711, "app")), ..AlertSubject::default() },
        summary: "app (pid 4711) leaks connections: 60 sockets in FIN_WAIT2, the oldest for at least 75 s; since 2027-01-15 07:59:50 UTC".to_owned(),
        advice: "Let it close() them after a time of its own.".to_owned(),
        ..alert(15, AlertKind::FinWaitLeak, Severity::Warning, ago(now, 10), Evidence::Leak(evidence))
    }
}
