//! Connections that one side has closed and the other does not: `CLOSE_WAIT` and `FIN_WAIT2` that stay.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use jiff::Timestamp;
use tracker_common::limits;

use crate::alert::store::{AlertIds, Ledger};
use tracker_model::{
    api::{Alert, AlertKind, AlertState, AlertSubject, Evidence, LeakEvidence, Severity},
    process::Process,
    text::{counted, period, span},
};

/// A socket counts when it has heard nothing of its peer for so long.
pub const SILENT: Duration = Duration::from_secs(limits::SILENT_SECONDS as u64);
/// So many of them are a leak; fewer may be slow clients.
const LEAK: u32 = 50;
/// In so many looks running.
const LOOKS: u32 = 2;
/// In so many looks running a process may be missing that could not be counted; then it is gone.
const MISSED: u32 = 8;

/// What a look at all processes of a network namespace saw, some four times a minute.
#[derive(Clone, Debug)]
pub struct LeaksSeen {
    /// When, by a clock that never jumps.
    pub at: Duration,
    /// The time of day.
    pub wall: Timestamp,
    /// Network namespace.
    pub netns: u32,
    /// Processes that hold such sockets.
    pub processes: Vec<LeakSeen>,
    /// Whether a process that is missing holds none. There may be more processes than are counted.
    pub complete: bool,
}

/// The sockets of a process that have heard nothing of their peer for [`SILENT`] or longer.
#[derive(Clone, Debug, Default)]
pub struct LeakSeen {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: String,
    /// Those in `CLOSE_WAIT`: the peer has closed, the process has not.
    pub close_wait: u32,
    /// Time since the last segment from the peer of the oldest of them: it has been in `CLOSE_WAIT` for as long at least,
    /// since the peer's FIN was a segment too.
    pub close_wait_oldest: Duration,
    /// Those in `FIN_WAIT2`: the process has closed its side (`shutdown()`), the peer has not.
    pub fin_wait2: u32,
    /// As `close_wait_oldest`.
    pub fin_wait2_oldest: Duration,
}

/// Which leak of which process.
type Key = (u32, u32, AlertKind);

/// Watches all processes for leaks.
#[derive(Debug, Default)]
pub struct LeakWatch {
    leaks: BTreeMap<Key, Leak>,
    ledger: Ledger<Alert>,
    at: BTreeMap<u32, Duration>,
}

/// A leak that is suspected, or has an alert.
#[derive(Debug)]
struct Leak {
    /// When it was seen first.
    since: Timestamp,
    looks: u32,
    /// Looks running at which it could not be counted.
    missed: u32,
    alert: Option<u64>,
}

impl LeakWatch {
    /// One that has seen nothing, whose alerts take their numbers from `ids`.
    #[must_use]
    pub fn new(ids: AlertIds) -> Self {
        Self { ledger: Ledger::new(ids), ..Self::default() }
    }

    /// Takes in a look. Those that are not later than the last of that namespace are left out.
    pub fn step(&mut self, seen: &LeaksSeen) {
        if self.at.get(&seen.netns).is_some_and(|at| *at >= seen.at) {
            return;
        }
        self.at.insert(seen.netns, seen.at);
        let mut counts = BTreeMap::new();
        for process in &seen.processes {
            let kinds = [
                (AlertKind::CloseWaitLeak, process.close_wait, process.close_wait_oldest),
                (AlertKind::FinWaitLeak, process.fin_wait2, process.fin_wait2_oldest),
            ];
            for (kind, count, oldest) in kinds {
                // None is not known to be none when not all were counted.
                if count > 0 || seen.complete {
                    counts.insert((seen.netns, process.pid, kind), (process, count, oldest));
                }
            }
        }
        for (key, (process, count, oldest)) in &counts {
            if *count >= LEAK || self.leaks.get(key).is_some_and(|leak| leak.alert.is_some()) {
                self.follow(*key, process, *count, *oldest, seen.wall);
            }
        }
        let ledger = &mut self.ledger;
        self.leaks.retain(|key, leak| {
            // A look at one network namespace says nothing of the processes of another.
            if key.0 != seen.netns {
                return true;
            }
            let count = counts.get(key).map(|(_, count, _)| *count);
            leak.missed = if count.is_some() { 0 } else { leak.missed + 1 };
            let unknown = !seen.complete && count.is_none() && leak.missed <= MISSED;
            let count = count.unwrap_or(0);
            let goes_on = unknown || count >= LEAK || leak.alert.is_some() && count * 2 >= LEAK;
            if !goes_on {
                leak.end(seen.wall, ledger);
            }
            goes_on
        });
    }

