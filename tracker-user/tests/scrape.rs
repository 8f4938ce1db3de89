//! Scrapes of snapshots: what is in them, what is left out, and that they are bounded.

use std::{net::Ipv4Addr, path::Path, time::Instant};

use prometheus::core::Desc;
use tracker_fixtures as sample;
use tracker_model::{
    Snapshot,
    api::{BindPoolUse, Interface, PortConflict, PortFailure, PortSpace, PortUse, Ports, Verdict},
};
use tracker_user::{
    kernel::KernelHandle,
    metrics::{self, Metrics},
};

fn text(snapshot: Snapshot) -> String {
    Metrics::new(KernelHandle::fixed(Some(snapshot), None)).encode().unwrap()
}

/// A snapshot in which every metric has series: a flood, ports of three namespaces, calls that do not count and
/// conflicts of ephemeral ports.
fn full() -> Snapshot {
    let mut ports = Ports::clone(&sample::under_shortage().ports);
    let (space, tuple) = (ports.namespaces[0].clone(), ports.ports[1].clone());
    let (failure, conflict) = (ports.failures[0].clone(), ports.conflicts[0].clone());
    ports.namespaces.extend([(5, "blue"), (6, "process 77")].map(|(netns, name)| PortSpace {
        netns,
        name: Some(name.to_owned()),
        ..space.clone()
    }));
    ports.ports.extend([
        PortUse { netns: 5, ..tuple.clone() },
        PortUse { destination_port: 53, in_use: 3, used_ratio: 0.003, ..tuple },
    ]);
    ports.failures.push(PortFailure { source_port: Some(40_001), ..failure });
    ports.conflicts.extend([0, 1].map(|more| PortConflict {
        protocol: "udp".to_owned(),
        port: space.range.low + more,
        count: 1,
        ..conflict.clone()
    }));
    Snapshot { ports: ports.into(), ..sample::under_flood() }
}

/// The whole scrape, but for the figures of the process and the build.
#[test]
fn a_scrape_is_that_of_the_golden() {
    let text = text(full());
    let is_fixed = |line: &&str| line.contains(" tracker_") || line.starts_with("tracker_");
    let lines = text.split_inclusive('\n').filter(is_fixed).filter(|line| !line.contains("tracker_build_info"));
    sample::golden::compare(Path::new("scrape.txt"), &lines.collect::<String>());
}

