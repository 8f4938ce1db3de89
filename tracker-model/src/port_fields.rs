//! The figures of local ports: by source and destination, of what `bind()` can choose from, and of a network namespace.

use crate::{
    api::{BindPoolUse, PortSpace, PortUse},
    field::{Field, Metric, Read},
    text::{full_in, growth, or_unknown, until, used},
};

const TUPLE_LABELS: &[&str] = &["netns", "source", "destination", "destination_port"];
const POOL_LABELS: &[&str] = &["netns", "source"];
const NETNS: &[&str] = &["netns"];

type Labels = &'static [&'static str];

const fn count<T>(name: &'static str, labels: Labels, help: &'static str, read: fn(&T) -> Option<u64>) -> Field<T> {
    Field::new(Metric::gauge(name, labels, help), Read::Count(read))
}

const fn number<T>(name: &'static str, labels: Labels, help: &'static str, read: fn(&T) -> Option<f64>) -> Field<T> {
    Field::new(Metric::gauge(name, labels, help), Read::Number(read))
}

/// From one source address to one destination.
pub static TUPLE: &[Field<PortUse>] = &[
    count(
        "tracker_ports_in_use",
        TUPLE_LABELS,
        "Local ports of the range in use to this destination, those in TIME_WAIT included: the worst destinations, and \
         the rest in source=\"other\".",
        |row: &PortUse| Some(row.in_use.into()),
    )
    .column("IN-USE"),
    count("tracker_ports_time_wait", TUPLE_LABELS, "Ports in use that are in TIME_WAIT.", |row: &PortUse| {
        Some(row.time_wait.into())
    })
    .column("TIME-WAIT"),
    count(
        "tracker_ports_reusable",
        TUPLE_LABELS,
        "Ports in TIME_WAIT that a new connection may take, as net.ipv4.tcp_tw_reuse is set.",
        |row: &PortUse| Some(row.reusable.into()),
    )
    .column("REUSABLE"),
    count(
        "tracker_ports_capacity",
        TUPLE_LABELS,
        "Local ports that a connect() to this destination can choose from, those in use included.",
        |row: &PortUse| Some(row.capacity.into()),
    )
    .column("CAPACITY"),
    number(
        "tracker_ports_used_ratio",
        TUPLE_LABELS,
        "Share of the capacity that no new connection can have, 0 to 1: in use less reusable; at 1 every connect() \
         fails.",
        |row: &PortUse| Some(row.used_ratio),
    )
    .column("USED%")
    .cell(|row| used(row.used_ratio)),
    number(
        "tracker_ports_growth_per_second",
        TUPLE_LABELS,
        "Growth of the ports in use less those that are reusable over the last minute, ports per second, an estimate; \
         absent while it is not known.",
        |row: &PortUse| row.growth_per_second,
    )
    .column("GROWTH/S")
    .cell(|row| or_unknown(row.growth_per_second, growth)),
    number(
        "tracker_ports_full_seconds",
        TUPLE_LABELS,
        "Time until no port is left if growth goes on, an estimate; absent when it does not come to that within the \
         hour.",
        |row: &PortUse| row.full_in_seconds,
    )
    .column("FULL-IN")
    .cell(|row| or_unknown(row.full_in_seconds, |seconds| full_in(seconds, row.used_ratio))),
    Field::shown(Read::Count(|row: &PortUse| Some(row.failures))).column("FAILED"),
    Field::shown(Read::Count(|row: &PortUse| Some(row.bound.into()))).wide("BOUND"),
    Field::shown(Read::Count(|row: &PortUse| Some(row.recyclable.into()))).wide("RECYCLABLE"),
    Field::shown(Read::Number(|row: &PortUse| row.next_free_seconds))
        .wide("NEXT-FREE")
        .cell(|row| or_unknown(row.next_free_seconds, until)),
];

/// What `bind()` to an address with port 0 can choose from.
pub static POOL: &[Field<BindPoolUse>] = &[
    count(
        "tracker_bind_ports_in_use",
        POOL_LABELS,
        "Ports of the range that any socket holds on this local address: the worst addresses.",
        |pool: &BindPoolUse| Some(pool.in_use.into()),
    )
    .column("IN-USE"),
    count(
        "tracker_bind_ports_bound",
        POOL_LABELS,
        "Those of them that bind() took, and not connect().",
        |pool: &BindPoolUse| Some(pool.bound.into()),
    )
    .column("BOUND"),
    count(
        "tracker_bind_ports_capacity",
        POOL_LABELS,
        "Ports that a bind() to this address with port 0 can choose from, those in use included.",
        |pool: &BindPoolUse| Some(pool.capacity.into()),
    )
    .column("CAPACITY"),
    number(
        "tracker_bind_ports_used_ratio",
        POOL_LABELS,
        "Share of them in use, 0 to 1; at 1 every such bind() fails.",
        |pool: &BindPoolUse| Some(pool.used_ratio),
    )
    .column("USED%")
    .cell(|pool| used(pool.used_ratio)),
];

/// What holds for all destinations of a network namespace.
pub static NAMESPACE: &[Field<PortSpace>] = &[
    count(
        "tracker_port_range_ports",
        NETNS,
        "Ports of net.ipv4.ip_local_port_range, reserved ones included.",
        |space| Some(space.range.ports()),
    ),
    count(
        "tracker_port_range_reserved_ports",
        NETNS,
        "Ports of the range that net.ipv4.ip_local_reserved_ports takes out.",
        |space| Some(space.reserved.into()),
    ),
    count(
        "tracker_port_range_bound_ports",
        NETNS,
        "Other ports of the range that no connect() can choose, because they are bound by bind().",
        |space| Some(space.bound.into()),
    ),
    number(
        "tracker_ports_timestamp_seconds",
        NETNS,
        "When the ports of this network namespace were last counted, seconds since 1970.",
        |space| Some(space.taken_at.as_duration().as_secs_f64()),
    ),
    count(
        "tracker_bind_ports_uncounted_sockets",
        NETNS,
        "Sockets whose local address was not counted because the table was full: with any of them the figures of \
         bind() are lower bounds.",
        |space| Some(space.sources_lost),
    ),
    count("tracker_udp_sockets", NETNS, "UDP sockets with a local port.", |space| Some(space.udp.sockets)),
    count(
        "tracker_udp_ports_in_use",
        NETNS,
        "Ports of the range that UDP sockets hold; they are apart from those of TCP.",
        |space| Some(space.udp.in_use.into()),
    ),
    count("tracker_udp_ports_capacity", NETNS, "Ports of the range that are not reserved.", |space| {
        Some(space.udp.capacity.into())
    }),
    number("tracker_udp_ports_used_ratio", NETNS, "Share of them that UDP sockets hold, 0 to 1.", |space| {
        Some(space.udp.used_ratio)
    }),
];
