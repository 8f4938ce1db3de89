//! The figures of local ports: by source and destination, of what `bind()` can choose from, and of a network namespace.

use crate::{
    api::{BindPoolUse, PortSpace, PortUse},
    field::{
        Field,
        Read::{Count, Number},
        fields,
    },
    text::{full_in, growth, or_unknown, until, used},
};

const TUPLE_LABELS: &[&str] = &["netns", "source", "destination", "destination_port", "local_port_range"];
const POOL_LABELS: &[&str] = &["netns", "source"];
const NETNS: &[&str] = &["netns"];

/// From one source address to one destination.
pub static TUPLE: &[Field<PortUse>] = fields! { PortUse;
    gauge TUPLE_LABELS "tracker_ports_in_use"
        "Local ports of the range in use to this destination, those in TIME_WAIT included: the worst destinations, and \
         the rest in source=\"other\". With a local_port_range, those of a range that sockets have set for themselves \
         (IP_LOCAL_PORT_RANGE): they are part of the row without."
        => Count(|row| Some(row.in_use.into())), column "IN-USE",
        about "Local ports of the range in use to this destination, those in TIME_WAIT included.";
    gauge TUPLE_LABELS "tracker_ports_time_wait" "Ports in use that are in TIME_WAIT."
        => Count(|row| Some(row.time_wait.into())), column "TIME-WAIT";
    gauge TUPLE_LABELS "tracker_ports_reusable"
        "Ports in TIME_WAIT that a new connection may take, as net.ipv4.tcp_tw_reuse is set."
        => Count(|row| Some(row.reusable.into())), column "REUSABLE";
    gauge TUPLE_LABELS "tracker_ports_capacity"
        "Local ports that a connect() to this destination can choose from, those in use included."
        => Count(|row| Some(row.capacity.into())), column "CAPACITY";
    gauge TUPLE_LABELS "tracker_ports_used_ratio"
        "Share of the capacity that no new connection can have, 0 to 1: in use less reusable; at 1 every connect() \
         fails."
        => Number(|row| Some(row.used_ratio)), column "USED%", cell |row| used(row.used_ratio),
        about "Share of CAPACITY that no new connection can have: IN-USE less REUSABLE; at 100 every connect() fails.";
    gauge TUPLE_LABELS "tracker_ports_growth_per_second"
        "Growth of the ports in use less those that are reusable over the last minute, ports per second, an estimate; \
         absent while it is not known."
        => Number(|row| row.growth_per_second), column "GROWTH/S", cell |row| or_unknown(row.growth_per_second, growth),
        about "Growth of IN-USE less REUSABLE over the last minute, ports per second, an estimate.";
    gauge TUPLE_LABELS "tracker_ports_full_seconds"
        "Time until no port is left if growth goes on, an estimate; absent when it does not come to that within the \
         hour."
        => Number(|row| row.full_in_seconds), column "FULL-IN",
        cell |row| or_unknown(row.full_in_seconds, |seconds| full_in(seconds, row.used_ratio)),
        about "Time until none is left if growth goes on, an estimate; `now` when none is, `-` if not within the hour.";
    "Calls of connect() that found no port, since the daemon started."
        => Count(|row| Some(row.failures)), column "FAILED";
    "Ports in use that bind() took." => Count(|row| Some(row.bound.into())), wide "BOUND";
    "Ports in TIME_WAIT that a new connection could take if net.ipv4.tcp_tw_reuse were 1."
        => Count(|row| Some(row.recyclable.into())), wide "RECYCLABLE";
    "Time until the next port in TIME_WAIT is free."
        => Number(|row| row.next_free_seconds), wide "NEXT-FREE", cell |row| or_unknown(row.next_free_seconds, until);
};

