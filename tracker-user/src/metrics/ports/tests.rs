use jiff::Timestamp;
use prometheus::TextEncoder;
use tracker_fixtures as sample;
use tracker_model::{
    api::{ByName, PortConflict, PortFailure, PortRange, PortRest, UdpPorts},
    process::Process,
};

use super::*;

const HOST: u32 = 4_026_531_840;

fn row(port: u16, in_use: u32) -> PortUse {
    PortUse {
        netns: HOST,
        source: "10.0.0.5".parse().unwrap(),
        destination: "192.0.2.7".parse().unwrap(),
        destination_port: port,
        in_use,
        time_wait: in_use / 2,
        reusable: 0,
        recyclable: 0,
        bound: 0,
        capacity: 1_000,
        used_ratio: f64::from(in_use) / 1_000.0,
        growth_per_second: None,
        full_in_seconds: None,
        next_free_seconds: None,
        failures: 0,
        states: ByName::new(),
        processes: Vec::new(),
        made_by: Vec::new(),
    }
}

fn failure(port: u16, count: u64) -> PortFailure {
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    PortFailure {
        netns: HOST,
        source: None,
        source_port: None,
        destination: "192.0.2.7".parse().unwrap(),
        destination_port: port,
        process: Process { pid: 77, comm: "curl".to_owned() },
        cgroup: 4_711,
        uid: 1_000,
        count,
        first: at,
        last: at,
    }
}

fn conflict(protocol: &str, port: u16, count: u64) -> PortConflict {
    let PortFailure { netns, process, cgroup, uid, first, last, .. } = failure(0, 0);
    PortConflict {
        netns,
        protocol: protocol.to_owned(),
        address: "0.0.0.0".parse().unwrap(),
        port,
        process,
        cgroup,
        uid,
        count,
        first,
        last,
        holders: Vec::new(),
    }
}

fn space(netns: u32) -> PortSpace {
    PortSpace {
        netns,
        name: None,
        taken_at: Timestamp::from_second(1_799_999_999).unwrap(),
        range: PortRange { low: 40_000, high: 40_999 },
        reserved: 20,
        bound: 30,
        tw_reuse: 2,
        rest: PortRest { sockets: 12, tuples_at_least: 5, most: 4 },
        udp: UdpPorts { sockets: 12, ephemeral: 9, in_use: 7, capacity: 980, used_ratio: 0.007, processes: Vec::new() },
        sources_lost: 0,
    }
}

/// Two namespaces, a destination that runs out of ports, and one that has.
pub(in crate::metrics) fn ports() -> Ports {
    let source = "2001:db8::5".parse().unwrap();
    Ports {
        taken_at: Some(Timestamp::from_second(1_799_999_999).unwrap()),
        namespaces: vec![
            space(HOST),
            PortSpace { name: Some("blue".to_owned()), ..space(5) },
            PortSpace { name: Some("process 77".to_owned()), ..space(6) },
        ],
        ports: vec![
            PortUse { netns: 5, source, reusable: 250, used_ratio: 1.0, ..row(80, 1_250) },
            PortUse { growth_per_second: Some(2.5), full_in_seconds: Some(100.0), ..row(443, 750) },
            row(53, 3),
        ],
        bind_pools: vec![BindPoolUse { netns: HOST, source, in_use: 780, bound: 30, capacity: 980, used_ratio: 0.75 }],
        failures: vec![failure(8080, 3), PortFailure { source_port: Some(40_001), ..failure(8080, 5) }],
        conflicts: vec![conflict("tcp", 80, 2), conflict("udp", 40_500, 1), conflict("udp", 40_501, 1)],
        conflicts_seen_by: "fexit".to_owned(),
        unread: None,
    }
}

fn text(ports: Ports, series: &mut Series) -> String {
    let mut snapshot = sample::snapshot();
    snapshot.ports = ports.into();
    let mut families = families(&snapshot, series);
    // As the registry does: what has no sample is left out.
    families.retain(|family| !family.get_metric().is_empty());
    let text = TextEncoder::new().encode_to_string(&families).unwrap();
    text.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn before_the_first_census_nothing_is_claimed() {
    assert_eq!(text(Ports::default(), &mut Series::default()), "");
}

#[test]
fn where_refused_calls_of_bind_are_not_seen_there_is_no_count_of_them() {
    let blind = Ports { conflicts: Vec::new(), conflicts_seen_by: "no".to_owned(), ..ports() };
    let text = text(blind, &mut Series::default());
    assert!(
        text.contains("tracker_bind_events_info{hook=\"no\"} 1\n") && !text.contains("tracker_bind_conflicts_total")
    );
}

#[test]
fn failures_stay_counted_when_the_daemon_forgets_who_called() {
    let mut series = Series::default();
    let mut failed = |failures: Vec<PortFailure>| {
        let text = text(Ports { failures, ..ports() }, &mut series);
        let line = text.lines().find(|line| line.contains("failures_total") && line.contains("\"8080\"")).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    assert_eq!([failed(vec![failure(8080, 3)]), failed(Vec::new()), failed(vec![failure(8080, 2)])], [3, 3, 5]);
}

#[test]
fn series_are_bounded_whatever_the_number_of_destinations() {
    let mut all = ports();
    all.ports = (0..1_024).map(|port| row(port, 700)).collect();
    all.failures = (2_000..3_000).map(|port| failure(port, 1)).collect();
    all.bind_pools = vec![all.bind_pools[0].clone(); 64];
    let text = text(all, &mut Series::default());
    let of = |name: &str| text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).count();
    assert_eq!((of("tracker_ports_in_use"), of("tracker_ports_used_ratio")), (32 + 3, 32));
    assert_eq!((of("tracker_port_allocation_failures_total"), of("tracker_bind_ports_in_use")), (65, 32));
    assert!(text.contains(r#"source="other",destination="other",destination_port="other"} 694412"#), "{text}");
    assert!(text.contains("tracker_ports_other_in_use_max{netns=\"4026531840\"} 700\n"));
    assert!(text.contains(r#"failures_total{netns="other",destination="other",destination_port="other"} 968"#));
}
