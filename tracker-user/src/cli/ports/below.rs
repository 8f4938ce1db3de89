//! What stands below the table of destinations: what `bind()` has left, calls that failed, what holds for a namespace.

use std::fmt::Write as _;

use tracker_model::{
    api::{BindPoolUse, PortConflict, PortFailure, PortSpace, Ports, UdpPorts},
    port_fields::POOL,
    text::full_in,
};

use super::Shown;
use crate::cli::{
    format::{UNKNOWN, address_port, ago, count, holders, printable, process, used},
    output::View,
    table::{self, Column},
};

/// From this share on `bind()` with port 0 will soon fail, whoever took the ports.
const NEARLY_FULL: f64 = 0.75;
/// Failures that are shown unless all are asked for: the last.
const LAST: usize = 10;

/// What `bind()` can choose from, of the addresses that matter.
pub(super) fn bind_pools(answer: &Ports, shown: &Shown, view: View) -> Option<String> {
    let matters = |pool: &&BindPoolUse| shown.all || pool.matters() || pool.used_ratio >= NEARLY_FULL;
    let pools: Vec<_> = answer.bind_pools.iter().filter(matters).collect();
    if pools.is_empty() {
        return None;
    }
    let mut columns = vec![Column::Text("BIND POOL")];
    columns.extend(table::fields(POOL, view.wide).map(|(head, _)| Column::Number(head)));
    if view.wide {
        columns.push(Column::Number("NETNS"));
    }
    let row = |pool: &&BindPoolUse| {
        let mut row = vec![pool.source.to_string()];
        row.extend(table::fields(POOL, view.wide).map(|(_, field)| field.text(pool)));
        if view.wide {
            row.push(pool.netns.to_string());
        }
        row
    };
    let mut text = table::render(&columns, pools.iter().map(row).collect(), None);
    text += "These are for bind() with port 0 before connect(): one connection a port, whatever its destination.\n";
    for space in answer.namespaces.iter().filter(|space| space.sources_lost > 0) {
        let lost = count(space.sources_lost);
        let _ =
            writeln!(text, "IN-USE and BOUND are lower bounds: {lost} sockets are of addresses beyond those counted.");
    }
    Some(text)
}

/// Calls of `connect()` that found no port.
pub(super) fn failures(answer: &Ports, shown: &Shown, view: View) -> Option<String> {
    if answer.failures.is_empty() {
        return None;
    }
    let mut columns = vec![Column::Text("FAILED CONNECT FROM"), Column::Text("TO"), Column::Number("CALLS")];
    columns.extend([Column::Text(" FIRST"), Column::Text("LAST"), Column::Text("PROCESS")]);
    if view.wide {
        columns.extend(["UID", "CGROUP", "NETNS"].map(Column::Number));
    }
    let row = |failure: &PortFailure| {
        let mut row = vec![
            match (failure.source, failure.source_port) {
                (Some(source), Some(port)) => address_port(&source.to_string(), port),
                (Some(source), None) => super::source(source, failure.local_port_range),
                (None, _) => UNKNOWN.to_owned(),
            },
            address_port(&failure.destination.to_string(), failure.destination_port),
            count(failure.count),
            format!(" {}", ago(failure.first, view.now)),
            ago(failure.last, view.now),
            process(failure.process.pid, &failure.process.comm),
        ];
        if view.wide {
            row.extend([failure.uid.to_string(), failure.cgroup.to_string(), failure.netns.to_string()]);
        }
        row
    };
    let most = if shown.all { usize::MAX } else { LAST };
    let mut text = table::render(&columns, answer.failures.iter().take(most).map(row).collect(), None);
    let hidden = answer.failures.get(most..).unwrap_or_default();
    if !hidden.is_empty() {
        let calls = hidden.iter().map(|failure| failure.count).sum();
        let _ = writeln!(text, "{} more, of {} calls: --all shows them", count(hidden.len() as u64), count(calls));
    }
    Some(text)
}

