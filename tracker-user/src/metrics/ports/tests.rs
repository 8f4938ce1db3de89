use tracker_fixtures as sample;
use tracker_model::api::PortFailure;

use super::*;
use crate::metrics::family::tests::value;

/// Those of the fixture in three namespaces, with calls that do not count and conflicts of ephemeral ports.
pub(in crate::metrics) fn ports() -> Ports {
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
    ports
}

fn filled(ports: Ports, series: &mut Series) -> Vec<MetricFamily> {
    let mut snapshot = sample::snapshot();
    snapshot.ports = ports.into();
    families(&snapshot, series)
}

fn rows(families: &[MetricFamily], name: &str) -> usize {
    families.iter().find(|family| family.name() == name).map_or(0, |family| family.get_metric().len())
}

#[test]
fn before_the_first_census_nothing_is_claimed() {
    let families = filled(Ports::default(), &mut Series::default());
    assert!(families.iter().all(|family| family.get_metric().is_empty()));
}

#[test]
fn where_refused_calls_of_bind_are_not_seen_there_is_no_count_of_them() {
    let blind = Ports { conflicts: Vec::new(), conflicts_seen_by: "no".to_owned(), ..ports() };
    let families = filled(blind, &mut Series::default());
    assert_eq!(value(&families, "tracker_bind_events_info", &["no"]), Some(1.0));
    assert_eq!(rows(&families, "tracker_bind_conflicts_total"), 0);
}

#[test]
fn failures_stay_counted_when_the_daemon_forgets_who_called() {
    let (mut series, failure) = (Series::default(), ports().failures[0].clone());
    let labels = [failure.netns.to_string(), failure.destination.to_string(), failure.destination_port.to_string()];
    let mut failed = |count: Option<u64>| {
        let failures = count.map(|count| PortFailure { count, ..failure.clone() }).into_iter().collect();
        let families = filled(Ports { failures, ..ports() }, &mut series);
        value(&families, "tracker_port_allocation_failures_total", &labels.each_ref().map(String::as_str))
    };
    assert_eq!([failed(Some(3)), failed(None), failed(Some(2))], [3.0, 3.0, 5.0].map(Some));
}

#[test]
fn series_are_bounded_whatever_the_number_of_destinations() {
    let mut all = ports();
    let (tuple, failure) = (all.ports[0].clone(), all.failures[0].clone());
    all.ports = (0..1_024).map(|port| PortUse { destination_port: port, in_use: 700, ..tuple.clone() }).collect();
    let failing = 2_000..3_000;
    all.failures = failing.map(|port| PortFailure { destination_port: port, count: 1, ..failure.clone() }).collect();
    all.bind_pools = vec![all.bind_pools[0].clone(); 64];
    let rest = all.namespaces[0].rest.sockets;
    let families = filled(all, &mut Series::default());
    assert_eq!(rows(&families, "tracker_ports_in_use"), 32 + 3, "the rest of each namespace");
    assert_eq!((rows(&families, "tracker_ports_used_ratio"), rows(&families, "tracker_bind_ports_in_use")), (32, 32));
    assert_eq!(rows(&families, "tracker_port_allocation_failures_total"), 65);
    let netns = tuple.netns.to_string();
    let others = value(&families, "tracker_ports_in_use", &[&netns, OTHER, OTHER, OTHER]);
    assert_eq!(others, Some(family::float((1_024 - 32) * 700 + rest)));
    assert_eq!(value(&families, "tracker_ports_other_in_use_max", &[&netns]), Some(700.0));
    assert_eq!(value(&families, "tracker_port_allocation_failures_total", &[OTHER; 3]), Some(968.0));
}
