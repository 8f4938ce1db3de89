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
/// full map.
fn is_problem(alert: &AlertSummary) -> bool {
    match alert.kind {
        AlertKind::HookDetached => true,
        AlertKind::MapPressure => alert.severity >= Severity::Warning,
        _ => false,
    }
}

/// The first alert that fires and is no problem too, and how bad it is for a monitoring system.
fn alerts(status: &Status) -> Option<(Health, String)> {
    let (problems, others): (Vec<_>, Vec<_>) = status.alerts.worst.iter().partition(|alert| is_problem(alert));
    let first = others.first()?;
    let health = match first.severity {
        Severity::Info => Health::Ok,
        Severity::Warning => Health::Warning,
        Severity::Critical => Health::Critical,
    };
    let more = match status.alerts.firing.saturating_sub(problems.len() + 1) {
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
    use tracker_model::{Snapshot, api::Unwatched};

    use super::*;

    fn status(mut snapshot: Snapshot, change: impl FnOnce(&mut Snapshot)) -> Status {
        change(&mut snapshot);
        view::status(&snapshot, view::Daemon { version: "1", pid: 1 }, snapshot.taken_at)
    }

    fn checked(status: &Status) -> (u8, String) {
        (code(worst(status)), line(status))
    }

    #[test]
    fn each_health_has_its_line_and_code() {
        let fine = status(sample::snapshot(), |_| {});
        assert_eq!(checked(&fine), (0, "TRACKER OK: 1 interface watched, socket events by tp_btf".to_owned()));
        let (code, line) = checked(&status(sample::snapshot(), |snapshot| snapshot.losses[0] = 2));
        assert!(code == 1 && line.starts_with("TRACKER WARNING: listener_table_full: 2 "), "{code} {line}");
        let (code, line) = checked(&status(sample::snapshot(), |snapshot| {
            snapshot.interfaces.clear();
            snapshot.losses[0] = 2;
        }));
        assert!(code == 2 && line.starts_with("TRACKER CRITICAL: no interface is watched"), "{code} {line}");
        assert!(line.contains("; listener_table_full") && !line.contains('\n'));
    }

    #[test]
    fn a_critical_alert_is_critical_and_named_first() {
        let flooded = status(sample::under_flood(), |snapshot| snapshot.losses[0] = 2);
        let (code, line) = checked(&flooded);
        assert_eq!(code, 2);
        assert!(line.starts_with("TRACKER CRITICAL: SYN flood of [::]:443: "), "{line}");
        assert!(line.contains(" (and 1 more alert); listener_table_full: 2 "), "{line}");
    }

    #[test]
    fn a_warning_alert_is_a_warning_and_gives_way_to_what_is_critical() {
        let warn = |snapshot: &mut Snapshot| {
            snapshot.alerts.truncate(1);
            snapshot.alerts[0].severity = Severity::Warning;
        };
        let (code, line) = checked(&status(sample::under_flood(), warn));
        assert!(code == 1 && line.starts_with("TRACKER WARNING: SYN flood of ") && !line.contains("more"), "{line}");
        let (code, line) = checked(&status(sample::under_flood(), |snapshot| {
            warn(snapshot);
            snapshot.interfaces.clear();
        }));
        assert!(code == 2 && line.starts_with("TRACKER CRITICAL: no interface is watched"), "{line}");
        assert!(line.contains("; SYN flood of "), "{line}");
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

    #[test]
    fn an_alert_for_information_is_shown_and_fine() {
        let scanned = status(sample::under_flood(), |snapshot| drop(snapshot.alerts.remove(0)));
        let expected = "TRACKER OK: 1 interface watched, socket events by tp_btf; Port scan: up to 1,210 \
                        ports without a listener tried, mostly from 203.0.113.9, 31 SYN/s; since 2027-01-15 07:59:20 UTC";
        assert_eq!(checked(&scanned), (0, expected.to_owned()));
    }

    #[test]
    fn an_alert_that_is_over_is_not_shown() {
        let over = status(sample::under_flood(), |snapshot| drop(snapshot.alerts.drain(..2)));
        assert_eq!(checked(&over), (0, "TRACKER OK: 1 interface watched, socket events by tp_btf".to_owned()));
    }
}
