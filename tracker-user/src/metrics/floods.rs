//! What the flood detector says, and what it rests on. No source of a packet is ever a label.

use crate::metrics::series::Split;
use prometheus::proto::MetricFamily;
use tracker_model::{
    Snapshot,
    api::{Alert, AlertKind, AlertState, Class, Severity, Verdict},
};

use super::family::{Fill as _, Metric, Samples};

const LISTENER: &[&str] = &["netns", "address", "port"];

static VERDICT: Metric = Metric::gauge(
    "tracker_listener_verdict",
    &["netns", "address", "port", "verdict"],
    "Verdict of the flood detector on this listener: 1 for the one that holds, 0 for the others.",
);
static VERDICT_CHANGE: Metric = Metric::gauge(
    "tracker_listener_verdict_last_change_timestamp_seconds",
    LISTENER,
    "When the verdict on this listener last changed, seconds since 1970; absent while it never did.",
);
static SYN_SOURCES: Metric = Metric::gauge(
    "tracker_listener_syn_sources",
    LISTENER,
    "Distinct sources of the SYNs of the last second or so in which there were any, an estimate.",
);
static NO_LISTENER_VERDICT: Metric = Metric::gauge(
    "tracker_no_listener_verdict",
    &["verdict"],
    "Verdict of the flood detector on the SYNs to no listener: 1 for the one that holds, 0 for the others.",
);
static NO_LISTENER_CHANGE: Metric = Metric::gauge(
    "tracker_no_listener_verdict_last_change_timestamp_seconds",
    &[],
    "When the verdict on the SYNs to no listener last changed, seconds since 1970; absent while it never did.",
);
static ALERTS: Metric = Metric::gauge("tracker_alerts", &["kind", "severity", "state"], "Alerts that fire.");
static ALERTS_TOTAL: Metric =
    Metric::counter("tracker_alerts_total", &["kind"], "Alerts that have begun since the daemon started.");
static EVICTIONS: Metric = Metric::counter(
    "tracker_syn_sample_evictions_total",
    &[],
    "Connections that left the sample of SYNs before they were completed; later repeats of theirs count as first SYNs.",
);
static TCP_EXT: Metric = Metric::counter(
    "tracker_tcp_ext_total",
    &["netns", "counter"],
    "Counters of the network namespace, all its listeners together, since it was made (TcpExt in /proc/net/netstat).",
);

/// The metrics of this file.
pub(super) static METRICS: [&Metric; 9] = [
    &VERDICT,
    &VERDICT_CHANGE,
    &SYN_SOURCES,
    &NO_LISTENER_VERDICT,
    &NO_LISTENER_CHANGE,
    &ALERTS,
    &ALERTS_TOTAL,
    &EVICTIONS,
    &TCP_EXT,
];

/// The families of this file.
pub(super) fn families(snapshot: &Snapshot, split: &Split<'_>) -> Vec<MetricFamily> {
    let [mut evictions, mut begun] = [&EVICTIONS, &ALERTS_TOTAL].map(Metric::samples);
    evictions.count(&[], split.evicted);
    for &kind in AlertKind::ALL {
        begun.count(&[kind.name()], snapshot.alerts_opened.get(&kind).copied().unwrap_or_default());
    }
    let mut families = vec![evictions.family(), begun.family(), firing(&snapshot.alerts)];
    families.extend(listeners(split));
    let mut no_listener = [&NO_LISTENER_VERDICT, &NO_LISTENER_CHANGE].map(Metric::samples);
    verdict(&mut no_listener, &[], &Class::OF_NO_LISTENER, snapshot.floods.no_listener);
    families.extend(no_listener.map(Samples::family));
    families.extend(tcp_ext(snapshot));
    families
}

/// Every kind and severity, also at zero.
fn firing(alerts: &[Alert]) -> MetricFamily {
    let mut samples = ALERTS.samples();
    for &kind in AlertKind::ALL {
        for &severity in Severity::ALL {
            let is_it =
                |alert: &&Alert| (alert.kind, alert.severity, alert.state) == (kind, severity, AlertState::Firing);
            let count = alerts.iter().filter(is_it).count();
            samples.count(&[kind.name(), severity.name(), AlertState::Firing.name()], count as u64);
        }
    }
    samples.family()
}

/// Listeners without a series of their own have no verdict: it would be one on several together.
fn listeners(split: &Split<'_>) -> impl Iterator<Item = MetricFamily> {
    let mut verdicts = [&VERDICT, &VERDICT_CHANGE].map(Metric::samples);
    let mut sources = SYN_SOURCES.samples();
    for listener in &split.own {
        let labels = [listener.netns.to_string(), listener.address.to_string(), listener.port.to_string()];
        let labels = labels.each_ref().map(String::as_str);
        verdict(&mut verdicts, &labels, &Class::OF_LISTENERS, listener.verdict);
        if let Some(distinct) = listener.distinct_sources {
            sources.add(&labels, distinct);
        }
    }
    verdicts.into_iter().chain([sources]).map(Samples::family)
}

