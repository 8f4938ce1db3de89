//! Whether a `connect()` would find a local port: `port_table` counts, `text` puts it into words. What `bind()` does
//! belongs to `bind`.

mod own_ranges;
mod port_table;
mod text;

use std::{
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
};

use crate::ports::PortSettings;
use tracker_model::explain::{Cause, ConnectAnswer, ConnectRule, SocketObservation};
use tracker_model::process::PortHolder;

use self::{
    own_ranges::OwnRanges,
    port_table::{PortCounts, PortTable, Tuple},
};

/// Processes shown.
const PROCESSES: usize = 5;

/// Whether a `connect()` that leaves the port to the kernel would find one now, and what holds the ports.
///
/// `sockets` are the TCP sockets of the namespace: those with this source and destination, and those that were bound to
/// ports of the range; others change nothing. Mapped addresses are given as IPv4. Where every open connection has set
/// the same range for itself (`IP_LOCAL_PORT_RANGE`), the answer is for a socket that sets it too.
#[must_use]
pub fn explain_connect(
    source: IpAddr,
    destination: SocketAddr,
    sockets: &[SocketObservation],
    settings: &PortSettings,
) -> ConnectAnswer {
    let source = source.to_canonical();
    let tuple = Tuple { source, destination: SocketAddr::new(destination.ip().to_canonical(), destination.port()) };
    let ranges = OwnRanges::of(tuple, sockets, settings);
    let own = ranges.of_all();
    let ports = PortTable::new(tuple, sockets, settings, own);
    let counts = ports.counts();
    let would_fail = counts.free == 0 && !counts.one_end_free;
    ConnectAnswer {
        source,
        destination: tuple.destination.ip(),
        destination_port: destination.port(),
        local_port_range: own,
        capacity: counts.capacity,
        in_use: ports.in_use(),
        held: counts.capacity - counts.free,
        reusable: counts.reusable,
        free_ports: counts.free,
        would_fail,
        next_free_seconds: counts.next_free.map(|next| next.as_secs_f64()),
        causes: causes(&counts),
        processes: PortHolder::count(ports.of_tuple().flat_map(|socket| &socket.processes), PROCESSES),
        summary: text::summary(tuple, &counts, own),
        advice: text::advice(&ports, &counts, settings),
        notes: [ranges.notes(tuple, sockets, settings), text::notes(&ports, &counts)].concat(),
    }
}

fn causes(counts: &PortCounts) -> Vec<Cause> {
    let cause = |(rule, ports): (&ConnectRule, &u32)| Cause {
        rule: *rule,
        ports: *ports,
        why: rule.to_string(),
        kernel: rule.kernel().to_owned(),
    };
    let mut causes: Vec<Cause> = counts.held.iter().map(cause).collect();
    causes.sort_by_key(|cause| Reverse(cause.ports));
    causes
}
