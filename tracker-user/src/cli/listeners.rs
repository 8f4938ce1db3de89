//! `tracker listeners` as a table.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use tracker_model::{
    api::{Class, NoListener, UndeliveredSyns, Verdict},
    counters::PortSyns,
    listener::{Listener, Listeners},
    listener_fields,
};

use super::{
    format::{UNKNOWN, ago, count, length, printable, rate},
    output::View,
    table::{self, Column},
};

/// Ports that are named below the table.
const TOP_PORTS: usize = 5;
/// Sources that are named below the table.
const TOP_SOURCES: usize = 3;

/// The answer as a table, and what is to say of SYNs to no listener.
pub(super) fn render(answer: &Listeners, view: View) -> String {
    let mut text = if answer.listeners.is_empty() {
        "Nothing listens.\n".to_owned()
    } else {
        table::render(&columns(view.wide), answer.listeners.iter().map(|one| row(one, view)).collect(), None)
    };
    text += &worst_sockets(answer);
    if view.wide {
        text += &half_open_sources(answer);
    }
    if answer.listeners.iter().any(|listener| listener.syns_unseen) {
        text +=
            "\n-: reached by interfaces alone that are not watched, such as lo (tracker status): SYNs are not seen\n";
    }
    let census = answer.census_at.map_or_else(|| UNKNOWN.to_owned(), |time| ago(time, view.now));
    let _ = writeln!(text, "\nSYNs to no listener: {}", no_listener(&answer.no_listener));
    if let Some(line) = undelivered(answer.no_listener.undelivered.as_ref()) {
        let _ = writeln!(text, "  {line}");
    }
    if let Some(line) = no_listener_verdict(&answer.no_listener, view) {
        let _ = writeln!(text, "  {line}");
    }
    let _ = writeln!(text, "Queues, half-open and connected: {census}");
    text
}

fn columns(wide: bool) -> Vec<Column> {
    let mut columns = ["LISTENER", "PROCESS", "VERDICT"].map(Column::Text).to_vec();
    columns.extend(table::fields(listener_fields::FIELDS, wide).map(|(head, _)| Column::Number(head)));
    if wide {
        columns.extend(["UID", "NETNS"].map(Column::Number));
        columns.push(Column::Text(" STACK"));
    }
    columns
}

fn row(listener: &Listener, view: View) -> Vec<String> {
    let mut row = vec![listener.place(), process(listener, view.wide), verdict(listener.verdict, view.now)];
    row.extend(table::fields(listener_fields::FIELDS, view.wide).map(|(_, field)| field.text(listener)));
    if view.wide {
        row.push(listener.uid.map_or_else(|| UNKNOWN.to_owned(), |uid| uid.to_string()));
        row.push(listener.netns.to_string());
        row.push(if listener.dual_stack { " dual".to_owned() } else { format!(" {UNKNOWN}") });
    }
    row
}

fn process(listener: &Listener, wide: bool) -> String {
    let Some(process) = &listener.process else { return UNKNOWN.to_owned() };
    if wide { format!("{}({})", process.comm, process.pid) } else { process.comm.clone() }
}

/// A verdict other than `none` comes with the time since it began.
fn verdict(verdict: Option<Verdict>, now: Timestamp) -> String {
    match verdict {
        None => UNKNOWN.to_owned(),
        Some(Verdict { class, since: Some(since), .. }) if class != Class::None => {
            format!("{} for {}", class.name(), length(now.duration_since(since).max(SignedDuration::ZERO)))
        }
        Some(Verdict { class, .. }) => class.name().to_owned(),
    }
}

/// The sockets of groups whose accept queue is full, a line for each group that has some: the sum hides them.
fn worst_sockets(answer: &Listeners) -> String {
    let mut text = String::new();
    for listener in &answer.listeners {
        let Some(worst) = listener.worst_socket.as_ref().filter(|worst| worst.full > 0) else { continue };
        let owner = worst.owner().map_or_else(String::new, |owner| format!(", {}", printable(&owner)));
        let listener = listener.place();
        let _ = writeln!(text, "\nAccept queues of {listener}: worst {worst}{owner}");
    }
    text
}

/// The sources of half-open requests, a line for each listener that has some.
fn half_open_sources(answer: &Listeners) -> String {
    let mut text = String::new();
    for listener in &answer.listeners {
        let mut sources: Vec<_> =
            listener.half_open_sources.iter().map(|of| format!("{} ({})", of.source, count(of.count.into()))).collect();
        let unnamed = listener.queues.map_or(0, |queues| queues.half_open_unnamed);
        if unnamed > 0 {
            sources.push(format!("not kept ({})", count(unnamed.into())));
        }
        if !sources.is_empty() {
            let listener = listener.place();
            let _ = writeln!(text, "\nHalf-open at {listener} by source: {}", sources.join(", "));
        }
    }
    text
}

/// The verdict, and where these SYNs come from; none when there is nothing to say.
fn no_listener_verdict(closed: &NoListener, view: View) -> Option<String> {
    let class = closed.verdict?.class;
    if class == Class::None && (!view.wide || closed.top_sources.is_empty()) {
        return None;
    }
    let mut line = format!("verdict {}", verdict(closed.verdict, view.now));
    let most = if view.wide { usize::MAX } else { TOP_SOURCES };
    let sources: Vec<_> = closed.top_sources.iter().take(most).map(|share| printable(&share.to_string())).collect();
    if !sources.is_empty() {
        let _ = write!(line, "; mostly from {}", sources.join(", "));
    }
    Some(line)
}

fn no_listener(closed: &NoListener) -> String {
    to_ports(closed.delivered(closed.syns_received), closed.ports, &closed.top_ports)
}

/// SYNs that something took or dropped on their way to TCP.
fn undelivered(syns: Option<&UndeliveredSyns>) -> Option<String> {
    let syns = syns.filter(|syns| syns.syns > 0)?;
    let ports = to_ports(syns.syns, syns.ports, &syns.top_ports);
    Some(format!("not delivered there (translated, taken by a proxy, or dropped before TCP): {ports}"))
}

fn to_ports(syns: u64, ports: u32, top: &[PortSyns]) -> String {
    if syns == 0 {
        return "none".to_owned();
    }
    let top: Vec<_> = top.iter().take(TOP_PORTS).map(port).collect();
    let noun = if ports == 1 { "port" } else { "ports" };
    format!("{}, to {} {noun}, most active: {}", count(syns), count(ports.into()), top.join(", "))
}

fn port(entry: &PortSyns) -> String {
    let syns = count(entry.syns);
    if entry.syn_rate > 0.0 {
        format!("{} ({syns}, {}/s)", entry.port, rate(entry.syn_rate))
    } else {
        format!("{} ({syns})", entry.port)
    }
}