/// What `bind()` to an address with port 0 can choose from.
pub static POOL: &[Field<BindPoolUse>] = fields! { BindPoolUse;
    gauge POOL_LABELS "tracker_bind_ports_in_use"
        "Ports of the range that any socket holds on this local address: the worst addresses."
        => Count(|pool| Some(pool.in_use.into())), column "IN-USE", about "Ports of the range in use on this address.";
    gauge POOL_LABELS "tracker_bind_ports_bound" "Those of them that bind() took, and not connect()."
        => Count(|pool| Some(pool.bound.into())), column "BOUND";
    gauge POOL_LABELS "tracker_bind_ports_capacity"
        "Ports that a bind() to this address with port 0 can choose from, those in use included."
        => Count(|pool| Some(pool.capacity.into())), column "CAPACITY";
    gauge POOL_LABELS "tracker_bind_ports_used_ratio" "Share of them in use, 0 to 1; at 1 every such bind() fails."
        => Number(|pool| Some(pool.used_ratio)), column "USED%", cell |pool| used(pool.used_ratio),
        about "Share of them in use; at 100 every such bind() fails.";
    gauge POOL_LABELS "tracker_bind_ports_growth_per_second"
        "Growth of the ports in use on this address over the last minute, ports per second, an estimate; absent while \
         it is not known, and while bind() took less than a tenth of them."
        => Number(|pool| pool.growth_per_second), column "GROWTH/S",
        cell |pool| or_unknown(pool.growth_per_second, growth);
    gauge POOL_LABELS "tracker_bind_ports_full_seconds"
        "Time until no port of this address is left for bind() if growth goes on, an estimate; absent when it does not \
         come to that within the hour."
        => Number(|pool| pool.full_in_seconds), column "FULL-IN",
        cell |pool| or_unknown(pool.full_in_seconds, |seconds| full_in(seconds, pool.used_ratio));
};

/// What holds for all destinations of a network namespace.
pub static NAMESPACE: &[Field<PortSpace>] = fields! { PortSpace;
    gauge NETNS "tracker_port_range_ports" "Ports of net.ipv4.ip_local_port_range, reserved ones included."
        => Count(|space| Some(space.range.ports()));
    gauge NETNS "tracker_port_range_reserved_ports"
        "Ports of the range that net.ipv4.ip_local_reserved_ports takes out."
        => Count(|space| Some(space.reserved.into()));
    gauge NETNS "tracker_port_range_bound_ports"
        "Other ports of the range that no connect() can choose, because they are bound by bind()."
        => Count(|space| Some(space.bound.into()));
    gauge NETNS "tracker_ports_timestamp_seconds"
        "When the ports of this network namespace were last counted, seconds since 1970."
        => Number(|space| Some(space.taken_at.as_duration().as_secs_f64()));
    gauge NETNS "tracker_bind_ports_uncounted_sockets"
        "Sockets whose local address was not counted because the table was full: with any of them the figures of \
         bind() are lower bounds."
        => Count(|space| Some(space.sources_lost));
    gauge NETNS "tracker_udp_sockets" "UDP sockets with a local port." => Count(|space| Some(space.udp.sockets));
    gauge NETNS "tracker_udp_ports_in_use"
        "Ports of the range that UDP sockets hold; they are apart from those of TCP."
        => Count(|space| Some(space.udp.in_use.into()));
    gauge NETNS "tracker_udp_ports_capacity" "Ports of the range that are not reserved."
        => Count(|space| Some(space.udp.capacity.into()));
    gauge NETNS "tracker_udp_ports_used_ratio" "Share of them that UDP sockets hold, 0 to 1."
        => Number(|space| Some(space.udp.used_ratio));
    gauge NETNS "tracker_udp_ports_ipv4_in_use"
        "Those in use that an IPv4 socket cannot have: all but those of sockets with IPV6_V6ONLY."
        => Count(|space| Some(space.udp.ipv4_in_use.into()));
    gauge NETNS "tracker_udp_ports_growth_per_second"
        "Growth of the ports that UDP sockets hold over the last minute, ports per second, an estimate; absent while \
         it is not known."
        => Number(|space| space.udp.growth_per_second);
    gauge NETNS "tracker_udp_ports_full_seconds"
        "Time until no port is left for a UDP socket if growth goes on, an estimate; absent when it does not come to \
         that within the hour."
        => Number(|space| space.udp.full_in_seconds);
    gauge NETNS "tracker_ports_unranged_sockets"
        "Sockets with a range of their own (IP_LOCAL_PORT_RANGE) that is not counted because the table was full."
        => Count(|space| Some(space.ranges_lost));
};
