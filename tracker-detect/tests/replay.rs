//! Replays recorded series: each file of `recorded/` has what is expected in its first line and an observation in every
//! other.

use std::{collections::BTreeSet, fs, path::Path};

use jiff::Timestamp;
use serde::Deserialize;
use tracker_detect::alert::AlertStore;
use tracker_detect::syn::{Sensitivity, SynObservation};
use tracker_detect::syn_flood::SynFlood;
use tracker_model::api::{Alert, AlertKind, AlertState, Class};

/// An alarm must be called within this of the onset, seconds,
const CALLED: f64 = 3.0;
/// and its end within this.
const ENDED: f64 = 10.0;

#[derive(Deserialize)]
struct Header {
    case: String,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Class of the SYN flood; none of legitimate load, which may have any verdict that is no flood.
    class: Option<Class>,
    /// Kind of its alert.
    kind: Option<AlertKind>,
    /// First and last SYN of it, seconds on the clock of the observations; the end is null when the series stops
    /// before.
    onset: Option<f64>,
    end: Option<f64>,
    /// Alerts of this kind, for each of the ports.
    incidents: usize,
    port: u16,
    ports: Vec<u16>,
    /// Kinds of other alerts that may be seen, and that must be.
    may: Vec<AlertKind>,
    must: Vec<AlertKind>,
}

/// What the detector said of a series.
#[derive(Default)]
struct Said {
    classes: Vec<Class>,
    /// When an alert of the kind first fired, and when it last did.
    called: Option<f64>,
    fired: Option<f64>,
    alerts: Vec<Alert>,
    /// The last observation: its two clocks.
    last: Option<(f64, Timestamp)>,
}

fn replay(lines: &[&str], expected: &Expected) -> Said {
    let mut detector = SynFlood::new(Sensitivity::Medium, AlertStore::default());
    let mut said = Said::default();
    for line in lines {
        let observation: SynObservation = serde_json::from_str(line).unwrap();
        let at = observation.at.as_secs_f64();
        detector.step(&observation);
        let verdicts = observation.listeners.iter().filter_map(|seen| detector.listener(&seen.id).verdict);
        said.classes.extend(verdicts.chain(detector.no_listener().verdict).map(|verdict| verdict.class));
        said.classes.sort_unstable();
        said.classes.dedup();
        said.alerts = detector.alerts();
        if said.alerts.iter().any(|alert| of(alert, expected) && alert.state == AlertState::Firing) {
            said.called = said.called.or(Some(at));
            said.fired = Some(at);
        }
        said.last = Some((at, observation.wall));
    }
    said
}

fn of(alert: &Alert, expected: &Expected) -> bool {
    let ours = |port| expected.port == port || expected.ports.contains(&port);
    Some(alert.kind) == expected.kind && alert.subject.port.is_some_and(ours)
}

/// What is wrong with what was said.
#[expect(clippy::too_many_lines, reason = "one check after the other")]
fn wrong(said: &Said, expected: &Expected) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    // The class of a flood is that of its alert, below: the samples of a recording are short, and the first guess may
    // differ.
    for class in said.classes.iter().filter(|_| expected.kind.is_none()) {
        let allowed = !class.is_flood();
        must(allowed, format!("verdict {}", class.name()));
    }
    let floods = said.alerts.iter().filter(|alert| alert.kind == AlertKind::SynFlood);
    if expected.kind != Some(AlertKind::SynFlood) {
        must(floods.clone().next().is_none(), format!("{:?}", floods.collect::<Vec<_>>()));
    }
    let alerts: Vec<_> = said.alerts.iter().filter(|alert| of(alert, expected)).collect();
    let each: Vec<_> = alerts.iter().map(|alert| alert.subject.port).collect();
    let once =
        expected.kind.is_none() || each.len() == expected.incidents * each.iter().collect::<BTreeSet<_>>().len().max(1);
    must(once, format!("{} incidents: {alerts:#?}", alerts.len()));
    for alert in &alerts {
        must(alert.class == expected.class, format!("class of {}", alert.summary));
    }
    for alert in &said.alerts {
        let known = Some(alert.kind) == expected.kind
            || expected.may.contains(&alert.kind)
            || expected.must.contains(&alert.kind);
        must(known, format!("another alert: {}", alert.summary));
    }
    for kind in &expected.must {
        must(said.alerts.iter().any(|alert| alert.kind == *kind), format!("no {}", kind.name()));
    }
    if let Some(onset) = expected.onset.filter(|_| expected.kind.is_some()) {
        let late = said.called.map(|called| called - onset);
        // A flood that rises may be called before it is one by the lab's book, from 100 SYNs a second on.
        must(late.is_some_and(|late| late < CALLED), format!("called {late:?} s after the onset"));
    }
    if let Some(end) = expected.end.filter(|_| expected.kind.is_some()) {
        let late = said.fired.map(|fired| fired - end);
        let over = alerts.iter().all(|alert| alert.state == AlertState::Resolved);
        must(late.is_some_and(|late| late < ENDED) && over, format!("fired {late:?} s after the end"));
    }
    wrong
}

#[test]
fn recorded_series_are_called_what_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    assert!(!files.is_empty(), "no series in {}", folder.display());
    let mut failures = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let header: Header =
            serde_json::from_str(lines[0]).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let said = replay(&lines[1..], &header.expect);
        println!("{}: called {:?}, last fired {:?}, of {:?}", header.case, said.called, said.fired, said.last);
        failures.extend(wrong(&said, &header.expect).into_iter().map(|what| format!("{}: {what}", header.case)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
