use tracker_model::api::{Alert, AlertState};

use super::*;
use crate::ports::testing::wall;

fn watch() -> Leaks {
    Leaks::new(AlertStore::default())
}

fn process(close_wait: u32, oldest: u64) -> LeakObservation {
    let close_wait_oldest = Duration::from_secs(oldest);
    LeakObservation { pid: 815, comm: "nginx".to_owned(), close_wait, close_wait_oldest, ..LeakObservation::default() }
}

/// A look at a namespace; whether it counted all processes.
fn look_at(watch: &mut Leaks, at: u32, netns: u32, processes: Vec<LeakObservation>, complete: bool) -> Vec<Alert> {
    watch.step(&LeaksObservation {
        at: Duration::from_secs(at.into()),
        wall: wall(at.into()),
        netns,
        processes,
        complete,
    });
    watch.alerts.alerts()
}

fn look(watch: &mut Leaks, at: u32, processes: Vec<LeakObservation>) -> Vec<Alert> {
    look_at(watch, at, 1, processes, true)
}

/// One that watches a leak.
fn leaking() -> Leaks {
    let mut watch = watch();
    look(&mut watch, 0, vec![process(60, 90)]);
    look(&mut watch, 15, vec![process(60, 105)]);
    watch
}

#[test]
fn two_looks_running_make_a_leak_and_less_than_half_ends_it() {
    let mut watch = watch();
    assert_eq!(look(&mut watch, 0, vec![process(49, 90)]), []);
    assert_eq!(look(&mut watch, 15, vec![process(50, 100)]), []);
    let alert = look(&mut watch, 30, vec![process(120, 250)]).remove(0);
    assert_eq!((alert.kind, alert.severity, alert.since), (AlertKind::CloseWaitLeak, Severity::Warning, wall(15.0)));
    assert_eq!(alert.subject.process, Some(Process { pid: 815, comm: "nginx".to_owned() }));
    assert_eq!(
        alert.summary,
        "nginx (pid 815) leaks connections: 120 sockets in CLOSE_WAIT, the oldest for at least 4 min; since 2027-01-15 08:00:15 UTC"
    );
    assert_eq!(look(&mut watch, 45, vec![process(25, 300)])[0].state, AlertState::Firing);
    let over = look(&mut watch, 60, vec![process(24, 300)]).remove(0);
    assert_eq!((over.state, over.until), (AlertState::Resolved, Some(wall(60.0))));
    let figures = serde_json::json!({ "leaked": 25, "leaked_peak": 120, "oldest_seconds": 300.0 });
    assert_eq!(serde_json::to_value(&over.evidence).unwrap(), figures, "as it was while it went on");
    assert_eq!(over.facts[1], Fact::new("leaked_peak", "at most", 120, Unit::None));
    look(&mut watch, 75, vec![process(60, 300)]);
    assert_eq!(look(&mut watch, 90, vec![process(60, 300)]).len(), 2);
    assert_eq!(look(&mut watch, 105, Vec::new())[0].until, Some(wall(105.0)), "the process is gone");
}

#[test]
fn looks_that_are_not_running_do_not_count() {
    let mut watch = watch();
    for at in (0..300).step_by(30) {
        assert_eq!(look(&mut watch, at, vec![process(60, 90)]), []);
        assert_eq!(look(&mut watch, at + 15, vec![process(30, 90)]), []);
    }
    look(&mut watch, 300, vec![process(60, 90)]);
    assert_eq!(look(&mut watch, 300, vec![process(60, 90)]), [], "the same look");
}

#[test]
fn each_state_and_process_has_an_alert_of_its_own() {
    let mut watch = watch();
    let both = || LeakObservation { fin_wait2: 70, fin_wait2_oldest: Duration::from_secs(61), ..process(60, 90) };
    let other = || LeakObservation { pid: 5, comm: "php".to_owned(), ..process(80, 7_300) };
    look(&mut watch, 0, vec![both(), other()]);
    let alerts = look(&mut watch, 15, vec![both(), other()]);
    assert_eq!(alerts.iter().map(|alert| alert.id).collect::<Vec<_>>(), [3, 2, 1]);
    let shown = |text: &str| alerts.iter().filter(|alert| alert.summary.contains(text)).count();
    assert_eq!([shown("FIN_WAIT2, the oldest for at least 61 s"), shown("php (pid 5)"), shown("at least 2 h")], [1; 3]);
    watch.forget(1, wall(20.0));
    assert!(watch.alerts.alerts().iter().all(|alert| alert.until == Some(wall(20.0))));
}

#[test]
fn one_namespace_says_nothing_of_another() {
    let alerts = look_at(&mut leaking(), 16, 2, Vec::new(), true);
    assert_eq!(alerts[0].state, AlertState::Firing);
}

#[test]
fn a_process_that_was_not_counted_has_not_stopped() {
    let mut watch = leaking();
    // Its other state was counted.
    look_at(&mut watch, 30, 1, vec![LeakObservation { fin_wait2: 3, ..process(0, 0) }], false);
    assert_eq!(look_at(&mut watch, 31, 1, Vec::new(), false)[0].state, AlertState::Firing);
    assert_eq!(look(&mut watch, 45, Vec::new())[0].state, AlertState::Resolved, "all were counted");
    look(&mut watch, 60, vec![process(60, 90)]);
    look(&mut watch, 75, vec![process(60, 105)]);
    for at in 76..84 {
        // Looks at another namespace, that count no process either, do not keep the alert.
        assert_eq!(look_at(&mut watch, at, 1, Vec::new(), false)[0].state, AlertState::Firing);
        look_at(&mut watch, at, 2, Vec::new(), false);
    }
    assert_eq!(look_at(&mut watch, 84, 1, Vec::new(), false)[0].state, AlertState::Resolved, "it is gone");
}
