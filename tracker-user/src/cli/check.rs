//! `tracker status --check`: one line and an exit code, as monitoring plugins give them.

use std::process::ExitCode;

use anyhow::Result;
use tracker_model::api::{AlertKind, AlertSummary, Health, Severity, Status};

use super::{errors, format::printable, output};

/// Prints the line. A daemon that cannot be asked is critical.
pub(super) fn check(status: Result<Status>) -> ExitCode {
    let (health, line) = match status {
        Ok(status) => (worst(&status), line(&status)),
        Err(error) => (Health::Critical, format!("TRACKER CRITICAL: {}", errors::chain(&error))),
    };
    let _ = output::print(&(line + "\n"));
    ExitCode::from(code(health))
}

fn code(health: Health) -> u8 {
    match health {
        Health::Ok => 0,
        Health::Warning => 1,
        Health::Critical => 2,
    }
}

/// The worse of the daemon's health and its alerts.
fn worst(status: &Status) -> Health {
    status.health.max(alerts(status).map_or(Health::Ok, |(health, _)| health))
}

/// Whether the problem that an alert is about is among [`Status::problems`] too: an interface that is not watched, a
/// map that is full now.
fn is_problem(alert: &AlertSummary, status: &Status) -> bool {
    match alert.kind {
        AlertKind::HookDetached => true,
        AlertKind::MapPressure => {
            status.maps.iter().any(|map| map.entries >= map.capacity && alert.summary.contains(&map.name))
        }
        _ => false,
    }
}

/// The first alert that fires and is no problem too, and how bad it is for a monitoring system.
fn alerts(status: &Status) -> Option<(Health, String)> {
    let first = status.alerts.worst.iter().find(|alert| !is_problem(alert, status))?;
    let health = match first.severity {
        Severity::Info => Health::Ok,
        Severity::Warning => Health::Warning,
        Severity::Critical => Health::Critical,
    };
    let problems = status.alerts.worst.iter().filter(|alert| is_problem(alert, status)).count();
    let more = match status.alerts.firing.saturating_sub(problems + 1) {
        0 => String::new(),
        1 => " (and 1 more alert)".to_owned(),
        more => format!(" (and {more} more alerts)"),
    };
    Some((health, first.summary.clone() + &more))
}

