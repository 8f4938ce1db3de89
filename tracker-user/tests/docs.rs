//! The pages under docs/ name every command, flag, variable, key, metric and field that exists, and no other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tracker_detect::{
    alert::{AlertStore, ObservedAt},
    detector::{HostObservation, Observation},
    explain::{BindRequest, explain_bind, explain_connect},
    registry::Detectors,
};
use tracker_fixtures as sample;
use tracker_model::{
    api::{Alert, AlertKind, AlertState, Class, MapFill, PortPool, Severity, Unwatched},
    counters::NamespaceCounters,
    explain::{BindError, ConnectRule, Overlap, Protocol, Rule, TcpState},
};
use tracker_user::{
    api::{self, ApiError},
    docs, view,
};

fn page(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// First cell, without backticks, and the whole row, of every table row that begins with code.
fn rows(page: &str) -> BTreeMap<String, String> {
    let first = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    page.lines().filter_map(|line| Some((first(line)?, line.to_owned()))).collect()
}

#[test]
fn every_value_of_a_label_that_is_fixed_is_named() {
    let page = page("metrics.md");
    let outcomes = tracker_common::classify::Outcome::ALL.map(tracker_common::classify::Outcome::name);
    let targets = tracker_common::counters::SynTarget::ALL.map(tracker_common::counters::SynTarget::name);
    let closes = tracker_common::counters::CloseKind::ALL.map(tracker_common::counters::CloseKind::name);
    let losses = tracker_common::counters::Loss::ALL.map(tracker_common::counters::Loss::name);
    let states = tracker_common::state::NAMES.into_iter().skip(1);
    let all = outcomes.into_iter().chain(targets).chain(closes).chain(losses).chain(states);
    for name in all.chain(detector_names()).chain(tcp_counters()) {
        assert!(page.contains(&format!("`{name}`")), "docs/metrics.md does not name {name}");
    }
}

/// Kinds, severities and states of alerts, and verdicts.
fn detector_names() -> impl Iterator<Item = &'static str> {
    let alerts =
        AlertKind::ALL.iter().map(|kind| kind.name()).chain(Severity::ALL.iter().map(|severity| severity.name()));
    let verdicts = Class::OF_LISTENERS.into_iter().chain(Class::OF_NO_LISTENER).map(Class::name);
    alerts.chain([AlertState::Firing.name()]).chain(verdicts)
}

fn tcp_counters() -> impl Iterator<Item = &'static str> {
    NamespaceCounters::default().named().into_iter().map(|(name, _)| name)
}

#[test]
fn every_value_of_a_field_that_is_fixed_is_named() {
    let page = page("api.md");
    for name in detector_names().chain([AlertState::Resolved.name()]).chain(tcp_counters()) {
        assert!(page.contains(&format!("`{name}`")), "docs/api.md does not name {name}");
    }
}

#[test]
fn every_command_has_a_section() {
    let page = page("commands.md");
    for (name, _) in docs::tables().iter().filter(|(name, _)| name.starts_with("tracker ")) {
        assert!(page.contains(&format!("\n## `{name}`\n")), "docs/commands.md has no section on {name}");
    }
}

#[test]
fn every_field_of_the_api_has_a_row() {
    let page = page("api.md");
    let snapshot = sample::under_flood();
    let mut alerts = view::alerts(&snapshot);
    alerts.alerts.extend(view::alerts(&sample::under_shortage()).alerts);
    alerts.alerts.extend(alerts_of_the_daemon());
    let daemon = view::Daemon { version: "1", pid: 1 };
    let mut status = serde_json::to_value(view::status(&snapshot, daemon, snapshot.taken_at)).unwrap();
    status["problems"] = Value::Array(vec![Value::String(String::new())]);
    let answers = [
        ("`GET /v1/status`\n", status),
        ("`GET /v1/listeners`\n", serde_json::to_value(view::listeners(&snapshot)).unwrap()),
        ("`GET /v1/states`\n", serde_json::to_value(view::states(&snapshot)).unwrap()),
        ("`GET /v1/alerts`\n", serde_json::to_value(alerts).unwrap()),
        ("`GET /v1/ports`\n", serde_json::to_value(sample::under_shortage().ports).unwrap()),
        ("`GET /v1/explain/connect`\n", explained_connect()),
        ("`GET /v1/explain/bind`\n", explained_bind()),
    ];
    let refusal = serde_json::to_value(ApiError { error: String::new() }).unwrap();
    let general = page.split("\n## ").next().unwrap();
    compare("docs/api.md", general, &refusal);
    for (title, answer) in answers {
        let section = page.split("\n## ").find(|section| section.starts_with(title)).unwrap();
        compare(title.trim(), section, &answer);
    }
}

/// Alerts of the daemon's own view, by the detectors on the list.
fn alerts_of_the_daemon() -> Vec<Alert> {
    let store = AlertStore::default();
    let mut detectors = Detectors::new(tracker_detect::syn::Sensitivity::default(), &store);
    for second in [0, 60] {
        detectors.observe(&Observation::Host(HostObservation {
            now: ObservedAt { at: Duration::from_secs(second), wall: Timestamp::UNIX_EPOCH },
            netns: 1,
            maps: vec![MapFill { name: "TIMED".to_owned(), entries: 9, capacity: 10 }],
            missing: vec![Unwatched { name: "eth1".to_owned(), reason: "it is down".to_owned() }],
        }));
    }
    store.alerts()
}

