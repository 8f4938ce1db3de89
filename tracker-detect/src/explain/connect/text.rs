//! What an operator reads where `connect()` finds few ports or none.

use std::fmt::Write;

use super::port_table::{PortCounts, PortTable, Tuple};
use crate::{
    advice,
    explain::processes,
    ports::{PortSettings, TwReuse},
};
use tracker_model::explain::{ConnectRule, SocketObservation, TcpState};
use tracker_model::{
    api::{PortHolder, PortRange},
    text::counted,
};

/// One line.
pub(super) fn summary(tuple: Tuple, counts: &PortCounts, own: Option<PortRange>) -> String {
    let Tuple { source, destination } = tuple;
    let PortCounts { free, capacity, .. } = counts;
    let with = own.map_or_else(String::new, |range| format!(" with IP_LOCAL_PORT_RANGE {range}"));
    let call = format!("connect() from {source} to {destination}{with}");
    if *free > 0 {
        return format!("{call} finds a port: {free} of {capacity} are free");
    }
    if counts.one_end_free {
        return format!("{call} may fail: one port is left and may be passed over");
    }
    let mut line = format!("{call} fails (EADDRNOTAVAIL): ");
    if *capacity == 0 {
        line.push_str("net.ipv4.ip_local_reserved_ports leaves no port of the range");
        return line;
    }
    let _ = write!(line, "none of {} is free", counted(u64::from(*capacity), "port"));
    let parts: Vec<String> = counts.held.iter().map(|(rule, ports)| format!("{ports} {}", name(*rule))).collect();
    let _ = write!(line, " ({})", parts.join(", "));
    line
}

const fn name(rule: ConnectRule) -> &'static str {
    match rule {
        ConnectRule::Connected => "connected",
        ConnectRule::TimeWait => "in TIME_WAIT",
        ConnectRule::Bound => "taken by bind()",
    }
}

/// What to do: nothing while at least a fifth of the ports is free.
pub(super) fn advice(ports: &PortTable<'_>, counts: &PortCounts, settings: &PortSettings) -> Vec<String> {
    if !is_short(counts) {
        return Vec::new();
    }
    let recyclable = count(ports.would_recycle());
    let now = count(ports.would_recycle().filter(|socket| socket.recyclable));
    let half_closed = || ports.of_tuple().filter(|socket| socket.state == TcpState::CloseWait);
    let who = processes(half_closed());
    let [waiting, bound] = [ConnectRule::TimeWait, ConnectRule::Bound].map(|rule| counts.held_by(rule));
    let of_processes = ports.of_tuple().flat_map(|socket| &socket.processes);
    let by_clients = || ports.of_bound().any(|socket| !socket.listens());
    let all = [
        // tcp_tw_reuse is not in force for this destination, and these have timestamps.
        (recyclable > 0).then(|| advice::reuse(now, recyclable - now)),
        (count(half_closed()) > 0).then(|| advice::close_wait(count(half_closed()), who.as_deref())),
        (waiting > 0 && waiting >= (counts.capacity - counts.free) / 4).then(|| advice::keep_alive(waiting)),
        // Ports that bind() took serve one connection at a time, to whatever destination.
        (bound > 0).then(|| advice::bound(bound, Some(by_clients()), processes(ports.of_bound()).as_deref())),
        match ports.own() {
            Some(own) => Some(advice::widen_own(own, PortHolder::count(of_processes, 1).first())),
            None => advice::widen(settings.range()),
        },
        advice::reserved(ports.settings.reserved_in_range()),
        // All other ports are counted for each source and destination.
        counts.held.keys().any(|rule| *rule != ConnectRule::Bound).then(|| advice::MORE_ADDRESSES.to_owned()),
    ];
    all.into_iter().flatten().collect()
}

const fn is_short(counts: &PortCounts) -> bool {
    counts.free == 0 || counts.free < counts.capacity / 5
}

fn count<'a>(sockets: impl Iterator<Item = &'a SocketObservation>) -> u32 {
    sockets.count().try_into().unwrap_or(u32::MAX)
}

/// What else helps to know.
pub(super) fn notes(ports: &PortTable<'_>, counts: &PortCounts) -> Vec<String> {
    let (mut notes, settings) = (Vec::new(), &ports.settings);
    let waiting = || ports.of_tuple().filter(|socket| socket.state == TcpState::TimeWait);
    let stampless = waiting().filter(|socket| !socket.timestamps).count();
    if stampless > 0 && is_short(counts) {
        notes.push(format!(
            "{} in TIME_WAIT without timestamps: net.ipv4.tcp_tw_reuse never frees these; both sides need \
             net.ipv4.tcp_timestamps=1.",
            counted(stampless as u64, "connection")
        ));
    }
    if counts.one_end_free {
        notes.push(format!(
            "The range has an odd number of ports, {} to {}: connect() passes over one end of it, and which one is not \
             known.",
            settings.low, settings.high
        ));
    }
    if settings.tw_reuse == TwReuse::Loopback && ports.tuple.is_loopback() && counts.reusable > 0 {
        notes.push("net.ipv4.tcp_tw_reuse=2 lets connect() take TIME_WAIT ports of loopback only.".to_owned());
    }
    if ports.of_tuple().any(|socket| socket.bucket.is_none() && bucket_matters(socket)) {
        notes.push("Which ports bind() took is not known for all sockets: fewer may be free.".to_owned());
    }
    notes
}

/// Whether only the bucket says that `bind()` took the port.
const fn bucket_matters(socket: &SocketObservation) -> bool {
    !matches!(socket.state, TcpState::Listen | TcpState::Bound | TcpState::HalfOpen)
}
