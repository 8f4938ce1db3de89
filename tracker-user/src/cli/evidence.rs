//! The figures that an alert rests on, line by line, and what to do.

use std::fmt::Write as _;

use tracker_model::api::{Alert, Fact, FactValue, Unit};

use super::format::{count, printable, span, whole};

/// Width of the names of the lines.
const NAMES: usize = 12;

/// Everything that is known of an alert, each line indented.
pub(super) fn render(alert: &Alert) -> String {
    let facts = alert.facts.iter().map(|fact| (fact.label.as_str(), value(fact)));
    let more = [("advice", alert.advice.clone()), ("not known", alert.unknown.join("; "))];
    let mut text = String::new();
    for (name, line) in facts.chain(more).filter(|(_, line)| !line.is_empty()) {
        let _ = writeln!(text, "    {:<NAMES$} {}", printable(name), printable(&line));
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

#[cfg(test)]
mod tests {
    use tracker_fixtures as sample;

    use super::*;

    #[test]
    fn what_is_not_known_of_a_subject_is_left_out() {
        let of = |id, change: fn(&mut Alert)| {
            let mut alert = sample::under_shortage().alerts.into_iter().find(|alert| alert.id == id).unwrap();
            change(&mut alert);
            alert.about()
        };
        let shown = [
            of(11, |alert| (alert.subject.source, alert.subject.process) = (None, None)),
            of(10, |alert| alert.subject.port = Some(0)),
            of(9, |alert| alert.subject.process = None),
        ];
        let expected = ["-> 198.51.100.7:443", "bind() to 0.0.0.0, any port httpd(600)", "process not known"];
        assert_eq!(shown, expected);
    }
}