#[test]
fn a_full_snapshot_fills_every_metric_and_no_other() {
    let text = text(full());
    let filled = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let all = metrics::all().into_iter().flat_map(|(_, metrics)| metrics);
    let valid = |metric: &tracker_model::field::Metric| {
        let labels = metric.labels.iter().map(ToString::to_string).collect();
        Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels, std::collections::HashMap::new()).unwrap();
        metric.name
    };
    let (mut filled, mut all): (Vec<_>, Vec<_>) = (filled.collect(), all.map(valid).collect());
    filled.sort_unstable();
    all.sort_unstable();
    assert_eq!(filled, all);
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// A change to a snapshot, and series with the values that they have then; none where there is no such series.
type Case = (&'static str, fn(&mut Snapshot), &'static [(&'static str, Option<f64>)]);

const CASES: &[Case] = &[
    (
        "before the second reading there is no verdict",
        |_| {},
        &[
            (r#"tracker_listener_verdict{netns="4026531840",address="::",port="443",verdict="none"}"#, None),
            (r#"tracker_no_listener_verdict{verdict="none"}"#, None),
            (r#"tracker_tcp_ext_total{netns="4026531840",counter="SyncookiesSent"}"#, Some(9.0)),
        ],
    ),
    (
        "what cannot be read is left out",
        |snapshot| snapshot.tcp_counters = None,
        &[(r#"tracker_tcp_ext_total{netns="4026531840",counter="SyncookiesSent"}"#, None)],
    ),
    (
        "a census that fails keeps the time of the last",
        |snapshot| snapshot.census_error = Some("no".to_owned()),
        &[("tracker_census_success", Some(0.0)), ("tracker_census_timestamp_seconds", Some(1_799_999_999.0))],
    ),
    (
        "before the first census no states are known",
        |snapshot| snapshot.census = None,
        &[
            ("tracker_census_success", Some(0.0)),
            ("tracker_census_timestamp_seconds", None),
            (r#"tracker_sockets{family="ipv4",state="established"}"#, None),
        ],
    ),
    (
        "a program that is loaded twice is added up",
        |snapshot| snapshot.programs.push(snapshot.programs[0].clone()),
        &[
            (r#"tracker_program_runs_total{program="tracker_xdp"}"#, Some(2_000.0)),
            (r#"tracker_program_run_seconds_total{program="tracker_xdp"}"#, Some(0.001)),
        ],
    ),
    (
        "an interface seen on another has no counters",
        |snapshot| snapshot.interfaces[0].hook = "lower".into(),
        &[
            (r#"tracker_interface_packets_total{interface="eth0",outcome="udp",family="ipv4"}"#, None),
            (r#"tracker_interface_info{interface="eth0",hook="lower"}"#, Some(1.0)),
        ],
    ),
    (
        "interfaces of one name are added up",
        |snapshot| snapshot.interfaces.push(snapshot.interfaces[0].clone()),
        &[(r#"tracker_interface_packets_total{interface="eth0",outcome="tcp_syn",family="ipv4"}"#, Some(240.0))],
    ),
    (
        "rare transitions and errors are exported once they are seen",
        |snapshot| {
            // SYN_SENT to SYN_RECV; ECANCELED, which the process giving up is called too, and EPERM.
            snapshot.sockets.transitions[1][2][3] = 3;
            snapshot.sockets.connect_failures[0][125] = 3;
            snapshot.sockets.connect_failures[0][1] = 1;
        },
        &[
            (r#"tracker_socket_transitions_total{family="ipv4",from="syn_sent",to="syn_recv"}"#, None),
            (r#"tracker_socket_transitions_total{family="ipv6",from="syn_sent",to="syn_recv"}"#, Some(3.0)),
            (r#"tracker_connect_failures_total{family="ipv4",errno="ECANCELED"}"#, Some(5.0)),
            (r#"tracker_connect_failures_total{family="ipv4",errno="EPERM"}"#, Some(1.0)),
            (r#"tracker_connect_failures_total{family="ipv6",errno="EPERM"}"#, None),
        ],
    ),
    (
        "before the first census nothing is claimed of ports",
        |snapshot| snapshot.ports = Ports::default().into(),
        &[
            (r#"tracker_bind_events_info{hook=""}"#, None),
            (
                r#"tracker_port_allocation_failures_total{netns="other",destination="other",destination_port="other"}"#,
                None,
            ),
            (r#"tracker_bind_conflicts_total{netns="other",protocol="other",address="other",port="other"}"#, None),
        ],
    ),
    (
        "where refused calls of bind() are not seen there is no count of them",
        |snapshot| {
            snapshot.ports = Ports { conflicts_seen_by: "no".to_owned(), ..Ports::clone(&full().ports) }.into();
        },
        &[
            (r#"tracker_bind_events_info{hook="no"}"#, Some(1.0)),
            (r#"tracker_bind_conflicts_total{netns="other",protocol="other",address="other",port="other"}"#, None),
        ],
    ),
];

#[test]
fn what_is_not_known_is_left_out_and_what_occurs_twice_is_added_up() {
    for (case, change, expected) in CASES {
        let mut snapshot = sample::snapshot();
        change(&mut snapshot);
        let text = text(snapshot);
        for (series, expected) in *expected {
            assert_eq!(value(&text, series), *expected, "{case}: {series}");
        }
    }
}

/// The sum of the destinations without series of their own.
const OTHER_PORTS: &str = concat!(
    r#"ports_in_use{netns="4026531840",source="other",destination="other",destination_port="other","#,
    r#"local_port_range=""}"#
);

#[test]
fn a_scrape_is_bounded_whatever_the_number_of_subjects() {
    let mut snapshot = full();
    snapshot.listeners = (1..=1_024).map(|port| sample::listener("192.0.2.1", port)).collect();
    for listener in &mut snapshot.listeners {
        listener.verdict = Some(Verdict::default());
    }
    let own = snapshot.interfaces[0].clone();
    // By name they come first.
    let stacked = (0..500).map(|vlan| Interface { name: format!("a{vlan}"), hook: "lower".into(), ..own.clone() });
    snapshot.interfaces.extend(stacked);
    let mut ports = Ports::clone(&snapshot.ports);
    let (tuple, failure, pool) = (ports.ports[0].clone(), ports.failures[0].clone(), ports.bind_pools[0].clone());
    ports.ports = (0..1_024).map(|port| PortUse { destination_port: port, in_use: 700, ..tuple.clone() }).collect();
    let failing = 2_000..3_000;
    ports.failures = failing.map(|port| PortFailure { destination_port: port, count: 1, ..failure.clone() }).collect();
    ports.bind_pools = (0..64).map(|n| BindPoolUse { source: Ipv4Addr::from(n).into(), ..pool.clone() }).collect();
    snapshot.ports = ports.into();
    let text = text(snapshot);
    for (name, series) in [
        ("tracker_listener_sockets", 257),
        // The others have none.
        ("tracker_listener_verdict", 256 * 6),
        ("tracker_interface_info", 256),
        // The rest of each namespace.
        ("tracker_ports_in_use", 32 + 3),
        ("tracker_ports_used_ratio", 32),
        ("tracker_bind_ports_in_use", 32),
        ("tracker_port_allocation_failures_total", 65),
    ] {
        assert_eq!(text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count(), series, "{name}");
    }
    let rest = f64::from((1_024 - 32) * 700 + 5_000);
    for (series, expected) in [
        (r#"listener_sockets{address="other",port="other"}"#, 768.0),
        (r#"interface_info{interface="eth0",hook="xdp"}"#, 1.0),
        (OTHER_PORTS, rest),
        (r#"ports_other_in_use_max{netns="4026531840"}"#, 700.0),
        (r#"port_allocation_failures_total{netns="other",destination="other",destination_port="other"}"#, 968.0),
    ] {
        assert_eq!(value(&text, &format!("tracker_{series}")), Some(expected), "{series}");
    }
}

#[test]
fn this_process_has_memory_threads_and_files_and_its_cpu_time_grows() {
    let metrics = Metrics::new(KernelHandle::fixed(None, None));
    let now = |name| value(&metrics.encode().unwrap(), name).unwrap();
    assert!((1e6..1e10).contains(&now("process_resident_memory_bytes")));
    assert!(now("process_threads") >= 1.0 && now("process_open_fds") >= 3.0);
    let wall = jiff::Timestamp::now().as_duration().as_secs_f64();
    assert!((wall - now("process_start_time_seconds")).abs() < 3_600.0);
    let (before, begun) = (now("process_cpu_seconds_total"), Instant::now());
    while now("process_cpu_seconds_total") <= before {
        assert!(begun.elapsed().as_secs() < 10, "still {before} s");
    }
}
