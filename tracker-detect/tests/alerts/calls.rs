//! Calls of `connect()` and `bind()` that failed.

use tracker_detect::ports::PortsObservation;
use tracker_model::{
    api::{Alert, AlertKind, AlertState, PortConflict, PortFailure, PortHolder, Severity},
    explain::Protocol,
    process::Process,
};

use crate::support::{Watch, conflict, evidence, failure, seen, tuple, wall};

fn process(comm: &str, pid: u32) -> Process {
    Process { pid, comm: comm.to_owned() }
}

/// A look that saw these failures and a destination with `open` connections, if any.
fn failed(watch: &mut Watch, at: f64, open: u16, failures: Vec<PortFailure>) -> Vec<Alert> {
    let tuples = if open > 0 { vec![tuple(open, 0)] } else { Vec::new() };
    watch.step(&PortsObservation { failures, ..seen(at, tuples) })
}

#[test]
fn one_failure_is_critical_and_over_a_minute_after_the_last() {
    let mut watch = Watch::default();
    let mut look = |at: f64, count, last| failed(&mut watch, at, 0, vec![failure(count, 9.0, last)]);
    let alert = look(10.0, 1, 9.0).remove(0);
    assert_eq!((alert.kind, alert.severity), (AlertKind::PortAllocationFailed, Severity::Critical));
    assert_eq!((alert.since, &alert.subject.process), (wall(9.0), &Some(process("curl", 77))));
    assert_eq!(alert.unknown, ["the last census saw no connection to this destination"]);
    assert_eq!(
        alert.summary,
        "connect() to 192.0.2.7:443 from 10.0.0.5 found no free local port: 1 call failed, all of curl (pid 77); since \
         2027-01-15 08:00:09 UTC"
    );
    assert_eq!((evidence(&alert).in_use, evidence(&alert).capacity), (None, 1_000));
    assert_eq!(evidence(&look(20.0, 5, 19.0)[0]).failures, 5);
    assert_eq!(look(78.0, 5, 19.0)[0].state, AlertState::Firing);
    assert_eq!(look(79.0, 5, 19.0)[0].until, Some(wall(19.0)));
    let again = look(100.0, 7, 99.0);
    assert_eq!((again.len(), again[0].id, again[0].since, evidence(&again[0]).failures), (2, 2, wall(99.0), 2));
    assert_eq!(look(200.0, 7, 99.0)[0].until, Some(wall(99.0)));
}

/// Looks that saw rows of failures (count, first and last), and what is then known of the one alert: since when, and
/// how many calls.
type Series = [(f64, Vec<(u64, f64, f64)>, f64, u64)];

#[test]
fn each_failure_is_counted_once() {
    let both = |last, count| vec![(5, 9.0, 9.5), (count, 9.1, last)];
    let cases: [(&str, &Series); 3] = [
        ("a namespace that was long not looked at", &[(1_000.0, vec![(3, 800.0, 900.0)], 800.0, 3)]),
        (
            "looks that miss the row",
            &[
                (10.0, vec![(3, 9.0, 9.9)], 9.0, 3),
                (10.4, vec![], 9.0, 3),
                (10.8, vec![(3, 9.0, 9.9)], 9.0, 3),
                (11.0, vec![], 9.0, 3),
                (12.0, vec![(4, 9.0, 11.5)], 9.0, 4),
                (40.0, vec![(4, 9.0, 11.5)], 9.0, 4),
                (300.0, vec![], 9.0, 4),
                (301.0, vec![(4, 9.0, 11.5)], 9.0, 4),
            ],
        ),
        (
            "a process that fails on sockets of both families",
            &[(10.0, both(9.4, 3), 9.0, 8), (11.0, both(9.4, 3), 9.0, 8), (12.0, both(11.5, 4), 9.0, 9)],
        ),
    ];
    for (case, series) in cases {
        let mut watch = Watch::default();
        for (at, rows, since, failures) in series {
            let rows = rows.iter().map(|(count, first, last)| failure(*count, *first, *last)).collect();
            let alerts = failed(&mut watch, *at, 10, rows);
            let [alert] = &alerts[..] else { panic!("{case}: one alert: {alerts:#?}") };
            assert_eq!((alert.since, evidence(alert).failures), (wall(*since), *failures), "{case} at {at}");
        }
    }
}

