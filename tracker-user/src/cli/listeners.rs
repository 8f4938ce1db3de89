//! `tracker listeners` as a table.

use std::fmt::Write as _;

use tracker_model::{
    api::{Listener, Listeners, NoListener},
    snapshot::PortSyns,
};

use super::{
    format::{UNKNOWN, ago, count, known, rate},
    output::View,
    table::{self, Column},
};

/// Ports that are named below the table.
const TOP_PORTS: usize = 5;

/// The answer as a table, and a line on SYNs to no listener.
pub(super) fn render(answer: &Listeners, view: View) -> String {
    let mut text = if answer.listeners.is_empty() {
        "Nothing listens.\n".to_owned()
    } else {
        table::render(&columns(view.wide), answer.listeners.iter().map(|one| row(one, view.wide)).collect(), None)
    };
    let census = answer.census_at.map_or_else(|| UNKNOWN.to_owned(), |time| ago(time, view.now));
    let _ = writeln!(text, "\nSYNs to no listener: {}", no_listener(&answer.no_listener));
    let _ = writeln!(text, "Queues, half-open and connected: {census}");
    text
}

fn columns(wide: bool) -> Vec<Column> {
    let mut columns = vec![
        Column::Text("LISTENER"),
        Column::Text("PROCESS"),
        Column::Number("SYNS"),
        Column::Number("SYN/S"),
        Column::Number("COMPLETED"),
        Column::Number("UNANSWERED"),
        Column::Number("HALF-OPEN"),
        Column::Number("SYN-Q"),
        Column::Number("ACCEPT-Q"),
        Column::Number("DROPS"),
        Column::Number("CONNECTED"),
    ];
    if wide {
        columns.extend(["SYNS-V4", "SYNS-V6", "DONE-V4", "DONE-V6", "SOCKETS", "UID", "NETNS"].map(Column::Number));
        columns.push(Column::Text(" STACK"));
    }
    columns
}

fn row(listener: &Listener, wide: bool) -> Vec<String> {
    let mut row = vec![
        address(listener),
        process(listener, wide),
        count(listener.syns_received),
        rate(listener.syn_rate),
        count(listener.handshakes_completed),
        count(listener.handshakes_unanswered),
        known(listener.half_open),
        known(listener.syn_queue),
        accept_queue(listener),
        known(listener.overflows),
        known(listener.connected),
    ];
    if wide {
        let (syns, handshakes) = (listener.syns_by_family, listener.handshakes_by_family);
        row.extend([syns.ipv4, syns.ipv6, handshakes.ipv4, handshakes.ipv6, listener.sockets.into()].map(count));
        row.push(listener.uid.map_or_else(|| UNKNOWN.to_owned(), |uid| uid.to_string()));
        row.push(listener.netns.to_string());
        row.push(if listener.dual_stack { " dual".to_owned() } else { format!(" {UNKNOWN}") });
    }
    row
}

fn address(listener: &Listener) -> String {
    if listener.address.contains(':') {
        format!("[{}]:{}", listener.address, listener.port)
    } else {
        format!("{}:{}", listener.address, listener.port)
    }
}

/// A process may give itself any name; control characters in it must not reach the terminal.
fn process(listener: &Listener, wide: bool) -> String {
    let Some(process) = &listener.process else { return UNKNOWN.to_owned() };
    let name = process.comm.escape_debug();
    if wide { format!("{name}({})", process.pid) } else { name.to_string() }
}

fn accept_queue(listener: &Listener) -> String {
    match (listener.accept_queue, listener.accept_queue_max) {
        (None, None) => UNKNOWN.to_owned(),
        (length, limit) => format!("{}/{}", known(length), known(limit)),
    }
}

fn no_listener(refused: &NoListener) -> String {
    if refused.syns_received == 0 {
        return "none".to_owned();
    }
    let top: Vec<_> = refused.top_ports.iter().take(TOP_PORTS).map(port).collect();
    let noun = if refused.ports == 1 { "port" } else { "ports" };
    format!(
        "{}, to {} {noun}, most of late to {}",
        count(refused.syns_received),
        count(refused.ports.into()),
        top.join(", ")
    )
}

fn port(entry: &PortSyns) -> String {
    let syns = count(entry.syns);
    if entry.syn_rate > 0.0 {
        format!("{} ({syns}, {}/s)", entry.port, rate(entry.syn_rate))
    } else {
        format!("{} ({syns})", entry.port)
    }
}

#[cfg(test)]
mod tests {
    use tracker_model::{Snapshot, sample, view as views};

    use super::*;

    fn shown(snapshot: &Snapshot, wide: bool) -> String {
        render(&views::listeners(snapshot), View { wide, now: snapshot.taken_at, columns: None })
    }

    #[test]
    fn a_table_fits_into_100_columns_and_shows_unknown_values_as_a_dash() {
        let text = shown(&sample::snapshot(), false);
        let expected = "\
LISTENER      PROCESS  SYNS SYN/S COMPLETED UNANSWERED HALF-OPEN SYN-Q ACCEPT-Q DROPS CONNECTED
192.0.2.1:22  -           0     0         0          0         -     -        -     -         -
[::]:443      nginx     150  12.5       133         15         5     4    1/511     2        40

SYNs to no listener: 40, to 2 ports, most of late to 23 (30, 0.2/s), 8080 (10)
Queues, half-open and connected: 1s ago
";
        assert_eq!(text, expected);
    }

    #[test]
    fn wide_adds_families_owner_and_process_id() {
        let text = shown(&sample::snapshot(), true);
        let line = text.lines().find(|line| line.starts_with("[::]:443")).unwrap();
        assert!(line.contains("nginx(815)") && line.ends_with("0 4026531840  dual"), "{line}");
    }

    #[test]
    fn a_quiet_host_is_told_in_words() {
        let mut snapshot = sample::snapshot();
        snapshot.listeners.clear();
        snapshot.interfaces.clear();
        snapshot.census = None;
        let expected = "Nothing listens.\n\nSYNs to no listener: none\nQueues, half-open and connected: -\n";
        assert_eq!(shown(&snapshot, false), expected);
    }

    #[test]
    fn a_process_name_cannot_steer_the_terminal() {
        let mut snapshot = sample::snapshot();
        snapshot.listeners[1].process.as_mut().unwrap().comm = "a\u{1b}[2Jb\n".to_owned();
        let text = shown(&snapshot, false);
        assert!(text.contains("a\\u{1b}[2Jb\\n") && !text.contains('\u{1b}'), "{text}");
    }
}
