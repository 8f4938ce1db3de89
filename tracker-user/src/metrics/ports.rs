//! Local ports by source and destination, the calls that found none, and the ports that `bind()` chooses from. No
//! process and no ephemeral port is ever a label.

use std::{fmt::Display, net::IpAddr};

use prometheus::proto::MetricFamily;
use tracker_model::{
    Snapshot,
    api::{PortConflict, PortRange, PortSpace, Ports},
    port_fields::{NAMESPACE, POOL, TUPLE},
};

use super::{
    Scrape, Series,
    family::{Metric, Row, Samples, Table, rows},
};

/// Sources whose ports of `bind()` have series of their own: the worst.
const SOURCES: usize = 32;
/// Stands for all that have none.
const OTHER: &dyn Display = &"other";

/// The metrics of this file, beside those of the field tables.
pub(super) static METRICS: &[Row<Scrape>] = rows! { Scrape;
    gauge "tracker_ports_other_tuples" ["netns"]
        "Pairs of source and destination without series of their own, at least."
        => |scrape, samples| for (netns, rest) in scrape.series.tuples.others(&scrape.snapshot.ports) {
            samples.count(&[&netns], rest.tuples_at_least);
        };
    gauge "tracker_ports_other_in_use_max" ["netns"]
        "No destination without series of its own has more ports in use than this."
        => |scrape, samples| for (netns, rest) in scrape.series.tuples.others(&scrape.snapshot.ports) {
            samples.count(&[&netns], rest.most.into());
        };
    counter "tracker_port_allocation_failures_total" ["netns", "destination", "destination_port"]
        "Calls of connect() that found no local port for this destination, and the rest in destination=\"other\"."
        => failures;
    counter "tracker_bind_conflicts_total" ["netns", "protocol", "address", "port"]
        "Calls of bind() that failed because the port is held, and the rest in address=\"other\"; absent where such \
         calls are not seen."
        => conflicts;
    gauge "tracker_bind_events_info" ["hook"]
        "How calls of bind() that fail are seen: fexit, tracepoints or no; always 1."
        => |scrape, samples| if scrape.snapshot.ports.taken_at.is_some() {
            samples.add(&[&scrape.snapshot.ports.conflicts_seen_by], 1.0);
        };
    gauge "tracker_port_range_info" ["netns", "name", "low", "high", "tw_reuse"]
        "Name of the network namespace in /run/netns, if it has one, its range of local ports and \
         net.ipv4.tcp_tw_reuse; always 1."
        => |scrape, samples| for space in &scrape.snapshot.ports.namespaces {
            // What has no name is called by one of its processes, which is no label.
            let name = space.name.as_deref().filter(|name| !name.starts_with("process ")).unwrap_or_default();
            let (low, high) = (space.range.low, space.range.high);
            samples.add(&[&space.netns, &name, &low, &high, &space.tw_reuse], 1.0);
        };
};

/// Network namespace, destination, destination port.
pub(super) type Destination = (u32, IpAddr, u16);
/// Source and process.
pub(super) type Caller = (Option<IpAddr>, u32);

/// A range that sockets have set for themselves, as a label: nothing where they have not.
fn own_range(range: Option<PortRange>) -> String {
    range.map_or_else(String::new, |range| range.to_string())
}

/// Network namespace, protocol, address and port that `bind()` was called for. There is no port when the kernel may
/// give it to any `connect()`: a program that tries such ports tries many.
pub(super) type Bound = (u32, &'static str, IpAddr, Option<u16>);

/// Takes in a snapshot.
pub(super) fn update(series: &mut Series, snapshot: &Snapshot) {
    let ports = &snapshot.ports;
    series.tuples.update(ports);
    // A port that the process chose itself and that is taken says nothing about how many are free.
    let failed = ports.failures.iter().filter(|failure| failure.source_port.is_none()).map(|failure| {
        let destination = (failure.netns, failure.destination, failure.destination_port);
        (destination, (failure.source, failure.process.pid), failure.count)
    });
    series.failures.update(snapshot.uptime, failed);
    let refused = ports.conflicts.iter().map(|conflict| (bound(ports, conflict), conflict.process.pid, conflict.count));
    series.conflicts.update(snapshot.uptime, refused);
}

fn bound(ports: &Ports, conflict: &PortConflict) -> Bound {
    let range = |space: &PortSpace| space.range.low..=space.range.high;
    let space = ports.namespaces.iter().find(|space| space.netns == conflict.netns);
    let is_ephemeral = space.is_some_and(|space| range(space).contains(&conflict.port));
    let protocol = ["tcp", "udp"].into_iter().find(|name| *name == conflict.protocol).unwrap_or("other");
    (conflict.netns, protocol, conflict.address, (!is_ephemeral).then_some(conflict.port))
}

/// Destinations that are listed have a series before the first call fails, so that a rate shows it. Before the first
/// census it is not known that none failed.
fn failures(Scrape { snapshot, series }: &Scrape, samples: &mut Samples) {
    if snapshot.ports.taken_at.is_none() {
        return;
    }
    for row in series.tuples.own(&snapshot.ports) {
        samples.count(&[&row.netns, &row.destination, &row.destination_port], 0);
    }
    for ((netns, destination, port), count) in series.failures.own() {
        samples.count(&[&netns, &destination, &port], count);
    }
    samples.count(&[OTHER; 3], series.failures.other());
}

fn conflicts(Scrape { snapshot, series }: &Scrape, samples: &mut Samples) {
    if snapshot.ports.taken_at.is_none() || snapshot.ports.conflicts_seen_by == "no" {
        return;
    }
    for ((netns, protocol, address, port), count) in series.conflicts.own() {
        let port = port.map_or_else(|| "ephemeral".to_owned(), |port| port.to_string());
        samples.count(&[&netns, &protocol, &address, &port], count);
    }
    samples.count(&[OTHER; 4], series.conflicts.other());
}

/// The families of the field tables.
pub(super) fn tables(scrape: &Scrape) -> impl Iterator<Item = MetricFamily> + use<> {
    let (ports, series) = (&scrape.snapshot.ports, &scrape.series.tuples);
    let (mut tuples, mut spaces, mut pools) = (Table::new(TUPLE), Table::new(NAMESPACE), Table::new(POOL));
    for row in series.own(ports) {
        let own = own_range(row.local_port_range);
        tuples.add(&[&row.netns, &row.source, &row.destination, &row.destination_port, &own], row);
    }
    for (netns, rest) in series.others(ports) {
        // The first field; the others have no sum that would mean anything.
        tuples.add_sums(&[&netns, OTHER, OTHER, OTHER, &""], &[vec![rest.sockets]]);
    }
    for space in &ports.namespaces {
        spaces.add(&[&space.netns], space);
    }
    // There is no sum of those that have no series: each address has the whole range.
    for pool in ports.bind_pools.iter().take(SOURCES) {
        pools.add(&[&pool.netns, &pool.source], pool);
    }
    tuples.families().chain(spaces.families()).chain(pools.families())
}
