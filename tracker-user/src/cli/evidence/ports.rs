//! The figures of local ports that run out, of calls that fail for want of one, and of leaks.

use std::{cmp::Reverse, fmt::Write as _};

use tracker_model::api::{Alert, AlertKind, ByName, PortEvidence, PortHolder};

use super::Line;
use crate::cli::format::{UNKNOWN, count, full_in, growth, printable, process, used};

/// The figures of an alert about ports.
pub(super) fn lines(alert: &Alert, evidence: &PortEvidence) -> Vec<Line> {
    // A port that was named is held or not: how many others are is nothing to it.
    let one_port = alert.kind == AlertKind::BindConflict && alert.subject.port.is_some_and(|port| port != 0);
    let of_many = |line: &dyn Fn() -> String| (!one_port).then(line);
    vec![
        ("ports", of_many(&|| ports(evidence))),
        ("states", states(&evidence.states)),
        ("growth", forecast(evidence)),
        ("failed", failed(evidence)),
        ("held by", holders(&evidence.processes, "")),
        ("made by", holders(&evidence.made_by, ">=")),
        ("range", of_many(&|| range(evidence))),
    ]
}

fn ports(evidence: &PortEvidence) -> String {
    let Some(in_use) = evidence.in_use else {
        return format!("{UNKNOWN} of {}", count(evidence.capacity.into()));
    };
    let mut line = format!("{} of {} in use", count(in_use.into()), count(evidence.capacity.into()));
    if let Some(ratio) = evidence.used_ratio {
        let _ = write!(line, ", {} % used up", used(ratio));
    }
    if let Some(peak) = evidence.peak_used_ratio {
        let _ = write!(line, ", {} % at most", used(peak));
    }
    if let Some(time_wait) = evidence.time_wait.filter(|waiting| *waiting > 0) {
        let [now, then] = [evidence.reusable, evidence.recyclable].map(|ports| count(ports.unwrap_or_default().into()));
        let waiting = count(time_wait.into());
        let _ = write!(line, "; {waiting} in TIME_WAIT, {now} of them reusable ({then} with tcp_tw_reuse=1)");
    }
    line
}

/// States and counts, most first.
pub(in crate::cli) fn states(states: &ByName<u32>) -> Option<String> {
    let mut states: Vec<_> = states.iter().filter(|(_, ports)| **ports > 0).collect();
    states.sort_by_key(|(_, ports)| Reverse(**ports));
    let states: Vec<_> =
        states.into_iter().map(|(name, ports)| format!("{} {}", printable(name), count((*ports).into()))).collect();
    (!states.is_empty()).then(|| states.join(", "))
}

fn forecast(evidence: &PortEvidence) -> Option<String> {
    let mut line = format!("{}/s", growth(evidence.growth_per_second?));
    if let Some(seconds) = evidence.full_in_seconds {
        let when = full_in(seconds, evidence.used_ratio.unwrap_or_default());
        let _ = write!(line, ", full {}{when}", if when.starts_with('~') { "in " } else { "" });
    }
    Some(line)
}

fn failed(evidence: &PortEvidence) -> Option<String> {
    if evidence.failures == 0 && evidence.failed.is_empty() {
        return None;
    }
    let mut line = format!("{} since onset", count(evidence.failures));
    let by: Vec<_> = evidence
        .failed
        .iter()
        .map(|by| {
            let (process, failures) = (process(by.pid, &by.comm), count(by.failures));
            format!("{process} {failures} (uid {}, cgroup {})", by.uid, by.cgroup)
        })
        .collect();
    if !by.is_empty() {
        let _ = write!(line, "; since the daemon started {}", by.join(", "));
    }
    Some(line)
}

/// Processes and their ports, after a mark of what kind of number it is.
pub(in crate::cli) fn holders(holders: &[PortHolder], mark: &str) -> Option<String> {
    let holder = |of: &PortHolder| format!("{} {mark}{}", process(of.pid, &of.comm), count(of.ports.into()));
    let holders: Vec<_> = holders.iter().map(holder).collect();
    (!holders.is_empty()).then(|| holders.join(", "))
}

fn range(evidence: &PortEvidence) -> String {
    format!(
        "{}-{}, {} reserved, {} bound by bind(), tcp_tw_reuse {}",
        evidence.range.low,
        evidence.range.high,
        count(evidence.reserved.into()),
        count(evidence.bound.into()),
        evidence.tw_reuse
    )
}

#[cfg(test)]
mod tests {
    use tracker_fixtures as sample;
    use tracker_model::api::Evidence;

    use super::super::render;
    use super::*;

    fn alert(id: u64) -> Alert {
        sample::under_shortage().alerts.into_iter().find(|alert| alert.id == id).unwrap()
    }

    #[test]
    fn failures_are_told_with_the_ports_and_who_has_them() {
        let expected = "    \
    ports        978 of 978 in use, 100 % used up, 100 % at most; 400 in TIME_WAIT, 0 of them reusable (350 with tcp_tw_reuse=1)
    states       established 570, time_wait 400, close_wait 8
    growth       ~0/s
    failed       1,300 since onset; since the daemon started app(4711) 1,300 (uid 33, cgroup 8123)
    held by      app(4711) 500, cron-job(99) 78
    made by      app(4711) >=880, cron-job(99) >=90
    range        40000-40999, 10 reserved, 12 bound by bind(), tcp_tw_reuse 2
    advice       sysctl net.ipv4.tcp_tw_reuse=1 lets connect() take 350 of the ports in TIME_WAIT at once.
";
        assert_eq!(render(&alert(12)), expected);
        let growth = "    growth       ~+3.5/s, full in ~1m 2s\n";
        assert!(render(&alert(13)).contains(growth), "{}", render(&alert(13)));
    }

    #[test]
    fn a_destination_that_no_census_lists_has_no_figures() {
        let mut alert = alert(12);
        let failures = PortEvidence { failures: 1, capacity: 978, ..PortEvidence::default() };
        (alert.evidence, alert.advice) = (Evidence::Ports(failures), String::new());
        let expected = "    \
    ports        - of 978
    failed       1 since onset
    range        0-0, 0 reserved, 0 bound by bind(), tcp_tw_reuse 0
";
        assert_eq!(render(&alert), expected);
    }

    #[test]
    fn a_port_that_is_held_says_nothing_of_others() {
        let expected = "    \
    failed       2 since onset; since the daemon started httpd(600) 2 (uid 0, cgroup 9)
    held by      nginx(815) 1
    advice       See who holds it, and what would help: `tracker explain bind 0.0.0.0:80`.
";
        assert_eq!(render(&alert(10)), expected);
        let mut any_port = alert(10);
        any_port.subject.port = Some(0);
        let text = render(&any_port);
        assert!(text.contains("    range        40000-40999, 10 reserved"), "{text}");
    }

    #[test]
    fn a_leak_is_told_with_its_peak_and_the_age_of_the_oldest() {
        let close = "    sockets      212\n    at most      1,230\n    oldest       >=44m\n    advice ";
        let fin = "    sockets      60\n    at most      60\n    oldest       >=1m 15s\n    advice ";
        assert!(render(&alert(9)).starts_with(close), "{}", render(&alert(9)));
        assert!(render(&alert(15)).starts_with(fin), "{}", render(&alert(15)));
    }

    #[test]
    fn each_kind_has_its_subject() {
        let of = |id, change: fn(&mut Alert)| {
            let mut alert = alert(id);
            change(&mut alert);
            alert.about()
        };
        let told = [
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
        assert_eq!(told, expected);
    }
}
