//! Interfaces that should be watched and are not: what arrives by them is not counted, and a flood of it is not seen.

use std::{collections::BTreeMap, time::Duration};

use tracker_model::{
    api::{AlertKind, AlertSubject, Fact, Severity, Unit},
    text::listed,
};

use crate::{
    alert::{ActiveAlerts, AlertStore, ObservedAt, Report},
    detector::{Detector, HostObservation, Observation},
};

/// An interface is an alert when it was missing for this long. One that goes while it is attached to is missing for a
/// moment, as happens all the time on a host of containers.
const MIN_DURATION: Duration = Duration::from_secs(5);

/// The interfaces that are not watched, by name, with when each was missing first; one alert for each reason, since
/// hundreds of interfaces may have the same.
#[derive(Debug)]
struct HookDetached {
    since: BTreeMap<String, ObservedAt>,
    alerts: ActiveAlerts<String>,
}

/// The detector, whose alerts go into `alerts`.
pub fn detector(alerts: AlertStore) -> Box<dyn Detector> {
    Box::new(HookDetached { since: BTreeMap::new(), alerts: ActiveAlerts::new(alerts) })
}

impl Detector for HookDetached {
    fn observe(&mut self, observation: &Observation) {
        let Observation::Host(HostObservation { now, netns, missing, .. }) = observation else { return };
        self.since.retain(|name, _| missing.iter().any(|interface| interface.name == *name));
        let mut by_reason: BTreeMap<&String, (ObservedAt, Vec<&str>)> = BTreeMap::new();
        for interface in missing {
            let since = *self.since.entry(interface.name.clone()).or_insert(*now);
            if now.at.saturating_sub(since.at) >= MIN_DURATION {
                let (first, names) = by_reason.entry(&interface.reason).or_insert((since, Vec::new()));
                if since.at < first.at {
                    *first = since;
                }
                names.push(&interface.name);
            }
        }
        for (reason, (since, names)) in &by_reason {
            self.alerts.report((*reason).clone(), since.wall, *now, report(reason, names, *netns), |_, _| {});
        }
        self.alerts.resolve_where(|reason, _| (!by_reason.contains_key(reason)).then_some(now.wall));
    }
}

fn report(reason: &str, names: &[&str], netns: u32) -> Report {
    let interfaces = listed(names);
    let (noun, verb) = if names.len() == 1 { ("interface", "is") } else { ("interfaces", "are") };
    let subject = AlertSubject { netns, object: Some(interfaces.clone()), ..AlertSubject::default() };
    let facts = vec![Fact::new("reason", "reason", reason.to_owned(), Unit::None).about("Why they are not watched.")];
    Report {
        headline: format!("The {noun} {interfaces} {verb} not watched: {reason}"),
        advice: format!(
            "Packets and SYNs that arrive by {interfaces} are not counted, and a flood of them is not seen. Remove \
             the reason; the daemon tries again within half a minute. If this is to stay so, name with --interface \
             only those to watch."
        ),
        ..Report::of_facts(AlertKind::HookDetached, Severity::Warning, subject, facts)
    }
}
