//! Advice on local ports, each sentence once: for alerts and for `tracker explain`.
//!
//! Whether a sentence would help is decided where the figures are known. What is not worth a sentence gives none.

use std::ops::RangeInclusive;

use tracker_model::{
    api::{PortHolder, PortRange},
    text::{counted, grouped},
};

/// Ports below this are for services.
const FIRST_EPHEMERAL: u16 = 1_024;

/// How to keep a bound socket from taking a port of its own.
pub(crate) const BIND_NO_PORT: &str = "Set IP_BIND_ADDRESS_NO_PORT on sockets before they are bound to an address with \
     port 0: connect() then chooses a port that need only be free for its destination.";

/// Ports are counted for each source address and destination.
pub(crate) const MORE_ADDRESSES: &str = "Each further source address, destination address or destination port has as \
     many ports again: add a source address, or spread over more destinations.";

/// Ports that `bind()` chooses are counted for each source address.
pub(crate) const MORE_SOURCES: &str = "Each further source address has as many ports again.";

/// A UDP socket can talk to any number of peers.
pub(crate) const UDP_SHARE: &str = "One UDP socket serves any number of peers: use a few again and again instead of \
     one for each question.";

/// Where sockets have set a range for themselves, and `who` has most of them.
pub(crate) fn widen_own(own: PortRange, who: Option<&PortHolder>) -> String {
    let who = who.map_or_else(String::new, |holder| format!(" in {}", holder.process()));
    let ports = grouped(own.ports());
    format!("Widen the range that the sockets set for themselves{who}: IP_LOCAL_PORT_RANGE {own} has {ports} ports.")
}

/// Where `TIME_WAIT` takes a good part of the ports.
pub(crate) fn keep_alive(time_wait: u32) -> String {
    format!(
        "Keep connections and use them again (HTTP keep-alive, a connection pool), or let the peer close first: each \
         of the {} ports in TIME_WAIT is taken for 60 s, because this side closed first.",
        grouped(time_wait.into())
    )
}

/// Where `tcp_tw_reuse` would free ports and is not in force: `now` of them at once, `later` within seconds.
pub(crate) fn reuse(now: u32, later: u32) -> String {
    let more = if later > 0 { format!(", and {} more shortly", grouped(later.into())) } else { String::new() };
    let now = grouped(now.into());
    format!("sysctl net.ipv4.tcp_tw_reuse=1 lets connect() take {now} of the ports in TIME_WAIT now{more}.")
}

/// Connections that the peer has closed and `who` has not.
pub(crate) fn close_wait(connections: u32, who: Option<&str>) -> String {
    let who = who.unwrap_or("the process");
    let (connections, are) = counted_are(connections, "connection");
    format!("{connections} {are} in CLOSE_WAIT: the peer has closed, and {who} has not. It must call close().")
}

/// When `range` is not as wide as it can be.
pub(crate) fn widen(range: RangeInclusive<u16>) -> Option<String> {
    let (low, high) = (*range.start(), *range.end());
    let now = (u32::from(high) + 1).saturating_sub(low.into());
    let first = low.min(FIRST_EPHEMERAL);
    let widest = u32::from(u16::MAX - first) + 1;
    (now < widest).then(|| {
        format!(
            "Widen the range: sysctl net.ipv4.ip_local_port_range=\"{first} 65535\" has {} ports instead of {} \
             ({low} to {high}); first reserve the ports of your own services (net.ipv4.ip_local_reserved_ports).",
            grouped(widest.into()),
            grouped(now.into())
        )
    })
}

/// When ports of the range are reserved.
pub(crate) fn reserved(ports: u32) -> Option<String> {
    let takes = grouped(ports.into());
    (ports > 0)
        .then(|| format!("Free reserved ports: net.ipv4.ip_local_reserved_ports takes {takes} out of the range."))
}

/// Ports that `bind()` took serve no `connect()`, whatever the destination. `by_clients` is whether sockets have them
/// that do not listen; it may not be known. `who` has them.
pub(crate) fn bound(ports: u32, by_clients: Option<bool>, who: Option<&str>) -> String {
    let clients = "connect without bind(), or set IP_BIND_ADDRESS_NO_PORT before bind() to an address with port 0";
    let services = "move services that listen there out of net.ipv4.ip_local_port_range";
    let what = match by_clients {
        Some(true) => clients.to_owned(),
        Some(false) => services.to_owned(),
        None => format!("{clients}; {services}"),
    };
    let (ports, are) = counted_are(ports, "port");
    let who = who.map_or_else(String::new, |who| format!("; they belong to {who}"));
    format!("{ports} of the range {are} taken by bind(), for all destinations at once: {what}{who}.")
}

/// `1 port`, `is`; `2 ports`, `are`.
pub(crate) fn counted_are(count: u32, noun: &str) -> (String, &'static str) {
    (counted(count.into(), noun), if count == 1 { "is" } else { "are" })
}
