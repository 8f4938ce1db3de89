//! What an operator reads where `connect()` finds few ports or none.

use std::fmt::Write;

use super::{
    connect::{Ports, Tally, Tuple},
    text,
};
use crate::ports::{PortSettings, TwReuse};
use tracker_model::explain::{ConnectRule, SocketSeen, TcpState};
use tracker_model::text::counted;

/// Ports below this are for services.
const FIRST_EPHEMERAL: u16 = 1_024;

/// One line.
pub(super) fn summary(tuple: Tuple, tally: &Tally) -> String {
    let Tuple { source, destination } = tuple;
    let Tally { free, capacity, .. } = tally;
    if *free > 0 {
        return format!("connect() from {source} to {destination} finds a port: {free} of {capacity} are free");
    }
    if tally.one_end_free {
        return format!("connect() from {source} to {destination} may fail: one port is left and may be passed over");
    }
    let mut line = format!("connect() from {source} to {destination} fails (EADDRNOTAVAIL): ");
    if *capacity == 0 {
        line.push_str("net.ipv4.ip_local_reserved_ports leaves no port of the range");
        return line;
    }
    let _ = write!(line, "none of {} is free", counted(u64::from(*capacity), "port"));
    let parts: Vec<String> = tally.held.iter().map(|(rule, ports)| format!("{ports} {}", name(*rule))).collect();
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
pub(super) fn advice(ports: &Ports<'_>, tally: &Tally, settings: &PortSettings) -> Vec<String> {
    if !is_short(tally) {
        return Vec::new();
    }
    let mut advice = Vec::new();
    advice.extend(recycle(ports));
    advice.extend(leak(ports));
    advice.extend(keep_alive(tally));
    advice.extend(unbind(ports, tally));
    advice.extend(widen(settings));
    advice.extend(reserved(settings));
    advice.extend(addresses(tally));
    advice
}

const fn is_short(tally: &Tally) -> bool {
    tally.free == 0 || tally.free < tally.capacity / 5
}

/// `tcp_tw_reuse=1`, where it is not on for this destination and the `TIME_WAIT`s have timestamps.
fn recycle(ports: &Ports<'_>) -> Option<String> {
    let all = ports.would_recycle().count();
    let now = ports.would_recycle().filter(|socket| socket.recyclable).count();
    (all > 0).then(|| {
        let mut line =
            format!("sysctl net.ipv4.tcp_tw_reuse=1: connect() may take {now} of the ports in TIME_WAIT now");
        if all > now {
            let _ = write!(line, ", and {} more shortly", all - now);
        }
        line.push('.');
        line
    })
}

/// Connections that the peer has closed and the process has not.
fn leak(ports: &Ports<'_>) -> Option<String> {
    let waiting = || ports.of_tuple().filter(|socket| socket.state == TcpState::CloseWait);
    let count = waiting().count();
    let who = text::processes(waiting()).unwrap_or_else(|| "the process".to_owned());
    (count > 0).then(|| {
        format!("{} in CLOSE_WAIT: {who} must close what the peer has closed.", counted(count as u64, "connection"))
    })
}

/// Where `TIME_WAIT` is a good part of it.
fn keep_alive(tally: &Tally) -> Option<String> {
    let waiting = tally.held.get(&ConnectRule::TimeWait).copied().unwrap_or_default();
    (waiting > 0 && waiting >= (tally.capacity - tally.free) / 4).then(|| {
        "Keep connections and use them again (keep-alive, a pool), or let the peer close first: then TIME_WAIT is on its \
         side."
            .to_owned()
    })
}

/// Ports that `bind()` took serve one connection at a time, to whatever destination.
fn unbind(ports: &Ports<'_>, tally: &Tally) -> Option<String> {
    let bound = tally.held.get(&ConnectRule::Bound).copied().filter(|bound| *bound > 0)?;
    let callers = || ports.of_bound().filter(|socket| !socket.listens());
    let mut line = format!("{} taken by bind(), for all destinations at once: ", counted(u64::from(bound), "port"));
    line.push_str(if callers().next().is_some() {
        "connect without bind(), or set IP_BIND_ADDRESS_NO_PORT before bind() to an address with port 0"
    } else {
        "move the servers that listen there out of net.ipv4.ip_local_port_range"
    });
    if let Some(who) = text::processes(ports.of_bound()) {
        let _ = write!(line, "; they are of {who}");
    }
    line.push('.');
    Some(line)
}

fn widen(settings: &PortSettings) -> Option<String> {
    let (low, high) = (settings.low, settings.high);
    let more = u32::from(low.saturating_sub(FIRST_EPHEMERAL)) + u32::from(u16::MAX - high);
    let wide = low.min(FIRST_EPHEMERAL);
    (more > 0).then(|| {
        format!(
            "Widen the range by up to {}: sysctl net.ipv4.ip_local_port_range=\"{wide} 65535\" (now {low} to {high}); \
             reserve the ports of your servers first.",
            counted(u64::from(more), "port")
        )
    })
}

fn reserved(settings: &PortSettings) -> Option<String> {
    let reserved = settings.reserved_in_range();
    (reserved > 0).then(|| {
        format!(
            "{} of the range reserved: shorten net.ipv4.ip_local_reserved_ports if it can be.",
            counted(u64::from(reserved), "port")
        )
    })
}

/// Ports are counted for each source and destination, except those that `bind()` took.
fn addresses(tally: &Tally) -> Option<String> {
    let per_tuple = |rule: &ConnectRule| *rule != ConnectRule::Bound;
    tally.held.keys().any(per_tuple).then(|| {
        "Each further source address, destination address or destination port has all these ports anew: add a source \
         address, or spread over more destinations."
            .to_owned()
    })
}

/// What else is good to know.
pub(super) fn notes(ports: &Ports<'_>, tally: &Tally, settings: &PortSettings) -> Vec<String> {
    let mut notes = Vec::new();
    let waiting = || ports.of_tuple().filter(|socket| socket.state == TcpState::TimeWait);
    let stampless = waiting().filter(|socket| !socket.timestamps).count();
    if stampless > 0 && is_short(tally) {
        notes.push(format!(
            "{} in TIME_WAIT without timestamps: net.ipv4.tcp_tw_reuse never frees these; both sides need \
             net.ipv4.tcp_timestamps=1.",
            counted(stampless as u64, "connection")
        ));
    }
    if tally.one_end_free {
        notes.push(format!(
            "The range has an odd number of ports, {} to {}: connect() passes over one end of it, and which one is not \
             known.",
            settings.low, settings.high
        ));
    }
    if settings.tw_reuse == TwReuse::Loopback && ports.tuple.is_loopback() && tally.reusable > 0 {
        notes.push("net.ipv4.tcp_tw_reuse=2 lets connect() take TIME_WAIT ports of loopback only.".to_owned());
    }
    if ports.of_tuple().any(|socket| socket.bucket.is_none() && bucket_matters(socket)) {
        notes.push("Which ports bind() took is not known for all sockets: fewer may be free.".to_owned());
    }
    notes
}

/// Whether the state alone does not tell that `bind()` took the port.
const fn bucket_matters(socket: &SocketSeen) -> bool {
    !matches!(socket.state, TcpState::Listen | TcpState::Bound | TcpState::HalfOpen)
}