    /// A network namespace is gone: its alerts end.
    pub fn forget(&mut self, netns: u32, wall: Timestamp) {
        self.at.remove(&netns);
        let ledger = &mut self.ledger;
        self.leaks.retain(|key, leak| {
            if key.0 == netns {
                leak.end(wall, ledger);
            }
            key.0 != netns
        });
    }

    /// Alerts: firing ones first, then resolved ones, newest first.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.ledger.iter().cloned().collect()
    }

    fn follow(&mut self, key: Key, process: &LeakSeen, count: u32, oldest: Duration, wall: Timestamp) {
        let leak = self.leaks.entry(key).or_insert(Leak { since: wall, looks: 0, missed: 0, alert: None });
        leak.looks += 1;
        let evidence = LeakEvidence { leaked: count, leaked_peak: count, oldest_seconds: oldest.as_secs_f64() };
        if let Some(alert) = leak.alert.and_then(|id| self.ledger.get(id)) {
            if count * 2 >= LEAK {
                let before = alert.evidence.leak().map_or(0, |before| before.leaked_peak);
                alert.evidence = Evidence::Leak(LeakEvidence { leaked_peak: before.max(count), ..evidence });
                tell(alert);
            }
        } else if leak.alert.is_none() && leak.looks >= LOOKS {
            leak.alert = Some(self.ledger.open(alert(key, process, evidence, leak.since)));
        }
    }
}

impl Leak {
    fn end(&self, wall: Timestamp, ledger: &mut Ledger<Alert>) {
        if let Some(alert) = self.alert.and_then(|id| ledger.get(id)) {
            (alert.state, alert.until) = (AlertState::Resolved, Some(wall.max(alert.since)));
            tell(alert);
        }
    }
}

fn alert((netns, pid, kind): Key, process: &LeakSeen, evidence: LeakEvidence, since: Timestamp) -> Alert {
    let process = Some(Process { pid, comm: process.comm.clone() });
    let advice = match kind {
        AlertKind::FinWaitLeak => {
            "The process has shut its side down and waits for peers that do not close: let it close() them after a time of \
             its own, which also lets net.ipv4.tcp_fin_timeout end them."
        }
        _ => {
            "The peers have closed these connections and the process does not call close(): mend it; a restart frees them."
        }
    };
    let mut alert = Alert {
        id: 0,
        kind,
        severity: Severity::Warning,
        state: AlertState::Firing,
        since,
        until: None,
        subject: AlertSubject { netns, process, ..AlertSubject::default() },
        class: None,
        summary: String::new(),
        evidence: Evidence::Leak(evidence),
        advice: advice.to_owned(),
        unknown: Vec::new(),
    };
    tell(&mut alert);
    alert
}

/// Writes the summary anew, from the figures.
fn tell(alert: &mut Alert) {
    let (Evidence::Leak(evidence), Some(process)) = (&alert.evidence, &alert.subject.process) else { return };
    let state = if alert.kind == AlertKind::FinWaitLeak { "FIN_WAIT2" } else { "CLOSE_WAIT" };
    let mut line = format!(
        "{} (pid {}) leaks connections: {} in {state}, the oldest for at least {}",
        process.comm,
        process.pid,
        counted(evidence.leaked.into(), "socket"),
        span(evidence.oldest_seconds),
    );
    let _ = write!(line, "; {}", period(alert.since, alert.until));
    alert.summary = line;
}

#[cfg(test)]
mod tests;