/// An answer in which every list has something.
fn explained_connect() -> Value {
    let destination = ([198, 51, 100, 7], 443).into();
    let mut answer = explain_connect([192, 0, 2, 10].into(), destination, &sample::sockets(), &sample::port_settings());
    answer.notes.push(String::new());
    serde_json::to_value(answer).unwrap()
}

/// The same for `bind()`: one that fails, with what shares the port in one that succeeds.
fn explained_bind() -> Value {
    let request = |address: [u8; 4], port| BindRequest {
        protocol: Protocol::Tcp,
        address: address.into(),
        port,
        ipv6: false,
        ipv6_only: false,
        reuse_address: true,
        reuse_port: false,
        uid: 0,
        device: 0,
        privileged: true,
    };
    let explain = |request| explain_bind(&request, &sample::sockets(), &sample::port_settings(), true);
    let mut answer = explain(request([0, 0, 0, 0], 80));
    answer.rivals = explain(request([127, 0, 0, 1], 9_000)).rivals;
    serde_json::to_value(answer).unwrap()
}

/// Parameters of the queries: the daemon refuses unknown ones by naming all there are.
#[test]
fn every_parameter_has_a_row() {
    let page = page("api.md");
    for (title, parameters) in [
        ("`GET /v1/explain/connect`\n", &api::CONNECT_PARAMETERS[..]),
        ("`GET /v1/explain/bind`\n", &api::BIND_PARAMETERS),
    ] {
        let section = page.split("\n## ").find(|section| section.starts_with(title)).unwrap();
        let rows = rows(section);
        let named: BTreeSet<_> = rows.keys().filter_map(|row| row.strip_prefix('?')).collect();
        assert_eq!(named, parameters.iter().copied().collect(), "{title}");
    }
}

/// The names in JSON.
fn names<T: serde::Serialize>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    let name = |value: T| serde_json::to_value(value).unwrap().as_str().unwrap().to_owned();
    values.into_iter().map(name).collect()
}

#[test]
fn every_value_of_a_field_of_ports_is_named() {
    let page = page("api.md");
    let errors = [BindError::InUse, BindError::NotAvailable, BindError::Access, BindError::Invalid];
    let rules = [Rule::Listens, Rule::NotOffered, Rule::NotAsked, Rule::OtherUser, Rule::FirstToListen];
    let overlaps = [
        Overlap::SameAddress,
        Overlap::HeldWildcard,
        Overlap::AskedWildcard,
        Overlap::DualStack,
        Overlap::Ipv6Connection,
    ];
    let all = [
        names([PortPool::Connect, PortPool::Bind]),
        names([Protocol::Tcp, Protocol::Udp]),
        names([ConnectRule::Connected, ConnectRule::TimeWait, ConnectRule::Bound]),
        names(errors),
        names(rules),
        names(overlaps),
        names([TcpState::Listen, TcpState::HalfOpen, TcpState::Bound]),
        tracker_common::state::NAMES.into_iter().skip(1).map(str::to_owned).collect(),
    ];
    for name in all.concat() {
        assert!(page.contains(&format!("`{name}`")), "docs/api.md does not name {name}");
    }
}

fn compare(title: &str, section: &str, answer: &Value) {
    let mut fields = BTreeSet::new();
    collect("", answer, &mut fields);
    let mut rows = rows(section);
    // Parameters of the query.
    rows.retain(|row, _| !row.starts_with('?'));
    for field in &fields {
        assert!(rows.contains_key(field), "{title} has no row for {field}");
    }
    for row in rows.keys() {
        // A row may also head those of its fields.
        let is_head = fields.iter().any(|field| field.starts_with(&format!("{row}.")));
        assert!(fields.contains(row) || is_head, "{title} names {row}, which there is not");
    }
}

/// Fields whose keys are names or numbers of the host.
const MAPS: [&str; 11] = [
    "losses",
    "tcp_counters",
    "interfaces[].outcomes",
    "states",
    "transitions",
    "closes",
    "connects.failed",
    "alerts[].evidence.namespace",
    "alerts[].evidence.states",
    "ports[].states",
    "in_use",
];

/// Paths of all values: `a.b` in an object, `a[]` in a list, `a.*` in a map.
fn collect(path: &str, value: &Value, fields: &mut BTreeSet<String>) {
    let is_map = MAPS.iter().any(|map| path == *map || path.starts_with(&format!("{map}.*")));
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = if is_map { "*" } else { key };
                let inner = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                collect(&inner, value, fields);
            }
        }
        Value::Array(values) => {
            for value in values {
                collect(&format!("{path}[]"), value, fields);
            }
        }
        // Null here has fields in another element.
        Value::Null if path.ends_with("[].process") || path.ends_with(".subject.process") => {}
        _ => {
            fields.insert(path.to_owned());
        }
    }
}
