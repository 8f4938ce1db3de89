//! A scan: SYNs to many ports where nothing listens.

use std::{collections::VecDeque, time::Duration};

use tracker_model::api::Class;

use super::{
    cusum::{Excursion, Step},
    history::Point,
    incident::Incident,
    record::Subject,
    sources::Attribution,
    subject::SubjectView,
};

/// Ports tried within [`TIME`] that make a scan.
const SCAN_PORTS: u32 = 50;
const TIME: Duration = Duration::from_secs(10);
/// Ports tried within this that keep it going.
const CONTINUED_PORTS: u32 = 5;
const CONTINUED_WITHIN: Duration = Duration::from_secs(3);
/// It is over after this long without.
const QUIET: Duration = Duration::from_secs(5);
/// Steps remembered.
const STEPS: usize = 64;
const PORTS: u32 = 65_536;

/// Ports tried recently, and the scan that they make.
#[derive(Debug, Default)]
pub struct Scan {
    /// Counters before a step in which ports were tried that had not been tried recently, and the number of those.
    tried: VecDeque<(Point, Duration, u32)>,
    incident: Option<Incident>,
}

impl Scan {
    /// Adds a step of all SYNs that met no listener, with the number of ports that had not been tried recently.
    pub fn step(&mut self, step: Option<&Step>, fresh: u32, netns: u32, view: &SubjectView) {
        let at = view.context.at;
        if let Some(step) = step
            && fresh > 0
        {
            self.tried.push_back((step.interval.from, at, fresh));
        }
        while self.tried.len() > STEPS || self.tried.front().is_some_and(|(_, then, _)| at.saturating_sub(*then) > TIME)
        {
            self.tried.pop_front();
        }
        let on = self.within(CONTINUED_WITHIN, at) >= CONTINUED_PORTS;
        if let Some(incident) = &mut self.incident {
            incident.advance(step, on, QUIET, view);
            if incident.firing() {
                self.count(fresh, view);
                return;
            }
        }
        let ports = self.within(TIME, at);
        if let Some((before, _, _)) = self.tried.front().copied()
            && ports >= SCAN_PORTS
            && step.is_some()
        {
            self.open(before, ports, netns, view);
        }
    }

    fn within(&self, time: Duration, at: Duration) -> u32 {
        let late = self.tried.iter().filter(|(_, then, _)| at.saturating_sub(*then) <= time);
        late.fold(0, |sum, (_, _, fresh)| sum.saturating_add(*fresh))
    }

    fn open(&mut self, before: Point, ports: u32, netns: u32, view: &SubjectView) {
        let attribution = Attribution { class: Class::Scan, origin: None };
        let excursion = Excursion::from_point(before, 0.0, 0.0, Some(view.context.at));
        let (previous, subject) = (self.incident.take(), Subject::Ports(netns));
        self.incident = Some(Incident::begin(previous, subject, attribution, &excursion, view));
        self.count(ports, view);
    }

    fn count(&mut self, ports: u32, view: &SubjectView) {
        let Some(incident) = &mut self.incident else { return };
        let evidence = &mut incident.record.evidence;
        evidence.ports = Some(evidence.ports.unwrap_or_default().saturating_add(ports).min(PORTS));
        incident.record.note_census(view.context.census_error);
        incident.publish(view.context);
    }

    /// The scan that goes on.
    pub fn firing(&self) -> Option<&Incident> {
        self.incident.as_ref().filter(|incident| incident.firing())
    }
}
