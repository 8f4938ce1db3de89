//! The figures that an alert rests on, line by line, and what to do.

mod ports;

use std::fmt::Write as _;

use tracker_model::api::{Alert, Fact, FactValue, Unit};

use super::format::{count, printable, span, whole};

pub(super) use ports::{holders, states};

/// Width of the names of the lines.
const NAMES: usize = 12;

/// The name of a line, and what stands in it; none when there is nothing to say.
type Line = (&'static str, Option<String>);

/// Everything that is known of an alert, each line indented.
pub(super) fn render(alert: &Alert) -> String {
    let ports = alert.evidence.ports().filter(|_| alert.facts.is_empty());
    let ports = ports.map(|evidence| ports::lines(alert, evidence)).unwrap_or_default();
    let facts = alert.facts.iter().map(|fact| (fact.label.as_str(), Some(value(fact))));
    let words = [
        ("advice", (!alert.advice.is_empty()).then(|| alert.advice.clone())),
        ("not known", (!alert.unknown.is_empty()).then(|| alert.unknown.join("; "))),
    ];
    let mut text = String::new();
    for (name, line) in ports.into_iter().chain(facts).chain(words) {
        if let Some(line) = line {
            let _ = writeln!(text, "    {:<NAMES$} {}", printable(name), printable(&line));
        }
    }
    text
}

fn value(fact: &Fact) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a time is rounded anyway")]
    match (&fact.value, fact.unit) {
        (FactValue::Text(text), _) => text.clone(),
        (FactValue::Count(number), Unit::None) => count(*number),
        (FactValue::Number(number), Unit::None) => whole(*number),
        (FactValue::Count(number), Unit::SecondsAtLeast) => format!(">={}", span(*number as f64)),
        (FactValue::Number(number), Unit::SecondsAtLeast) => format!(">={}", span(*number)),
    }
}
