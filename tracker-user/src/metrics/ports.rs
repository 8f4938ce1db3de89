//! Local ports by source and destination, the failures for want of one, and the ports that `bind()` chooses from. No process
//! and no ephemeral port is ever a label.

use std::{collections::BTreeMap, net::IpAddr};

use crate::metrics::series::{FailureSeries, OtherTuples, TupleSeries};
use prometheus::proto::MetricFamily;
use tracker_model::{
    Snapshot,
    api::{BindPoolUse, PortConflict, PortSpace, PortUse, Ports},
};

use super::family::{Fill as _, Metric, Samples, float};

const TUPLE: &[&str] = &["netns", "source", "destination", "destination_port"];
const SOURCE: &[&str] = &["netns", "source"];
const NETNS: &[&str] = &["netns"];

/// Sources whose ports of `bind()` have series of their own: the worst.
const SOURCES: usize = 32;
/// Stands for all that have none.
const OTHER: &str = "other";

static IN_USE: Metric = Metric::gauge(
    "tracker_ports_in_use",
    TUPLE,
    "Local ports of the range in use to this destination, those in TIME_WAIT included: the worst destinations, and the \
     rest in source=\"other\".",
);
static TIME_WAIT: Metric = Metric::gauge("tracker_ports_time_wait", TUPLE, "Ports in use that are in TIME_WAIT.");
static REUSABLE: Metric = Metric::gauge(
    "tracker_ports_reusable",
    TUPLE,
    "Ports in TIME_WAIT that a new connection may take, as net.ipv4.tcp_tw_reuse is set.",
);
static CAPACITY: Metric = Metric::gauge(
    "tracker_ports_capacity",
    TUPLE,
    "Local ports that a connect() to this destination can choose from, those in use included.",
);
static USED: Metric = Metric::gauge(
    "tracker_ports_used_ratio",
    TUPLE,
    "Share of the capacity that no new connection can have: in use less reusable; at 1 every connect() fails.",
);
static GROWTH: Metric = Metric::gauge(
    "tracker_ports_growth_per_second",
    TUPLE,
    "Growth of the ports in use less those that are reusable over the last minute, ports per second; absent while it is \
     not known.",
);
static FULL: Metric = Metric::gauge(
    "tracker_ports_full_seconds",
    TUPLE,
    "Time until no port is left if growth goes on; absent when it does not come to that within the hour.",
);
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
static RANGE: Metric =
    Metric::gauge("tracker_port_range_ports", NETNS, "Ports of net.ipv4.ip_local_port_range, reserved ones included.");
static RESERVED: Metric = Metric::gauge(
    "tracker_port_range_reserved_ports",
    NETNS,
    "Ports of the range that net.ipv4.ip_local_reserved_ports takes out.",
);
static BOUND: Metric = Metric::gauge(
    "tracker_port_range_bound_ports",
    NETNS,
    "Other ports of the range that no connect() can choose, because they are bound by bind().",
);
static SETTINGS: Metric = Metric::gauge(
    "tracker_port_range_info",
    &["netns", "name", "low", "high", "tw_reuse"],
    "Name of the network namespace in /run/netns, if it has one, its range of local ports and net.ipv4.tcp_tw_reuse; \
     always 1.",
);
static TIME: Metric = Metric::gauge(
    "tracker_ports_timestamp_seconds",
    NETNS,
    "When the ports of this network namespace were last counted, seconds since 1970.",
);
static BIND_IN_USE: Metric = Metric::gauge(
    "tracker_bind_ports_in_use",
    SOURCE,
    "Ports of the range that any socket holds on this local address: the worst addresses.",
);
static BIND_BOUND: Metric =
    Metric::gauge("tracker_bind_ports_bound", SOURCE, "Those of them that bind() took, and not connect().");
static BIND_CAPACITY: Metric = Metric::gauge(
    "tracker_bind_ports_capacity",
    SOURCE,
    "Ports that a bind() to this address with port 0 can choose from, those in use included.",
);
static BIND_USED: Metric =
    Metric::gauge("tracker_bind_ports_used_ratio", SOURCE, "Share of them in use; at 1 every such bind() fails.");
static BIND_UNCOUNTED: Metric = Metric::gauge(
    "tracker_bind_ports_uncounted_sockets",
    NETNS,
    "Sockets whose local address was not counted, for want of room: without it the ports of bind() are lower bounds.",
);

static UDP_SOCKETS: Metric = Metric::gauge("tracker_udp_sockets", NETNS, "UDP sockets with a local port.");
static UDP_IN_USE: Metric = Metric::gauge(
    "tracker_udp_ports_in_use",
    NETNS,
    "Ports of the range that UDP sockets hold; they are apart from those of TCP.",
);
static UDP_CAPACITY: Metric =
    Metric::gauge("tracker_udp_ports_capacity", NETNS, "Ports of the range that are not reserved.");
static UDP_USED: Metric = Metric::gauge("tracker_udp_ports_used_ratio", NETNS, "Share of them that UDP sockets hold.");