pub(super) fn line(status: &Status) -> String {
    let name = match worst(status) {
        Health::Ok => "OK",
        Health::Warning => "WARNING",
        Health::Critical => "CRITICAL",
    };
    let mut parts = status.problems.clone();
    if worst(status) == Health::Ok {
        let interfaces = status.interfaces.len();
        let noun = if interfaces == 1 { "interface" } else { "interfaces" };
        parts.push(format!("{interfaces} {noun} watched, socket events by {}", status.socket_events));
    }
    if let Some((health, alert)) = alerts(status) {
        // What makes it as bad as it is comes first.
        let place = if health > Health::Ok && health >= status.health { 0 } else { parts.len() };
        parts.insert(place, alert);
    }
    printable(&format!("TRACKER {name}: {}", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use crate::view;
    use tracker_fixtures as sample;
    use tracker_model::{
        Snapshot,
        api::{MapFill, Unwatched},
    };

    use super::*;

    fn status(mut snapshot: Snapshot, change: impl FnOnce(&mut Snapshot)) -> Status {
        change(&mut snapshot);
        view::status(&snapshot, view::Daemon { version: "1", pid: 1 }, snapshot.taken_at)
    }

    const FINE: &str = "TRACKER OK: 1 interface watched, socket events by tp_btf";

    /// A snapshot, a change to it, and what is to come of it: the exit code, and the start and a part of the line.
    type Case = (fn() -> Snapshot, fn(&mut Snapshot), u8, &'static str, &'static str);

    fn warn(snapshot: &mut Snapshot) {
        snapshot.alerts.truncate(1);
        snapshot.alerts[0].severity = Severity::Warning;
    }

    const CASES: [Case; 8] = [
        (sample::snapshot, |_| {}, 0, FINE, ""),
        (sample::snapshot, |it| it.losses[0] = 2, 1, "TRACKER WARNING: listener_table_full: 2 ", ""),
        (
            sample::snapshot,
            |it| (it.losses[0] = 2, it.interfaces.clear()).1,
            2,
            "TRACKER CRITICAL: no interface is watched",
            "; listener_table_full",
        ),
        // An alert that is critical is named first.
        (
            sample::under_flood,
            |it| it.losses[0] = 2,
            2,
            "TRACKER CRITICAL: SYN flood of [::]:443: ",
            " (and 1 more alert); listener_table_full: 2 ",
        ),
        (sample::under_flood, warn, 1, "TRACKER WARNING: SYN flood of ", ""),
        // One that is a warning gives way to what is critical.
        (
            sample::under_flood,
            |it| (warn(it), it.interfaces.clear()).1,
            2,
            "TRACKER CRITICAL: no interface is watched",
            "; SYN flood of ",
        ),
        // One for information is shown, and fine.
        (
            sample::under_flood,
            |it| drop(it.alerts.remove(0)),
            0,
            FINE,
            "; Port scan: 1,210 ports without a listener tried, mostly from 203.0.113.9, 40 SYN/s at most; since \
             2027-",
        ),
        // One that is over is not shown.
        (sample::under_flood, |it| drop(it.alerts.drain(..2)), 0, FINE, ""),
    ];

    #[test]
    fn each_health_has_its_line_and_code() {
        for (snapshot, change, expected, start, part) in CASES {
            let status = status(snapshot(), change);
            let (code, line) = (code(worst(&status)), line(&status));
            assert_eq!(code, expected, "{line}");
            assert!(line.starts_with(start) && line.contains(part) && !line.contains('\n'), "{line}");
            assert!(!part.is_empty() || !line.contains("more alert") && line.matches("; ").count() <= 2, "{line}");
        }
    }

    #[test]
    fn a_map_that_was_full_and_is_no_longer_is_still_said() {
        let line = |alert: &str, entries| {
            line(&status(sample::under_flood(), |snapshot| {
                warn(snapshot);
                (snapshot.alerts[0].kind, snapshot.alerts[0].summary) = (AlertKind::MapPressure, alert.to_owned());
                snapshot.maps = vec![MapFill { name: "LISTENERS".to_owned(), entries, capacity: 10 }];
            }))
        };
        let problem = "TRACKER WARNING: LISTENERS is full (10 of 10): ";
        let said = line("The kernel map LISTENERS is nearly full", 10);
        assert!(said.starts_with(problem) && !said.contains("nearly"), "once: {said}");
        let said = line("The kernel map LIFETIMES is nearly full", 10);
        assert!(said.contains("LIFETIMES is nearly full") && said.contains("LISTENERS is full"), "{said}");
        let said = line("The kernel map LISTENERS is nearly full", 9);
        assert!(said.starts_with("TRACKER WARNING: The kernel map LISTENERS is nearly full"), "it fires on: {said}");
    }

    #[test]
    fn what_is_a_problem_and_an_alert_is_said_once() {
        let detached = status(sample::under_flood(), |snapshot| {
            let missing =
                ["eth1", "eth2"].map(|name| Unwatched { name: name.to_owned(), reason: "it is down".to_owned() });
            snapshot.missing = missing.into();
            for alert in &mut snapshot.alerts[..2] {
                alert.kind = AlertKind::HookDetached;
            }
        });
        let alerts = detached.alerts.worst.iter().filter(|alert| alert.kind == AlertKind::HookDetached);
        assert_eq!(alerts.count(), 2);
        assert_eq!(line(&detached), "TRACKER WARNING: eth1, eth2 are not watched: it is down");
    }
}
