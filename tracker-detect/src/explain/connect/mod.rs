//! Whether a `connect()` would find a local port.

mod port_table;
mod text;

use std::{
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
};

use crate::ports::PortSettings;
use tracker_model::explain::{Cause, ConnectAnswer, ConnectRule, SocketSeen};

use self::port_table::{Ports, Tally, Tuple};

/// Whether a `connect()` that leaves the port to the kernel would find one now, and what holds the ports.
///
/// `sockets` are the TCP sockets of the namespace: those with this source and destination, and those that were bound to
/// ports of the range; others change nothing. Mapped addresses are given as IPv4.
#[must_use]
pub fn explain_connect(
    source: IpAddr,
    destination: SocketAddr,
    sockets: &[SocketSeen],
    settings: &PortSettings,
) -> ConnectAnswer {
    let source = source.to_canonical();
    let tuple = Tuple { source, destination: SocketAddr::new(destination.ip().to_canonical(), destination.port()) };
    let ports = Ports::new(tuple, sockets, settings);
    let tally = ports.tally(settings);
    let would_fail = tally.free == 0 && !tally.one_end_free;
    ConnectAnswer {
        source,
        destination: tuple.destination.ip(),
        destination_port: destination.port(),
        capacity: tally.capacity,
        in_use: ports.in_use(),
        held: tally.capacity - tally.free,
        reusable: tally.reusable,
        free_ports: tally.free,
        would_fail,
        next_free_seconds: tally.next_free.map(|next| next.as_secs_f64()),
        causes: causes(&tally),
        processes: ports.processes(),
        summary: text::summary(tuple, &tally),
        advice: text::advice(&ports, &tally, settings),
        notes: text::notes(&ports, &tally, settings),
    }
}

fn causes(tally: &Tally) -> Vec<Cause> {
    let cause = |(rule, ports): (&ConnectRule, &u32)| Cause {
        rule: *rule,
        ports: *ports,
        why: rule.sentence().to_owned(),
        kernel: rule.kernel().to_owned(),
    };
    let mut causes: Vec<Cause> = tally.held.iter().map(cause).collect();
    causes.sort_by_key(|cause| Reverse(cause.ports));
    causes
}
