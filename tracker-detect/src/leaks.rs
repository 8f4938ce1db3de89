//! Connections that one side has closed and the other does not: `CLOSE_WAIT` and `FIN_WAIT2` that stay.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tracker_common::limits;

use crate::{
    alert::{ActiveAlerts, AlertStore, ObservedAt, Report},
    detector::{Detector, LeakObservation, LeaksObservation, Observation},
};
use tracker_model::{
    api::{AlertKind, AlertSubject, Fact, Severity, Unit},
    process::Process,
    text::{counted, span},
};

/// A socket counts when it has heard nothing of its peer for this long.
pub const SILENT: Duration = Duration::from_secs(limits::SILENT_SECONDS as u64);
/// This many of them are a leak; fewer may be slow clients.
const LEAK: u32 = 50;
/// They are an alert after this many looks in a row.
const LOOKS: u32 = 2;
/// A process that could not be counted is taken for gone after this many looks in a row.
const MISSED: u32 = 8;

/// Which leak of which process.
type Key = (u32, u32, AlertKind);

/// Watches all processes for leaks.
#[derive(Debug)]
struct Leaks {
    suspected: BTreeMap<Key, Leak>,
    alerts: ActiveAlerts<Key>,
    at: BTreeMap<u32, Duration>,
}

/// The detector, whose alerts go into `alerts`.
pub(crate) fn detector(alerts: AlertStore) -> Box<dyn Detector> {
    Box::new(Leaks { suspected: BTreeMap::new(), alerts: ActiveAlerts::new(alerts), at: BTreeMap::new() })
}

impl Detector for Leaks {
    fn observe(&mut self, observation: &Observation) {
        match observation {
            Observation::Leaks(seen) => self.step(seen),
            Observation::NetnsGone { netns, wall } => {
                self.at.remove(netns);
                self.suspected.retain(|key, _| key.0 != *netns);
                self.alerts.resolve_where(|key, _| (key.0 == *netns).then_some(*wall));
            }
            _ => {}
        }
    }
}

/// A leak that is suspected, or has an alert.
#[derive(Debug)]
struct Leak {
    /// Since when its oldest socket leaks, at the latest.
    since: Timestamp,
    looks: u32,
    /// Looks running at which it could not be counted.
    missed: u32,
}

impl Leaks {
    /// Adds a look. One that is not later than the last of its namespace is ignored.
    fn step(&mut self, seen: &LeaksObservation) {
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
                // A process without any may have some when not all were counted.
                if count > 0 || seen.complete {
                    counts.insert((seen.netns, process.pid, kind), (process, count, oldest));
                }
            }
        }
        let now = ObservedAt { at: seen.at, wall: seen.wall };
        for (key, (process, count, oldest)) in &counts {
            if *count >= LEAK || self.alerts.fires(key) {
                self.follow(*key, process, *count, *oldest, now);
            }
        }
        self.suspected.retain(|key, leak| {
            // A look at one network namespace says nothing of the processes of another.
            if key.0 != seen.netns {
                return true;
            }
            let count = counts.get(key).map(|(_, count, _)| *count);
            leak.missed = if count.is_some() { 0 } else { leak.missed + 1 };
            let unknown = !seen.complete && count.is_none() && leak.missed <= MISSED;
            let count = count.unwrap_or(0);
            unknown || count >= LEAK || self.alerts.fires(key) && count * 2 >= LEAK
        });
        self.alerts.resolve_where(|key, _| (!self.suspected.contains_key(key)).then_some(seen.wall));
    }

    fn follow(&mut self, key: Key, process: &LeakObservation, count: u32, oldest: Duration, now: ObservedAt) {
        let since = SignedDuration::try_from(oldest).ok().and_then(|age| now.wall.checked_sub(age).ok());
        let leak = self.suspected.entry(key).or_insert(Leak { since: since.unwrap_or(now.wall), looks: 0, missed: 0 });
        leak.looks += 1;
        let goes_on = if self.alerts.fires(&key) { count * 2 >= LEAK } else { leak.looks >= LOOKS };
        if goes_on {
            let report = report(key, process, count, oldest.as_secs_f64());
            self.alerts.report(key, leak.since, now, report, |it, before| it.keep_peak("leaked_peak", before));
        }
    }
}

fn report((netns, pid, kind): Key, process: &LeakObservation, count: u32, oldest: f64) -> Report {
    let (state, advice) = match kind {
        AlertKind::FinWaitLeak => (
            "FIN_WAIT2",
            "The process has shut its side down and waits for peers that do not close: let it close() them after a \
             time of its own, which also lets net.ipv4.tcp_fin_timeout end them.",
        ),
        _ => (
            "CLOSE_WAIT",
            "The peers have closed these connections and the process does not call close(): fix it; a restart frees \
             them.",
        ),
    };
    let headline = format!(
        "{} (pid {pid}) leaks connections: {} in {state}, the oldest for at least {}",
        process.comm,
        counted(count.into(), "socket"),
        span(oldest),
    );
    let process = Some(Process { pid, comm: process.comm.clone() });
    let subject = AlertSubject { netns, process, ..AlertSubject::default() };
    let facts = vec![
        Fact::new("leaked", "sockets", u64::from(count), Unit::None)
            .about("Sockets in `CLOSE_WAIT` or `FIN_WAIT2` that have heard nothing from their peer for a minute."),
        Fact::new("leaked_peak", "at most", u64::from(count), Unit::None).about("The most since the onset."),
        Fact::new("oldest_seconds", "oldest", oldest, Unit::SecondsAtLeast)
            .about("How long the oldest has been in its state, at least: time since the last segment from its peer."),
    ];
    Report { headline, advice: advice.to_owned(), ..Report::of_facts(kind, Severity::Warning, subject, facts) }
}
