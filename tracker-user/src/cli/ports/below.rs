//! What stands below the table of destinations: what `bind()` has left, calls that failed, what holds for a namespace.

use std::fmt::Write as _;

use tracker_model::api::{BindPoolUse, PortFailure, PortSpace, Ports};

use super::Shown;
use crate::cli::{
    format::{UNKNOWN, address_port, ago, count, process, used},
    output::View,
    table::{self, Column},
};

/// Failures that are shown unless all are asked for: the last.
const LAST: usize = 10;
/// The pool of an address matters when so many of its ports, in percent, were taken by `bind()`, as for alerts.
const BOUND: u32 = 10;

/// What `bind()` can choose from, of the addresses that matter.
pub(super) fn bind_pools(answer: &Ports, shown: &Shown, view: View) -> Option<String> {
    let matters = |pool: &&BindPoolUse| {
        shown.all || pool.bound > 0 && u64::from(pool.bound) * 100 >= u64::from(pool.capacity) * u64::from(BOUND)
    };
    let pools: Vec<_> = answer.bind_pools.iter().filter(matters).collect();
    if pools.is_empty() {
        return None;
    }
    let mut columns = vec![Column::Text("BIND POOL")];
    columns.extend(["IN-USE", "BOUND", "CAPACITY", "USED%"].map(Column::Number));
    if view.wide {
        columns.push(Column::Number("NETNS"));
    }
    let row = |pool: &&BindPoolUse| {
        let mut row = vec![pool.source.to_string()];
        row.extend([pool.in_use, pool.bound, pool.capacity].map(|ports| count(ports.into())));
        row.push(used(pool.used_ratio));
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
            failure.source.map_or_else(|| UNKNOWN.to_owned(), |source| source.to_string()),
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

/// Whether every connection of a namespace is in the table.
pub(super) fn is_complete(space: &PortSpace) -> bool {
    space.rest.sockets == 0
}

/// What holds for all destinations of a namespace, and what is not listed.
pub(super) fn namespace(space: &PortSpace, view: View) -> String {
    let range = space.range;
    let ports = (u64::from(range.high) + 1).saturating_sub(range.low.into());
    let mut text = format!(
        "Network namespace {}, {}: range {}-{} ({} ports), {} reserved, {} bound by bind(), tcp_tw_reuse {}\n",
        space.netns,
        ago(space.taken_at, view.now),
        range.low,
        range.high,
        count(ports),
        count(space.reserved.into()),
        count(space.bound.into()),
        space.tw_reuse
    );
    if !is_complete(space) {
        let (sockets, tuples) = (count(space.rest.sockets), count(space.rest.tuples_at_least));
        let most = count(space.rest.most.into());
        let _ = writeln!(
            text,
            "  not listed: {sockets} connections, of >={tuples} sources and destinations; no other destination holds more \
             than {most}"
        );
    }
    text
}
