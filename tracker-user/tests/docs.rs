//! The parts of docs/ that are not generated name every label value that exists, and no field has been forgotten.

use std::{collections::BTreeMap, fs, path::PathBuf};

use tracker_model::api::{AlertState, Class, Severity};

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
    let states = tracker_common::state::NAMES.into_iter().skip(1);
    let all = outcomes.into_iter().chain(targets).chain(closes).chain(states);
    for name in all.chain(detector_names()) {
        assert!(page.contains(&format!("`{name}`")), "docs/metrics.md does not name {name}");
    }
}

/// Severities and states of alerts, and verdicts. The table of their kinds is generated.
fn detector_names() -> impl Iterator<Item = &'static str> {
    let severities = Severity::ALL.iter().map(|severity| severity.name());
    let verdicts = Class::OF_LISTENERS.into_iter().chain(Class::OF_NO_LISTENER).map(Class::name);
    severities.chain([AlertState::Firing.name()]).chain(verdicts)
}

/// The fields that the lab has seen in answers of a real daemon.
#[test]
fn every_field_of_an_answer_has_a_row() {
    let page = page("api.md");
    let fields = include_str!("../../tests/golden/json.txt");
    for (route, field) in fields.lines().filter_map(|line| line.split_once(' ')) {
        let section = page.split("\n## ").find(|section| section.starts_with(&format!("`GET {route}")));
        // What holds for all answers, errors too, stands before the first of them.
        let section = section.unwrap_or_else(|| page.split("\n## ").next().unwrap());
        assert!(is_described(field, section), "docs/api.md has no row for {field} of {route}");
    }
}

/// Whether a row is about this field, about a field of any name in its place, or names the row where it is described;
/// or it is a fact.
fn is_described(field: &str, section: &str) -> bool {
    let parts = |path: &str| path.replace("[]", "").split('.').map(str::to_owned).collect::<Vec<_>>();
    let wanted = parts(field);
    rows(section).iter().any(|(path, row)| {
        let path = parts(path);
        let begins = path.iter().zip(&wanted).all(|(part, wanted)| part == "*" || part == wanted);
        // A map has one row, that of its values.
        let is_it = path.iter().skip(wanted.len()).all(|part| part == "*");
        let is_it = is_it && (path.len() >= wanted.len() || row.contains("; see `"));
        (begins && is_it) || (wanted.len() == 3 && wanted[1] == "evidence" && path == wanted[2..])
    })
}
