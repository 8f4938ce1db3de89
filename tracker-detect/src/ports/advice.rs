//! What to do when ports run out: only what would help in the case at hand.

use std::net::SocketAddr;

use super::capacity::is_loopback;
use crate::advice;
use tracker_model::explain::Protocol;
use tracker_model::{
    api::{AlertKind, AlertSubject, PortEvidence, PortPool},
    text::grouped,
};

/// Below this share of ports in use no setting of the host is why there was none.
pub(crate) const MANY_FREE: f64 = 0.5;
/// This part of the ports in question is worth a word, in percent.
const NOTEWORTHY_PERCENT: u32 = 10;
/// `TIME_WAIT` is a real part of what is used from here on, in percent.
const REAL: u32 = 20;

/// What to do.
pub(super) fn advice(kind: AlertKind, subject: &AlertSubject, evidence: &PortEvidence) -> String {
    let waiting = evidence.held_by_time_wait();
    // Where the sockets narrow the range themselves, that of the namespace is not what is short.
    let widen = || match evidence.local_port_range {
        Some(own) => Some(advice::widen_own(own, evidence.processes.first())),
        None => advice::widen(evidence.range.low..=evidence.range.high),
    };
    let is_whole = evidence.local_port_range.is_none();
    let reserved = || advice::reserved(evidence.reserved).filter(|_| is_whole && is_much(evidence.reserved, evidence));
    let all = match (kind, evidence.pool, subject.port) {
        (AlertKind::BindConflict, _, Some(port)) if port != 0 => return who_holds(subject, port),
        (AlertKind::BindConflict, ..) | (_, PortPool::Bind, _) => {
            // It is an option of TCP sockets: others need a port of their own to be connected (`inet_autobind`).
            let is_tcp = kind != AlertKind::BindConflict || subject.protocol == Some(Protocol::Tcp);
            let bind = is_tcp.then(|| advice::BIND_NO_PORT.to_owned());
            vec![bind, widen(), reserved(), Some(advice::MORE_SOURCES.to_owned())]
        }
        (_, PortPool::Udp, _) => vec![close_udp(evidence), widen(), reserved(), Some(advice::UDP_SHARE.to_owned())],
        (AlertKind::PortAllocationFailed, ..) if evidence.peak_used_ratio.is_some_and(|ratio| ratio < MANY_FREE) => {
            return "The host had ports free for it at each census: the process opens and closes more at once than a \
                    census can follow."
                .to_owned();
        }
        _ => vec![
            is_part(waiting, evidence.used(), 50).then(|| advice::keep_alive(waiting)),
            reuse(subject, evidence),
            close(evidence),
            widen(),
            reserved(),
            (is_whole && is_much(evidence.bound, evidence)).then(|| advice::bound(evidence.bound, None, None)),
            Some(advice::MORE_ADDRESSES.to_owned()),
        ],
    };
    all.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Of one port that is held.
fn who_holds(subject: &AlertSubject, port: u16) -> String {
    let udp = match subject.protocol {
        Some(Protocol::Tcp) => "",
        Some(Protocol::Udp) => " --udp",
        None => return format!("The protocol is neither TCP nor UDP: see who holds port {port} with `ss -anp`."),
    };
    let at = subject.address.map_or_else(|| format!(":{port}"), |address| SocketAddr::new(address, port).to_string());
    format!("See who holds it, and what would help: `tracker explain bind {at}{udp}`.")
}

fn is_part(part: u32, whole: u32, percent: u32) -> bool {
    part > 0 && u64::from(part) * 100 >= u64::from(whole) * u64::from(percent)
}

/// Whether ports that nobody can choose are many beside those that can be chosen.
fn is_much(ports: u32, evidence: &PortEvidence) -> bool {
    is_part(ports, evidence.capacity + ports, NOTEWORTHY_PERCENT)
}

/// When that would free some: it is not in force, and they have timestamps.
fn reuse(subject: &AlertSubject, evidence: &PortEvidence) -> Option<String> {
    let recyclable = evidence.recyclable.unwrap_or_default();
    let is_local = [subject.source, subject.destination].into_iter().flatten().any(is_loopback);
    let in_force = evidence.tw_reuse == 1 || evidence.tw_reuse == 2 && is_local;
    (!in_force && is_part(recyclable, evidence.used(), REAL)).then(|| advice::reuse(recyclable, 0))
}

/// UDP sockets stay until they are closed.
fn close_udp(evidence: &PortEvidence) -> Option<String> {
    let holder = evidence.processes.first()?;
    let sockets = grouped(holder.ports.into());
    Some(format!("Close UDP sockets that are idle or leaked: {} holds {sockets}.", holder.process()))
}

/// When most are open.
fn close(evidence: &PortEvidence) -> Option<String> {
    let open = evidence.in_use?.saturating_sub(evidence.time_wait?);
    if !is_part(open, evidence.used(), 50) {
        return None;
    }
    let in_state = |state: &str| evidence.states.get(state).copied().unwrap_or_default();
    let held: u32 = evidence.processes.iter().map(|holder| holder.ports).sum();
    let half_closed = in_state("fin_wait2");
    if is_part(half_closed, open, 50) && held < half_closed {
        return Some(format!(
            "{} are in FIN_WAIT2 and belong to no process any more: they wait for the peer to close, for \
             net.ipv4.tcp_fin_timeout at most (60 s by default). See why the peer does not close; a shorter timeout \
             frees the ports sooner.",
            grouped(half_closed.into())
        ));
    }
    let whose = evidence.processes.first().map_or_else(
        || format!("{} are open", grouped(open.into())),
        |holder| format!("{} holds {}", holder.process(), grouped(holder.ports.into())),
    );
    let mut line = format!("Close connections that are idle or leaked: {whose}.");
    let leaked = in_state("close_wait");
    if is_part(leaked, open, NOTEWORTHY_PERCENT) {
        line = format!("{line} {}", advice::close_wait(leaked, None));
    }
    Some(line)
}