#[test]
fn failures_of_a_listed_tuple_have_its_figures() {
    let mut watch = Watch::default();
    let mut full = seen(10.0, vec![tuple(400, 600)]);
    full.failures = vec![failure(2, 9.0, 9.5), PortFailure { process: process("ab", 5), ..failure(10, 9.0, 9.9) }];
    let alerts = watch.step(&full);
    let kinds: Vec<_> = alerts.iter().map(|alert| alert.kind).collect();
    assert_eq!(kinds, [AlertKind::PortAllocationFailed, AlertKind::PortExhaustion]);
    assert!(alerts[0].summary.contains(
        "no free local port: 12 calls failed, most of ab (pid 5); 1,000 of 1,000 used (100 %), 600 of them in \
         TIME_WAIT; since"
    ));
    assert_eq!(alerts[0].unknown, [""; 0]);
    assert!(alerts[1].summary.contains("192.0.2.7:443 are gone: 1,000 of 1,000 used (100 %)"), "{}", alerts[1].summary);
    let by: Vec<_> = evidence(&alerts[0]).failed.iter().map(|by| (by.pid, by.failures)).collect();
    assert_eq!((by, watch.row().failures), (vec![(5, 10), (77, 2)], 12));
    // Where the source is not known they are the worst row's, and that ports were free at the census is said.
    let mut watch = Watch::default();
    let alerts = failed(&mut watch, 10.0, 40, vec![PortFailure { source: None, ..failure(2, 9.0, 9.5) }]);
    assert!(alerts[0].unknown[0].starts_with("the last census saw ports free"), "{:?}", alerts[0].unknown);
    assert_eq!(watch.row().failures, 2);
}

/// Three calls for TCP port 80 of all addresses, by nginx.
fn refused() -> PortConflict {
    conflict("tcp", "::", 80, 7)
}

fn held_by(comm: &str) -> Vec<PortHolder> {
    vec![PortHolder { pid: 5, comm: comm.to_owned(), ports: 1 }]
}

fn look(watch: &mut Watch, at: f64, conflicts: Vec<PortConflict>) -> Vec<Alert> {
    watch.step(&PortsObservation { conflicts, ..seen(at, Vec::new()) })
}

#[test]
fn refused_binds_take_no_place_from_ports_that_run_out() {
    let mut watch = Watch::default();
    let conflicts: Vec<_> = (1..=300).map(|port| PortConflict { port, ..refused() }).collect();
    look(&mut watch, 10.0, conflicts.clone());
    let alerts = watch.step(&PortsObservation { conflicts, ..seen(11.0, vec![tuple(950, 0)]) });
    let count = |kind| alerts.iter().filter(|alert| alert.kind == kind).count();
    assert_eq!([AlertKind::BindConflict, AlertKind::PortExhaustion].map(count), [256, 1]);
}

#[test]
fn who_holds_the_port_is_named_once_it_is_found() {
    let mut watch = Watch::default();
    let alert = look(&mut watch, 10.0, vec![refused()]).remove(0);
    assert_eq!(
        (alert.kind, alert.severity, alert.subject.port),
        (AlertKind::BindConflict, Severity::Warning, Some(80))
    );
    assert!(!alert.summary.contains("held by"), "nobody has looked yet");
    let found = PortConflict { holders: held_by("apache2"), ..refused() };
    assert_eq!(
        look(&mut watch, 11.0, vec![found.clone()])[0].summary,
        "bind() to [::]:80 failed, the address is in use: 3 calls failed, all of nginx (pid 7); held by apache2 (pid \
         5); since 2027-01-15 08:00:08 UTC"
    );
    // Started again and again it is another process each time, for which nobody has looked yet.
    let again = |at, pid| PortConflict { process: process("nginx", pid), first: wall(at), last: wall(at), ..refused() };
    let both = vec![again(11.5, 8), found];
    assert!(look(&mut Watch::default(), 12.0, both.clone())[0].summary.contains("held by apache2"));
    for (at, conflicts, calls) in [(12.0, both, "6 calls"), (13.0, vec![again(12.5, 9)], "9 calls")] {
        let summary = look(&mut watch, at, conflicts).remove(0).summary;
        assert!(summary.contains(calls) && summary.contains("held by apache2"), "{summary}");
    }
}

#[test]
fn bind_is_refused_for_each_protocol_apart() {
    let cases = [
        ("tcp", Some(Protocol::Tcp), "bind() to [::]:53 failed", "`tracker explain bind [::]:53`."),
        ("udp", Some(Protocol::Udp), "bind() to [::]:53 (UDP) failed", "`tracker explain bind [::]:53 --udp`."),
        ("132", None, "bind() to [::]:53 failed", "see who holds port 53 with `ss -anp`."),
    ];
    let of = |(name, ..): (&str, _, _, _)| PortConflict { holders: held_by(name), ..conflict(name, "::", 53, 7) };
    let alerts = look(&mut Watch::default(), 10.0, cases.map(of).to_vec());
    for (holder, protocol, summary, advice) in cases {
        let alert = alerts.iter().find(|alert| alert.subject.protocol == protocol).unwrap();
        assert!(alert.summary.starts_with(summary), "{}", alert.summary);
        assert!(alert.summary.contains(&format!("held by {holder}")), "{}", alert.summary);
        assert!(alert.advice.ends_with(advice), "{}", alert.advice);
    }
}
