//! `tracker status --check`: one line and an exit code, as monitoring plugins give them.

use std::process::ExitCode;

use anyhow::Result;
use tracker_model::api::{Health, Status};

use super::{failure, output};

/// Prints the line. A daemon that cannot be asked is critical.
pub(super) fn check(status: Result<Status>) -> ExitCode {
    let (health, line) = match status {
        Ok(status) => (status.health, line(&status)),
        Err(error) => (Health::Critical, format!("TRACKER CRITICAL: {}", failure::chain(&error))),
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

fn line(status: &Status) -> String {
    let name = match status.health {
        Health::Ok => "OK",
        Health::Warning => "WARNING",
        Health::Critical => "CRITICAL",
    };
    if status.problems.is_empty() {
        let interfaces = status.interfaces.len();
        let noun = if interfaces == 1 { "interface" } else { "interfaces" };
        return format!("TRACKER {name}: {interfaces} {noun} watched, socket events by {}", status.socket_events);
    }
    format!("TRACKER {name}: {}", status.problems.join("; "))
}

#[cfg(test)]
mod tests {
    use tracker_model::{sample, view};

    use super::*;

    fn status(change: impl FnOnce(&mut tracker_model::Snapshot)) -> Status {
        let mut snapshot = sample::snapshot();
        change(&mut snapshot);
        view::status(&snapshot, view::Daemon { version: "1", pid: 1 }, snapshot.taken_at)
    }

    #[test]
    fn each_health_has_its_line_and_code() {
        let fine = status(|_| {});
        assert_eq!(
            (code(fine.health), line(&fine).as_str()),
            (0, "TRACKER OK: 1 interface watched, socket events by tp_btf")
        );
        let warning = status(|snapshot| snapshot.losses[0] = 2);
        assert_eq!(code(warning.health), 1);
        assert!(line(&warning).starts_with("TRACKER WARNING: listener_table_full: 2 "));
        let critical = status(|snapshot| {
            snapshot.interfaces.clear();
            snapshot.losses[0] = 2;
        });
        assert_eq!(code(critical.health), 2);
        assert!(line(&critical).starts_with("TRACKER CRITICAL: no interface is watched"));
        assert!(line(&critical).contains("; listener_table_full") && !line(&critical).contains('\n'));
    }
}
