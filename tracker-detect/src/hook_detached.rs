//! An interface that should be watched and is not: what arrives by it is not counted, and a flood of it is not seen.

use std::{collections::BTreeMap, time::Duration};

use tracker_model::api::{AlertKind, AlertSubject, Fact, Severity, Unit, Unwatched};

use crate::{
    alert::{ActiveAlerts, AlertStore, ObservedAt, Report},
    detector::{Detector, HostObservation, Observation},
};

/// An interface is an alert when it was missing for this long. One that goes while it is attached to is missing for a
/// moment, as happens all the time on a host of containers.
const LASTS: Duration = Duration::from_secs(5);

/// The interfaces that are not watched, by name, with when each was missing first.
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
    fn kinds(&self) -> &'static [AlertKind] {
        &[AlertKind::HookDetached]
    }

    fn observe(&mut self, observation: &Observation) {
        let Observation::Host(HostObservation { now, netns, missing, .. }) = observation else { return };
        self.since.retain(|name, _| missing.iter().any(|interface| interface.name == *name));
        for interface in missing {
            let since = *self.since.entry(interface.name.clone()).or_insert(*now);
            if now.at.saturating_sub(since.at) >= LASTS {
                self.alerts.report(interface.name.clone(), since.wall, *now, report(interface, *netns), |_, _| {});
            }
        }
        self.alerts.resolve_where(|name, _| (!self.since.contains_key(name)).then_some(now.wall));
    }
}

fn report(interface: &Unwatched, netns: u32) -> Report {
    let Unwatched { name, reason } = interface;
    let subject = AlertSubject { netns, object: Some(name.clone()), ..AlertSubject::default() };
    let facts = vec![Fact::new("reason", "reason", reason.clone(), Unit::None).about("Why it is not watched.")];
    Report {
        headline: format!("The interface {name} is not watched: {reason}"),
        advice: format!(
            "Packets and SYNs that arrive by {name} are not counted, and a flood of them is not seen. Fix the \
             reason: it is then \
             watched at once. If it is to stay unwatched, take it out of --interface."
        ),
        ..Report::of_facts(AlertKind::HookDetached, Severity::Warning, subject, facts)
    }
}
