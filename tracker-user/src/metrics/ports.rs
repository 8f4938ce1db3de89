//! Local ports by source and destination, the calls that found none, and the ports that `bind()` chooses from. No
//! process and no ephemeral port is ever a label.

use std::{collections::BTreeMap, net::IpAddr};

use crate::metrics::series::{FailureSeries, OtherTuples, TupleSeries};
use prometheus::proto::MetricFamily;
use tracker_model::{
    Snapshot,
    api::{BindPoolUse, PortConflict, PortSpace, PortUse, Ports},
    port_fields::{NAMESPACE, POOL, TUPLE},
};

use super::family::{self, Fill as _, Metric, Samples, Table};

const NETNS: &[&str] = &["netns"];

/// Sources whose ports of `bind()` have series of their own: the worst.
const SOURCES: usize = 32;
/// Stands for all that have none.
const OTHER: &str = "other";

static OTHER_TUPLES: Metric = Metric::gauge(
    "tracker_ports_other_tuples",
    NETNS,
    "Pairs of source and destination without series of their own, at least.",
);
static OTHER_MAX: Metric = Metric::gauge(
    "tracker_ports_other_in_use_max",
    NETNS,
    "No destination without series of its own has more ports in use than this.",
);
static FAILURES: Metric = Metric::counter(
    "tracker_port_allocation_failures_total",
    &["netns", "destination", "destination_port"],
    "Calls of connect() that found no local port for this destination, and the rest in destination=\"other\".",
);
static CONFLICTS: Metric = Metric::counter(
    "tracker_bind_conflicts_total",
    &["netns", "protocol", "address", "port"],
    "Calls of bind() that failed because the port is held, and the rest in address=\"other\"; absent where such calls are \
     not seen.",
);
static BIND_EVENTS: Metric = Metric::gauge(
    "tracker_bind_events_info",
    &["hook"],
    "How calls of bind() that fail are seen: fexit, tracepoints or no; always 1.",
);
static SETTINGS: Metric = Metric::gauge(
    "tracker_port_range_info",
    &["netns", "name", "low", "high", "tw_reuse"],
    "Name of the network namespace in /run/netns, if it has one, its range of local ports and net.ipv4.tcp_tw_reuse; \
     always 1.",
);

/// The metrics of this file.
pub(super) fn metrics() -> impl Iterator<Item = &'static Metric> {
    let of_calls = [&FAILURES, &CONFLICTS, &BIND_EVENTS, &SETTINGS];
    let of_tuples = family::metrics(TUPLE).chain([&OTHER_TUPLES, &OTHER_MAX]);
    of_tuples.chain(of_calls).chain(family::metrics(NAMESPACE)).chain(family::metrics(POOL))
}

/// Network namespace, destination, destination port.
type Destination = (u32, IpAddr, u16);
/// Source and process.
type Caller = (Option<IpAddr>, u32);