/// The metrics of this file.
pub(super) static METRICS: [&Metric; 26] = [
    &IN_USE,
    &TIME_WAIT,
    &REUSABLE,
    &CAPACITY,
    &USED,
    &GROWTH,
    &FULL,
    &OTHER_TUPLES,
    &OTHER_MAX,
    &FAILURES,
    &CONFLICTS,
    &BIND_EVENTS,
    &RANGE,
    &RESERVED,
    &BOUND,
    &SETTINGS,
    &TIME,
    &BIND_IN_USE,
    &BIND_BOUND,
    &BIND_CAPACITY,
    &BIND_USED,
    &BIND_UNCOUNTED,
    &UDP_SOCKETS,
    &UDP_IN_USE,
    &UDP_CAPACITY,
    &UDP_USED,
];

/// Network namespace, destination, destination port.
type Destination = (u32, IpAddr, u16);
/// Source and process.
type Caller = (Option<IpAddr>, u32);

/// Network namespace, protocol, address and port that `bind()` was called for. The port is none when the kernel may give it to
/// any `connect()`: whoever tries such ports has many.
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
    // A port that the process chose itself, and that is taken, is no want of ports.
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
    families.extend(pools(ports));
    families.extend(udp(&ports.namespaces));
    families
}

fn tuples(own: &[&PortUse], others: &[OtherTuples]) -> Vec<MetricFamily> {
    let all = [&IN_USE, &TIME_WAIT, &REUSABLE, &CAPACITY, &USED, &GROWTH, &FULL];
    let [mut in_use, mut time_wait, mut reusable, mut capacity, mut used, mut growth, mut full] =
        all.map(Metric::samples);
    for row in own {
        let labels = [
            row.netns.to_string(),
            row.source.to_string(),
            row.destination.to_string(),
            row.destination_port.to_string(),
        ];
        let labels = labels.each_ref().map(String::as_str);
        in_use.count(&labels, row.in_use.into());
        time_wait.count(&labels, row.time_wait.into());
        reusable.count(&labels, row.reusable.into());
        capacity.count(&labels, row.capacity.into());
        used.add(&labels, row.used_ratio);
        if let Some(per_second) = row.growth_per_second {
            growth.add(&labels, per_second);
        }
        if let Some(seconds) = row.full_in_seconds {
            full.add(&labels, seconds);
        }
    }
    let [mut number, mut most] = [&OTHER_TUPLES, &OTHER_MAX].map(Metric::samples);
    for other in others {
        let netns = other.netns.to_string();
        in_use.count(&[&netns, OTHER, OTHER, OTHER], other.in_use);
        number.count(&[&netns], other.tuples_at_least);
        most.count(&[&netns], other.most.into());
    }
    [in_use, time_wait, reusable, capacity, used, growth, full, number, most].map(Samples::family).into()
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
    let all = [&RANGE, &RESERVED, &BOUND, &SETTINGS, &TIME, &BIND_UNCOUNTED];
    let [mut range, mut reserved, mut bound, mut settings, mut time, mut uncounted] = all.map(Metric::samples);
    for space in spaces {
        let netns = space.netns.to_string();
        let (low, high) = (space.range.low, space.range.high);
        range.count(&[&netns], (u64::from(high) + 1).saturating_sub(low.into()));
        reserved.count(&[&netns], space.reserved.into());
        bound.count(&[&netns], space.bound.into());
        // What has no name is called by one of its processes, which is no label.
        let name = space.name.as_deref().filter(|name| !name.starts_with("process ")).unwrap_or_default();
        settings.add(&[&netns, name, &low.to_string(), &high.to_string(), &space.tw_reuse.to_string()], 1.0);
        time.add(&[&netns], space.taken_at.as_duration().as_secs_f64());
        uncounted.count(&[&netns], space.sources_lost);
    }
    [range, reserved, bound, settings, time, uncounted].map(Samples::family).into()
}

/// There is no sum of those that have no series: each address has the whole range.
fn pools(ports: &Ports) -> [MetricFamily; 4] {
    let all = [&BIND_IN_USE, &BIND_BOUND, &BIND_CAPACITY, &BIND_USED];
    let [mut in_use, mut bound, mut capacity, mut used] = all.map(Metric::samples);
    for pool in ports.bind_pools.iter().take(SOURCES) {
        let BindPoolUse { netns, source, .. } = pool;
        let labels = [netns.to_string(), source.to_string()];
        let labels = labels.each_ref().map(String::as_str);
        for (samples, count) in [(&mut in_use, pool.in_use), (&mut bound, pool.bound), (&mut capacity, pool.capacity)] {
            samples.add(&labels, float(count.into()));
        }
        used.add(&labels, pool.used_ratio);
    }
    [in_use, bound, capacity, used].map(Samples::family)
}

fn udp(spaces: &[PortSpace]) -> [MetricFamily; 4] {
    let all = [&UDP_SOCKETS, &UDP_IN_USE, &UDP_CAPACITY, &UDP_USED];
    let [mut sockets, mut in_use, mut capacity, mut used] = all.map(Metric::samples);
    for PortSpace { netns, udp, .. } in spaces {
        let netns = netns.to_string();
        sockets.count(&[&netns], udp.sockets);
        in_use.count(&[&netns], udp.in_use.into());
        capacity.count(&[&netns], udp.capacity.into());
        used.add(&[&netns], udp.used_ratio);
    }
    [sockets, in_use, capacity, used].map(Samples::family)
}

#[cfg(test)]
pub(super) mod tests;