/// Calls of `bind()` for a port that is held.
pub(super) fn conflicts(answer: &Ports, shown: &Shown, view: View) -> Option<String> {
    if answer.conflicts.is_empty() {
        return None;
    }
    let mut columns = vec![Column::Text("REFUSED BIND TO"), Column::Text("PROTOCOL"), Column::Number("CALLS")];
    columns.extend([" FIRST", "LAST", "PROCESS", "HELD BY"].map(Column::Text));
    if view.wide {
        columns.extend(["UID", "CGROUP", "NETNS"].map(Column::Number));
    }
    let row = |conflict: &PortConflict| {
        let mut row = vec![
            address_port(&conflict.address.to_string(), conflict.port),
            conflict.protocol.clone(),
            count(conflict.count),
            format!(" {}", ago(conflict.first, view.now)),
            ago(conflict.last, view.now),
            process(conflict.process.pid, &conflict.process.comm),
            holders(&conflict.holders).unwrap_or_else(|| UNKNOWN.to_owned()),
        ];
        if view.wide {
            row.extend([conflict.uid.to_string(), conflict.cgroup.to_string(), conflict.netns.to_string()]);
        }
        row
    };
    let most = if shown.all { usize::MAX } else { LAST };
    let mut text = table::render(&columns, answer.conflicts.iter().take(most).map(row).collect(), None);
    let hidden = answer.conflicts.get(most..).unwrap_or_default();
    if !hidden.is_empty() {
        let _ = writeln!(text, "{} more: --all shows them", count(hidden.len() as u64));
    }
    Some(text)
}

/// Whether every connection of a namespace is in the table.
pub(super) fn is_complete(space: &PortSpace) -> bool {
    space.rest.sockets == 0
}

/// How the ports of UDP stand, and who has most of them; nothing without a socket.
fn udp(udp: &UdpPorts) -> String {
    if udp.sockets == 0 {
        return String::new();
    }
    let by = holders(&udp.processes).map(|all| format!(", most by {all}")).unwrap_or_default();
    let when = match udp.full_in_seconds.map(|seconds| full_in(seconds, udp.used_ratio)).as_deref() {
        None => String::new(),
        Some("now") => ", none is left".to_owned(),
        Some(when) => format!(", full in {when}"),
    };
    format!(
        "  UDP, apart from TCP: {} socket{}, {} of them on {} of {} ports of the range ({} %){when}{by}\n",
        count(udp.sockets),
        if udp.sockets == 1 { "" } else { "s" },
        count(udp.ephemeral),
        count(udp.in_use.into()),
        count(udp.capacity.into()),
        used(udp.used_ratio),
    )
}

/// What holds for all destinations of a namespace, and what is not listed.
pub(super) fn namespace(space: &PortSpace, view: View) -> String {
    let range = space.range;
    let name = space.name.as_ref().map(|name| format!(" ({})", printable(name))).unwrap_or_default();
    let mut text = format!(
        "Network namespace {}{name}, {}: range {}-{} ({} ports), {} reserved, {} bound by bind(), tcp_tw_reuse {}\n",
        space.netns,
        ago(space.taken_at, view.now),
        range.low,
        range.high,
        count(range.ports()),
        count(space.reserved.into()),
        count(space.bound.into()),
        space.tw_reuse
    );
    text += &udp(&space.udp);
    if space.ranges_lost > 0 {
        let lost = count(space.ranges_lost);
        let _ = writeln!(text, "  not listed: ranges of their own (IP_LOCAL_PORT_RANGE) of {lost} sockets");
    }
    if !is_complete(space) {
        let (sockets, tuples) = (count(space.rest.sockets), count(space.rest.tuples_at_least));
        let most = count(space.rest.most.into());
        let _ = writeln!(
            text,
            "  not listed: {sockets} connections, of >={tuples} sources and destinations; no other destination holds \
             more than {most}"
        );
    }
    text
}