/// Network namespace, protocol, address and port that `bind()` was called for. There is no port when the kernel may
/// give it to any `connect()`: a program that tries such ports tries many.
type Bound = (u32, &'static str, IpAddr, Option<u16>);

/// What must be remembered from scrape to scrape.
#[derive(Default)]
pub(super) struct Series {
    tuples: TupleSeries,
    failures: FailureSeries<Destination, Caller>,
    conflicts: FailureSeries<Bound, u32>,
}

/// The families of this file.
pub(super) fn families(snapshot: &Snapshot, series: &mut Series) -> Vec<MetricFamily> {
    let ports = &snapshot.ports;
    let tuples = series.tuples.update(ports);
    // A port that the process chose itself and that is taken says nothing about how many are free.
    let failed = ports.failures.iter().filter(|failure| failure.source_port.is_none()).map(|failure| {
        let destination = (failure.netns, failure.destination, failure.destination_port);
        (destination, (failure.source, failure.process.pid), failure.count)
    });
    series.failures.update(snapshot.uptime, failed);
    let refused = ports.conflicts.iter().map(|conflict| (bound(ports, conflict), conflict.process.pid, conflict.count));
    series.conflicts.update(snapshot.uptime, refused);
    let mut families = self::tuples(&tuples.own, &tuples.others);
    // Before the first census it is not known that none failed.
    if ports.taken_at.is_some() {
        families.push(failures(&series.failures, &tuples.own));
        families.extend(conflicts(&series.conflicts, &ports.conflicts_seen_by));
    }
    families.extend(spaces(&ports.namespaces));
    families.extend(pools(&ports.bind_pools));
    families
}

fn tuples(own: &[&PortUse], others: &[OtherTuples]) -> Vec<MetricFamily> {
    let mut table = Table::new(TUPLE);
    for row in own {
        let labels = [
            row.netns.to_string(),
            row.source.to_string(),
            row.destination.to_string(),
            row.destination_port.to_string(),
        ];
        table.add(&labels.each_ref().map(String::as_str), *row);
    }
    let [mut number, mut most] = [&OTHER_TUPLES, &OTHER_MAX].map(Metric::samples);
    for other in others {
        let netns = other.netns.to_string();
        // The first field; the others have no sum that would mean anything.
        table.add_sums(&[&netns, OTHER, OTHER, OTHER], &[vec![other.in_use]]);
        number.count(&[&netns], other.tuples_at_least);
        most.count(&[&netns], other.most.into());
    }
    table.families().chain([number, most].map(Samples::family)).collect()
}

/// Destinations that are listed have a series before the first call fails, so that a rate shows it.
fn failures(series: &FailureSeries<Destination, Caller>, listed: &[&PortUse]) -> MetricFamily {
    let mut counts: BTreeMap<_, u64> =
        listed.iter().map(|row| ((row.netns, row.destination, row.destination_port), 0)).collect();
    counts.extend(series.own());
    let mut samples = FAILURES.samples();
    for ((netns, destination, port), count) in counts {
        samples.count(&[&netns.to_string(), &destination.to_string(), &port.to_string()], count);
    }
    samples.count(&[OTHER; 3], series.other());
    samples.family()
}

fn bound(ports: &Ports, conflict: &PortConflict) -> Bound {
    let range = |space: &PortSpace| space.range.low..=space.range.high;
    let space = ports.namespaces.iter().find(|space| space.netns == conflict.netns);
    let is_ephemeral = space.is_some_and(|space| range(space).contains(&conflict.port));
    let protocol = ["tcp", "udp"].into_iter().find(|name| *name == conflict.protocol).unwrap_or(OTHER);
    (conflict.netns, protocol, conflict.address, (!is_ephemeral).then_some(conflict.port))
}

fn conflicts(series: &FailureSeries<Bound, u32>, seen_by: &str) -> Vec<MetricFamily> {
    let [mut samples, mut hook] = [&CONFLICTS, &BIND_EVENTS].map(Metric::samples);
    hook.add(&[seen_by], 1.0);
    if seen_by != "no" {
        for ((netns, protocol, address, port), count) in series.own() {
            let port = port.map_or_else(|| "ephemeral".to_owned(), |port| port.to_string());
            samples.count(&[&netns.to_string(), protocol, &address.to_string(), &port], count);
        }
        samples.count(&[OTHER; 4], series.other());
    }
    [samples, hook].map(Samples::family).into()
}

fn spaces(spaces: &[PortSpace]) -> Vec<MetricFamily> {
    let (mut table, mut settings) = (Table::new(NAMESPACE), SETTINGS.samples());
    for space in spaces {
        let netns = space.netns.to_string();
        let range = [space.range.low, space.range.high].map(|port| port.to_string());
        // What has no name is called by one of its processes, which is no label.
        let name = space.name.as_deref().filter(|name| !name.starts_with("process ")).unwrap_or_default();
        settings.add(&[&netns, name, &range[0], &range[1], &space.tw_reuse.to_string()], 1.0);
        table.add(&[&netns], space);
    }
    table.families().chain([settings.family()]).collect()
}

/// There is no sum of those that have no series: each address has the whole range.
fn pools(pools: &[BindPoolUse]) -> impl Iterator<Item = MetricFamily> {
    let mut table = Table::new(POOL);
    for pool in pools.iter().take(SOURCES) {
        table.add(&[&pool.netns.to_string(), &pool.source.to_string()], pool);
    }
    table.families()
}

#[cfg(test)]
pub(super) mod tests;
