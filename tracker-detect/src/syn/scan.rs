//! A scan: SYNs to many ports where nothing listens.

use std::{collections::VecDeque, time::Duration};

use super::{
    cusum::{Excursion, Step},
    history::Point,
    incident::{Incident, Sight},
    record::{Ledger, Subject},
    sources::Whence,
};
use tracker_model::api::{AlertKind, Class};

/// Ports tried within [`TIME`] that make a scan.
const MANY: u32 = 50;
const TIME: Duration = Duration::from_secs(10);
/// Ports tried within this that keep it going.
const SOME: u32 = 5;
const SOON: Duration = Duration::from_secs(3);
/// It is over after so long without.
const QUIET: Duration = Duration::from_secs(5);
/// Steps remembered.
const STEPS: usize = 64;
const PORTS: u32 = 65_536;

/// Ports tried of late, and the scan that they make.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Counters before a step in which ports were tried that had not been of late, and the number of those.
    tried: VecDeque<(Point, Duration, u32)>,
    incident: Option<Incident>,
}

impl Scan {
    /// Takes in a step of all SYNs that met no listener, with the number of ports that had not been tried of late.
    pub(super) fn step(&mut self, step: Option<&Step>, fresh: u32, netns: u32, sight: &Sight, ledger: &mut Ledger) {
        let at = sight.moment.at;
        if let Some(step) = step
            && fresh > 0
        {
            self.tried.push_back((step.known.from, at, fresh));
        }
        while self.tried.len() > STEPS || self.tried.front().is_some_and(|(_, then, _)| at.saturating_sub(*then) > TIME)
        {
            self.tried.pop_front();
        }
        let on = self.within(SOON, at) >= SOME;
        if let Some(incident) = &mut self.incident {
            incident.follow(step, on, QUIET, sight, ledger);
            if incident.firing {
                self.count(fresh, sight, ledger);
                return;
            }
        }
        let ports = self.within(TIME, at);
        if let Some((before, _, _)) = self.tried.front().copied()
            && ports >= MANY
            && step.is_some()
        {
            self.open(before, ports, netns, sight, ledger);
        }
    }

    fn within(&self, time: Duration, at: Duration) -> u32 {
        let late = self.tried.iter().filter(|(_, then, _)| at.saturating_sub(*then) <= time);
        late.fold(0, |sum, (_, _, fresh)| sum.saturating_add(*fresh))
    }

    fn open(&mut self, before: Point, ports: u32, netns: u32, sight: &Sight, ledger: &mut Ledger) {
        let whence = Whence { class: Class::Scan, origin: None };
        let excursion =
            Excursion { before, first: before, usual_syns: 0.0, usual_completed: 0.0, ready: Some(sight.moment.at) };
        let returning = self.incident.take().filter(|incident| incident.may_return(sight.moment.at));
        let incident = if let Some(mut incident) = returning {
            incident.reopen(whence, &excursion, sight, ledger);
            incident
        } else {
            Incident::open(AlertKind::PortScan, Subject::Ports(netns), whence, &excursion, sight, ledger)
        };
        self.incident = Some(incident);
        self.count(ports, sight, ledger);
    }

    fn count(&mut self, ports: u32, sight: &Sight, ledger: &mut Ledger) {
        if let Some(record) = self.incident.as_ref().and_then(|incident| ledger.get(incident.alert)) {
            let sum = record.evidence.ports.unwrap_or_default().saturating_add(ports);
            record.evidence.ports = Some(sum.min(PORTS));
            record.note_census(sight.moment.census_error);
        }
    }

    /// Whether a scan goes on.
    pub(super) fn fires(&self) -> bool {
        self.alert().is_some()
    }

    /// The alert of the scan that goes on.
    pub(super) fn alert(&self) -> Option<u64> {
        self.incident.as_ref().filter(|incident| incident.firing).map(|incident| incident.alert)
    }
}
