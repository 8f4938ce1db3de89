//! What the flood detector says, and what it rests on. No source of a packet is ever a label. Listeners without a
//! series of their own have no verdict: it would be one on several together.

use std::fmt::Display;

use tracker_model::{
    api::{AlertKind, AlertState, Class, Severity, Verdict},
    counters::NamespaceCounters,
};

use super::{
    Scrape,
    family::{Metric, Row, Samples, rows},
};

/// The metrics of this file.
pub(super) static METRICS: &[Row<Scrape>] = rows! { Scrape;
    gauge "tracker_listener_verdict" ["netns", "address", "port", "verdict"]
        "Verdict of the flood detector on this listener: 1 for the one that holds, 0 for the others."
        => |scrape, samples| for it in scrape.listeners() {
            verdicts(samples, &[&it.netns, &it.at(), &it.port], &Class::OF_LISTENERS, it.verdict);
        };
    gauge "tracker_listener_verdict_last_change_timestamp_seconds" ["netns", "address", "port"]
        "Since when the verdict on this listener holds, seconds since 1970: the onset of its alert, if it has one, or \
         the last change; absent while it never changed."
        => |scrape, samples| for it in scrape.listeners() {
            last_change(samples, &[&it.netns, &it.at(), &it.port], it.verdict);
        };
    gauge "tracker_listener_syn_sources" ["netns", "address", "port"]
        "Distinct sources of the SYNs of the last second or so in which there were any, an estimate."
        => |scrape, samples| for it in scrape.listeners() {
            samples.known(&[&it.netns, &it.at(), &it.port], it.distinct_sources);
        };
    gauge "tracker_no_listener_verdict" ["verdict"]
        "Verdict of the flood detector on the SYNs to no listener: 1 for the one that holds, 0 for the others."
        => |scrape, samples| verdicts(samples, &[], &Class::OF_NO_LISTENER, scrape.snapshot.no_listener.verdict);
    gauge "tracker_no_listener_verdict_last_change_timestamp_seconds" []
        "Since when the verdict on the SYNs to no listener holds, seconds since 1970: the onset of its alert, if it \
         has one, or the last change; absent while it never changed."
        => |scrape, samples| last_change(samples, &[], scrape.snapshot.no_listener.verdict);
    gauge "tracker_alerts" ["kind", "severity", "state"] "Alerts that fire."
        => |scrape, samples| for &kind in AlertKind::ALL {
            for &severity in Severity::ALL {
                let firing = (kind, severity, AlertState::Firing);
                let alerts = scrape.snapshot.alerts.iter();
                let count = alerts.filter(|alert| (alert.kind, alert.severity, alert.state) == firing).count();
                samples.count(&[&kind.name(), &severity.name(), &AlertState::Firing.name()], count as u64);
            }
        };
    counter "tracker_alerts_total" ["kind"] "Alerts that have begun since the daemon started."
        => |scrape, samples| for &kind in AlertKind::ALL {
            samples.count(&[&kind.name()], scrape.snapshot.alerts_opened.get(&kind).copied().unwrap_or_default());
        };
    counter "tracker_syn_sample_evictions_total" []
        "Connections that left the sample of SYNs before they were completed; later repeats of theirs count as first \
         SYNs."
        => |scrape, samples| samples.count(&[], scrape.series.listeners.evictions());
    counter "tracker_tcp_ext_total" ["netns", "counter"]
        "Counters of the network namespace, all its listeners together, since it was made (TcpExt in \
         /proc/net/netstat)."
        => |scrape, samples| for (name, count) in
            scrape.snapshot.tcp_counters.iter().flat_map(NamespaceCounters::named)
        {
            samples.count(&[&scrape.snapshot.netns, &name], count);
        };
};

/// A series for each of `classes`, 1 for the one that holds.
fn verdicts(samples: &mut Samples, labels: &[&dyn Display], classes: &[Class], verdict: Option<Verdict>) {
    let Some(verdict) = verdict else { return };
    for class in classes {
        samples.count(&[labels, &[&class.name()]].concat(), u64::from(*class == verdict.class));
    }
}

fn last_change(samples: &mut Samples, labels: &[&dyn Display], verdict: Option<Verdict>) {
    let since = verdict.and_then(|verdict| verdict.since);
    samples.known(labels, since.map(|since| since.as_duration().as_secs_f64()));
}
