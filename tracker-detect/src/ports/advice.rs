//! What to do when ports run out: only what would help in the case at hand.

use std::net::SocketAddr;

use super::{
    capacity::is_loopback,
    text::{held, named, used},
};
use tracker_model::explain::Protocol;
use tracker_model::{
    api::{AlertKind, AlertSubject, PortEvidence, PortPool},
    text::grouped,
};

/// Ports of the widest range that makes sense: 1024 to 65535.
const WIDEST: u32 = 64_512;
/// Below this share of ports in use no setting of the host is why there was none.
pub(super) const MANY_FREE: f64 = 0.5;
/// This part of the ports in question is worth a word, in percent.
const MUCH: u32 = 10;
/// `TIME_WAIT` is a real part of what is used from here on, in percent.
const REAL: u32 = 20;

/// What to do.
pub(super) fn advice(kind: AlertKind, subject: &AlertSubject, evidence: &PortEvidence) -> String {
    let advice = match (kind, evidence.pool, subject.port) {
        (AlertKind::BindConflict, _, Some(port)) if port != 0 => {
            let udp = match subject.protocol {
                Some(Protocol::Tcp) => "",
                Some(Protocol::Udp) => " --udp",
                None => {
                    return format!("The protocol is neither TCP nor UDP: see who holds port {port} with `ss -anp`.");
                }
            };
            let at = subject
                .address
                .map_or_else(|| format!(":{port}"), |address| SocketAddr::new(address, port).to_string());
            return format!("See who holds it, and what would help: `tracker explain bind {at}{udp}`.");
        }
        (AlertKind::BindConflict, ..) | (_, PortPool::Bind, _) => {
            let bind = "Set IP_BIND_ADDRESS_NO_PORT on sockets before they are bound to an address with port 0: connect() \
                        then chooses a port that need only be free for its destination.";
            let more = "Each further source address has as many ports again.";
            // It is an option of TCP sockets: others need a port of their own to be connected (`inet_autobind`).
            let is_tcp = kind != AlertKind::BindConflict || subject.protocol == Some(Protocol::Tcp);
            let bind = is_tcp.then(|| bind.to_owned());
            [bind, widen(evidence), reserved(evidence), Some(more.to_owned())].into_iter().flatten().collect::<Vec<_>>()
        }
        (AlertKind::PortAllocationFailed, ..) if evidence.peak_used_ratio.is_some_and(|ratio| ratio < MANY_FREE) => {
            return "The host had ports free for it at each census: see whether the process narrows its own range \
                    (IP_LOCAL_PORT_RANGE), or opens and closes more at once than a census can follow."
                .to_owned();
        }
        _ => {
            let more = "Each further source address, destination address or destination port has as many ports again.";
            let all = [
                keep_alive(evidence),
                reuse(subject, evidence),
                close(evidence),
                widen(evidence),
                reserved(evidence),
                bound(evidence),
            ];
            all.into_iter().flatten().chain([more.to_owned()]).collect()
        }
    };
    advice.join(" ")
}

fn is_part(part: u32, whole: u32, percent: u32) -> bool {
    part > 0 && u64::from(part) * 100 >= u64::from(whole) * u64::from(percent)
}

/// When most are in `TIME_WAIT`.
fn keep_alive(evidence: &PortEvidence) -> Option<String> {
    let held = held(evidence);
    is_part(held, used(evidence), 50).then(|| {
        format!(
            "Keep connections and use them again (HTTP keep-alive, a connection pool): each of the {} ports in TIME_WAIT is \
             taken for 60 s by a connection that was closed here.",
            grouped(held.into())
        )
    })
}

/// When that would free some: it is not in force, and they have timestamps.
fn reuse(subject: &AlertSubject, evidence: &PortEvidence) -> Option<String> {
    let recyclable = evidence.recyclable.unwrap_or_default();
    let is_local = [subject.source, subject.destination].into_iter().flatten().any(is_loopback);
    let in_force = evidence.tw_reuse == 1 || evidence.tw_reuse == 2 && is_local;
    let helps = !in_force && is_part(recyclable, used(evidence), REAL);
    helps.then(|| {
        format!(
            "sysctl net.ipv4.tcp_tw_reuse=1 lets connect() take {} of the ports in TIME_WAIT at once.",
            grouped(recyclable.into())
        )
    })
}

/// When most are open.
fn close(evidence: &PortEvidence) -> Option<String> {
    let (in_use, time_wait) = (evidence.in_use?, evidence.time_wait?);
    let open = in_use.saturating_sub(time_wait);
    if !is_part(open, used(evidence), 50) {
        return None;
    }
    let half_closed = evidence.states.get("fin_wait2").copied().unwrap_or_default();
    let held: u32 = evidence.processes.iter().map(|holder| holder.ports).sum();
    if is_part(half_closed, open, 50) && held < half_closed {
        return Some(format!(
            "{} are in FIN_WAIT2 and belong to no process any more: they wait for the peer to close, for net.ipv4.tcp_fin_timeout \
             at most (60 s by default). See why the peer does not close; a shorter timeout frees the ports sooner.",
            grouped(half_closed.into())
        ));
    }
    let whose = evidence.processes.first().map_or_else(
        || format!("{} are open", grouped(open.into())),
        |holder| format!("{} holds {}", named(holder), grouped(holder.ports.into())),
    );
    let leaked = evidence.states.get("close_wait").copied().unwrap_or_default();
    let leaked = if is_part(leaked, open, MUCH) {
        format!(
            " {} are in CLOSE_WAIT: the peer has closed them and the process has not, it leaks them.",
            grouped(leaked.into())
        )
    } else {
        String::new()
    };
    Some(format!("Close connections that are idle or leaked: {whose}.{leaked}"))
}

/// When the range is not as wide as it can be.
fn widen(evidence: &PortEvidence) -> Option<String> {
    let range = evidence.range;
    let ports = (u32::from(range.high) + 1).saturating_sub(range.low.into());
    (ports < WIDEST).then(|| {
        format!(
            "Widen the range: sysctl net.ipv4.ip_local_port_range=\"1024 65535\" has {} ports instead of {}; reserve those of \
             your own services (net.ipv4.ip_local_reserved_ports).",
            grouped(WIDEST.into()),
            grouped(ports.into())
        )
    })
}

/// When much of the range is reserved.
fn reserved(evidence: &PortEvidence) -> Option<String> {
    let reserved = evidence.reserved;
    is_part(reserved, evidence.capacity + reserved, MUCH).then(|| {
        format!(
            "Free reserved ports: net.ipv4.ip_local_reserved_ports takes {} out of the range.",
            grouped(reserved.into())
        )
    })
}

/// When much of it is bound.
fn bound(evidence: &PortEvidence) -> Option<String> {
    let bound = evidence.bound;
    is_part(bound, evidence.capacity + bound, MUCH).then(|| {
        format!(
            "connect() passes over the {} ports of the range that are bound by bind(): set IP_BIND_ADDRESS_NO_PORT on sockets \
             that are bound before they connect, and bind services outside the range.",
            grouped(bound.into())
        )
    })
}

#[cfg(test)]
mod tests;
