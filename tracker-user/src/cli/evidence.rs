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

    fn alert(id: u64) -> Alert {
        sample::under_shortage().alerts.into_iter().find(|alert| alert.id == id).unwrap()
    }

    #[test]
    fn facts_are_printed_whatever_the_kind() {
        let expected = "    \
    ports        978 of 978 in use, 100 % used up, 100 % at most; 400 in TIME_WAIT, 0 of them reusable (350 with tcp_tw_reuse=1)
    states       established 570, time_wait 400, close_wait 8
    growth       ~0/s
    failed       1,300 since onset; since the daemon started app(4711) 1,300 (uid 33, cgroup 8123)
    held by      app(4711) 500, cron-job(99) 78
    made by      app(4711) >=880, cron-job(99) >=90
    range        40000-40999, 10 reserved, 12 bound by bind(), tcp_tw_reuse 2
    advice       ";
        assert!(render(&alert(12)).starts_with(expected), "{}", render(&alert(12)));
        let leak = "    sockets      212\n    at most      1,230\n    oldest       >=44m\n    advice ";
        assert!(render(&alert(9)).starts_with(leak), "{}", render(&alert(9)));
    }

    #[test]
    fn each_kind_has_its_subject() {
        let of = |id, change: fn(&mut Alert)| {
            let mut alert = alert(id);
            change(&mut alert);
            alert.about()
        };
        let shown = [
            of(11, |_| {}),
            of(11, |alert| (alert.subject.source, alert.subject.process) = (None, None)),
            of(14, |_| {}),
            of(10, |_| {}),
            of(10, |alert| alert.subject.port = Some(0)),
            of(9, |_| {}),
            of(9, |alert| alert.subject.process = None),
        ];
        let expected = [
            "192.0.2.10 -> 198.51.100.7:443 app(4711)",
            "-> 198.51.100.7:443",
            "bind() on 192.0.2.10",
            "bind() to 0.0.0.0:80 httpd(600)",
            "bind() to 0.0.0.0, any port httpd(600)",
            "cron-job(99)",
            "process not known",
        ];
        assert_eq!(shown, expected);
    }
}
