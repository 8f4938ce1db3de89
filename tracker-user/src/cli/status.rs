//! `tracker status` as tables.

use std::fmt::Write as _;

use jiff::SignedDuration;
use tracker_model::api::{AlertSummary, Health, Status};

use super::{
    counters,
    format::{UNKNOWN, ago, count, length, printable, short},
    output::View,
    table::{self, Column},
};

/// The answer on one screen.
pub(super) fn render(status: &Status, view: View) -> String {
    let mut text = head(status, view);
    if !status.interfaces.is_empty() {
        let _ = write!(text, "\n{}", interfaces(status, view));
    }
    if let Some(counters) = counters::render(status, view) {
        let _ = write!(text, "\n{counters}");
    }
    if !status.unwatched.is_empty() {
        let _ = write!(text, "\n{}", unwatched(status, view));
    }
    if !status.maps.is_empty() {
        let _ = write!(text, "\n{}", maps(status, view));
    }
    if view.wide && !status.programs.is_empty() {
        let _ = write!(text, "\n{}", programs(status, view));
    }
    text
}

fn head(status: &Status, view: View) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<14}{}", printable(value));
    };
    let up = length(view.now.duration_since(status.started_at));
    line("Daemon", &format!("tracker {}, process {}, counting for {up}", status.version, status.pid));
    line("Alerts", &alerts(status));
    for alert in &status.alerts.worst {
        line("", &firing(alert, view));
    }
    line("Health", health(status.health));
    for problem in &status.problems {
        line("", problem);
    }
    for (index, what) in status.unavailable.iter().enumerate() {
        line(if index == 0 { "Not available" } else { "" }, what);
    }
    line("Namespace", &status.netns.to_string());
    line("Socket events", &status.socket_events);
    line("Census", &census(status, view));
    line("Losses", &losses(status));
    text
}

fn alerts(status: &Status) -> String {
    let alerts = &status.alerts;
    let by_severity = [(alerts.critical, "critical"), (alerts.warning, "warning"), (alerts.info, "info")];
    let by_severity: Vec<_> =
        by_severity.iter().filter(|(of, _)| *of > 0).map(|(of, name)| format!("{of} {name}")).collect();
    let mut text = match alerts.firing {
        0 => "none".to_owned(),
        firing => format!("{firing} firing: {}", by_severity.join(", ")),
    };
    if alerts.resolved > 0 {
        let _ = write!(text, "; {} over (tracker alerts)", alerts.resolved);
    }
    text
}

fn firing(alert: &AlertSummary, view: View) -> String {
    let lasts = length(view.now.duration_since(alert.since).max(SignedDuration::ZERO));
    let at_least = if alert.since_before { "at least " } else { "" };
    format!("{} for {at_least}{lasts}: {}", alert.severity.name(), alert.summary)
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Ok => "ok",
        Health::Warning => "warning",
        Health::Critical => "critical",
    }
}

fn census(status: &Status, view: View) -> String {
    status.census.map_or_else(
        || UNKNOWN.to_owned(),
        |census| {
            let (sockets, cost, interval) =
                (count(census.sockets), short(census.seconds), short(census.interval_seconds));
            format!("{}: {sockets} sockets in {cost}, next after {interval}", ago(census.taken_at, view.now))
        },
    )
}

fn losses(status: &Status) -> String {
    let lost: Vec<_> = status
        .losses
        .iter()
        .filter(|(_, lost)| **lost > 0)
        .map(|(name, lost)| format!("{name} {}", count(*lost)))
        .collect();
    if lost.is_empty() { "none".to_owned() } else { lost.join(", ") }
}

fn interfaces(status: &Status, view: View) -> String {
    let columns = [
        Column::Text("INTERFACE"),
        Column::Text("HOOK"),
        Column::Number("PACKETS"),
        Column::Number("SYNS"),
        Column::Text(" REASON"),
    ];
    let rows = status.interfaces.iter().map(|interface| {
        // One that is seen on the interface below it is counted there.
        let counted = |number| if interface.hook == "lower" { UNKNOWN.to_owned() } else { count(number) };
        let [packets, syns] = [interface.packets, interface.syns].map(counted);
        vec![interface.name.clone(), interface.hook.clone(), packets, syns, format!(" {}", interface.reason)]
    });
    table::render(&columns, rows.collect(), view.columns)
}

fn unwatched(status: &Status, view: View) -> String {
    let rows = status.unwatched.iter().map(|interface| vec![interface.name.clone(), interface.reason.clone()]);
    table::render(&[Column::Text("NOT WATCHED"), Column::Text("REASON")], rows.collect(), view.columns)
}

fn maps(status: &Status, view: View) -> String {
    let columns = [Column::Text("MAP"), Column::Number("ENTRIES"), Column::Number("CAPACITY"), Column::Number("USED")];
    let rows = status.maps.iter().map(|map| {
        let used = map.entries.saturating_mul(100).checked_div(map.capacity);
        let used = used.map_or_else(|| UNKNOWN.to_owned(), |percent| format!("{percent}%"));
        vec![map.name.clone(), count(map.entries), count(map.capacity), used]
    });
    table::render(&columns, rows.collect(), view.columns)
}

fn programs(status: &Status, view: View) -> String {
    let columns = [
        Column::Text("PROGRAM"),
        Column::Text("KIND"),
        Column::Number("ID"),
        Column::Number("RUNS"),
        Column::Number("NS/RUN"),
    ];
    let rows = status.programs.iter().map(|program| {
        // The kernel counts runs only while kernel.bpf_stats_enabled is 1.
        let counted = program.run_count > 0;
        let runs = if counted { count(program.run_count) } else { UNKNOWN.to_owned() };
        let cost = if counted { nanoseconds(program.run_seconds, program.run_count) } else { UNKNOWN.to_owned() };
        vec![program.name.clone(), program.kind.clone(), program.id.to_string(), runs, cost]
    });
    table::render(&columns, rows.collect(), view.columns)
}

#[expect(clippy::cast_precision_loss, reason = "a mean for people")]
fn nanoseconds(seconds: f64, runs: u64) -> String {
    format!("{:.0}", seconds * 1e9 / runs as f64)
}
