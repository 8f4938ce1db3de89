//! Processes that leak connections.

use std::time::Duration;

use tracker_detect::detector::{LeakObservation, LeaksObservation, Observation};
use tracker_model::{
    api::{Alert, AlertKind, AlertState, FactValue, Severity},
    process::Process,
};

use crate::support::{Watch, wall};

fn process(close_wait: u32, oldest: u64) -> LeakObservation {
    let close_wait_oldest = Duration::from_secs(oldest);
    LeakObservation { pid: 815, comm: "nginx".to_owned(), close_wait, close_wait_oldest, ..LeakObservation::default() }
}

/// A look at a namespace; whether it counted all processes.
fn look_at(watch: &mut Watch, at: u32, netns: u32, processes: Vec<LeakObservation>, complete: bool) -> Vec<Alert> {
    let at = f64::from(at);
    let seen = LeaksObservation { at: Duration::from_secs_f64(at), wall: wall(at), netns, processes, complete };
    watch.show(&Observation::Leaks(seen))
}

fn look(watch: &mut Watch, at: u32, processes: Vec<LeakObservation>) -> Vec<Alert> {
    look_at(watch, at, 1, processes, true)
}

/// A series of looks: second, sockets in `CLOSE_WAIT` and age of the oldest, and how many alerts fire then and how many
/// are over.
#[test]
fn two_looks_running_make_a_leak_and_less_than_half_ends_it() {
    let mut watch = Watch::default();
    let series = [
        (0, 49, [0, 0]),
        (15, 50, [0, 0]),
        (30, 120, [1, 0]),
        (45, 25, [1, 0]),
        (60, 24, [0, 1]),
        (75, 60, [0, 1]),
        (75, 60, [0, 1]), // The same look.
        (90, 30, [0, 1]),
        (105, 60, [0, 1]), // Not running.
        (120, 60, [1, 1]),
    ];
    let mut last = Vec::new();
    for (at, sockets, expected) in series {
        last = look(&mut watch, at, vec![process(sockets, 250)]);
        let count = |state| last.iter().filter(|alert| alert.state == state).count();
        assert_eq!([AlertState::Firing, AlertState::Resolved].map(count), expected, "at {at}");
    }
    let over = &last[1];
    assert_eq!((over.kind, over.severity), (AlertKind::CloseWaitLeak, Severity::Warning));
    let oldest = 15.0 - 250.0;
    assert_eq!((over.since, over.until), (wall(oldest), Some(wall(60.0))), "since its oldest socket leaks");
    assert_eq!(over.subject.process, Some(Process { pid: 815, comm: "nginx".to_owned() }));
    let figures = serde_json::json!({ "leaked": 25, "leaked_peak": 120, "oldest_seconds": 250.0 });
    assert_eq!(serde_json::to_value(&over.evidence).unwrap(), figures, "as it was while it went on");
    let peak = &over.facts[1];
    assert_eq!((&*peak.name, &*peak.label, &peak.value), ("leaked_peak", "at most", &FactValue::Count(120)));
    assert_eq!(
        last[0].summary,
        "nginx (pid 815) leaks connections: 60 sockets in CLOSE_WAIT, the oldest for at least 4 min; since \
         2027-01-15 07:57:35 UTC"
    );
    assert_eq!(look(&mut watch, 135, Vec::new())[0].until, Some(wall(135.0)), "the process is gone");
}

#[test]
fn each_state_and_process_has_an_alert_of_its_own() {
    let mut watch = Watch::default();
    let both = LeakObservation { fin_wait2: 70, fin_wait2_oldest: Duration::from_secs(61), ..process(60, 90) };
    let other = LeakObservation { pid: 5, comm: "php".to_owned(), ..process(80, 7_300) };
    look(&mut watch, 0, vec![both.clone(), other.clone()]);
    let alerts = look(&mut watch, 15, vec![both, other]);
    assert_eq!(alerts.len(), 3);
    let shown = |text: &str| alerts.iter().filter(|alert| alert.summary.contains(text)).count();
    assert_eq!([shown("FIN_WAIT2, the oldest for at least 61 s"), shown("php (pid 5)"), shown("at least 2 h")], [1; 3]);
    assert!(watch.forget(1, wall(20.0)).iter().all(|alert| alert.until == Some(wall(20.0))));
}

#[test]
fn a_process_that_was_not_counted_has_not_stopped() {
    let mut watch = Watch::default();
    let leak = |watch: &mut Watch, at| {
        look(watch, at, vec![process(60, 90)]);
        look(watch, at + 15, vec![process(60, 105)])
    };
    leak(&mut watch, 0);
    let other_state = LeakObservation { fin_wait2: 3, ..process(0, 0) };
    // Another namespace says nothing of it; its other state was counted; it was not counted; it was.
    let looks = [
        (16, 2, vec![], true, 1),
        (30, 1, vec![other_state], false, 1),
        (31, 1, vec![], false, 1),
        (45, 1, vec![], true, 0),
    ];
    for (at, netns, processes, complete, firing) in looks {
        let alerts = look_at(&mut watch, at, netns, processes, complete);
        assert_eq!(alerts.iter().filter(|alert| alert.until.is_none()).count(), firing, "at {at}");
    }
    leak(&mut watch, 60);
    for at in 76..84 {
        // Looks at another namespace, that count no process either, do not keep the alert.
        assert_eq!(look_at(&mut watch, at, 1, Vec::new(), false)[0].state, AlertState::Firing);
        look_at(&mut watch, at, 2, Vec::new(), false);
    }
    assert_eq!(look_at(&mut watch, 84, 1, Vec::new(), false)[0].state, AlertState::Resolved, "it is gone");
}