/// A series for each of `classes`, 1 for the one that holds; and when it changed.
fn verdict([verdicts, changes]: &mut [Samples; 2], labels: &[&str], classes: &[Class], verdict: Option<Verdict>) {
    let Some(verdict) = verdict else { return };
    for class in classes {
        verdicts.count(&[labels, &[class.name()]].concat(), u64::from(*class == verdict.class));
    }
    if let Some(since) = verdict.since {
        changes.add(labels, since.as_duration().as_secs_f64());
    }
}

fn tcp_ext(snapshot: &Snapshot) -> Option<MetricFamily> {
    let counters = snapshot.tcp_counters?;
    let netns = snapshot.netns.to_string();
    let mut samples = TCP_EXT.samples();
    for (name, count) in counters.named() {
        samples.count(&[&netns, name], count);
    }
    Some(samples.family())
}

#[cfg(test)]
mod tests {
    use crate::metrics::series::ListenerSeries;
    use tracker_fixtures as sample;

    use super::*;
    use crate::metrics::family::tests::value;

    const NETNS: &str = "4026531840";

    fn of(snapshot: &Snapshot) -> Vec<MetricFamily> {
        let mut series = ListenerSeries::default();
        families(snapshot, &series.update(&snapshot.listeners))
    }

    #[test]
    fn a_verdict_is_one_of_a_set_and_has_the_time_of_its_change() {
        let families = of(&sample::under_flood());
        let verdict = |class| value(&families, "tracker_listener_verdict", &[NETNS, "::", "443", class]);
        let expected = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0].map(Some);
        assert_eq!(Class::OF_LISTENERS.map(|class| verdict(class.name())), expected);
        assert_eq!((verdict("spoofed"), verdict("none"), verdict("scan")), (Some(1.0), Some(0.0), None));
        let change =
            |name: &str, labels: &[&str]| value(&families, &format!("tracker_{name}_timestamp_seconds"), labels);
        assert_eq!(change("listener_verdict_last_change", &[NETNS, "::", "443"]), Some(1_799_999_988.0));
        assert_eq!(change("listener_verdict_last_change", &[NETNS, "192.0.2.1", "22"]), None, "it never did");
        assert_eq!(change("no_listener_verdict_last_change", &[]), Some(1_799_999_960.0));
        assert_eq!(value(&families, "tracker_no_listener_verdict", &["scan"]), Some(1.0));
        assert_eq!(value(&families, "tracker_no_listener_verdict", &["none"]), Some(0.0));
        assert_eq!(value(&families, "tracker_listener_syn_sources", &[NETNS, "::", "443"]), Some(4_987.4));
        assert_eq!(value(&families, "tracker_listener_syn_sources", &[NETNS, "192.0.2.1", "22"]), None);
    }

    #[test]
    fn alerts_are_counted_by_kind_and_severity_also_at_zero() {
        let families = of(&sample::under_flood());
        let firing = |kind, severity| value(&families, "tracker_alerts", &[kind, severity, "firing"]);
        assert_eq!((firing("syn_flood", "critical"), firing("port_scan", "info")), (Some(1.0), Some(1.0)));
        assert_eq!((firing("accept_overflow", "warning"), firing("syn_flood", "info")), (Some(0.0), Some(0.0)));
        assert_eq!(value(&families, "tracker_alerts_total", &["accept_overflow"]), Some(1.0), "it is over");
        assert_eq!(value(&of(&sample::snapshot()), "tracker_alerts_total", &["syn_flood"]), Some(0.0));
        assert_eq!(value(&families, "tracker_syn_sample_evictions_total", &[]), Some(5.0));
    }

    #[test]
    fn what_cannot_be_read_and_verdicts_before_the_second_observation_are_left_out() {
        let mut snapshot = sample::snapshot();
        let value = |snapshot: &Snapshot, name, labels: &[&str]| value(&of(snapshot), name, labels);
        assert_eq!(value(&snapshot, "tracker_listener_verdict", &[NETNS, "::", "443", "none"]), None);
        assert_eq!(value(&snapshot, "tracker_no_listener_verdict", &["none"]), None);
        let sent = |snapshot: &Snapshot| value(snapshot, "tracker_tcp_ext_total", &[NETNS, "SyncookiesSent"]);
        assert_eq!(sent(&snapshot), Some(9.0));
        snapshot.tcp_counters = None;
        assert_eq!(sent(&snapshot), None);
    }
}
