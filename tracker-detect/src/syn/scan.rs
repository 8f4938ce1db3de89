//! A scan: SYNs to many ports where nothing listens.

use std::{collections::VecDeque, time::Duration};

use tracker_model::api::Class;

use super::{
    cusum::{Excursion, Step},
    evidence,
    history::Point,
    incident::Incident,
    record::{Subject, Unknown},
    settings::AGAIN,
    sources::Attribution,
    subject::SubjectView,
};

/// Ports tried within [`TIME`] that make a scan.
const SCAN_PORTS: u32 = 50;
const TIME: Duration = Duration::from_secs(10);
/// Ports tried within this that keep it going.
const CONTINUED_PORTS: u32 = 5;
const CONTINUED_WITHIN: Duration = Duration::from_secs(3);
/// A port is of the scan when so many were tried in the time after it. One that is flooded is tried, too.
const BEGUN_PORTS: u32 = 2;
const BEGUN_WITHIN: Duration = Duration::from_secs(1);
/// It is over after this long without.
const QUIET: Duration = Duration::from_secs(5);
/// Steps remembered.
const STEPS: usize = 64;
const MAX_PORTS: u32 = 65_536;

/// Ports that were tried in a step.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// How many that had not been tried recently.
    pub fresh: u32,
    /// How many since [`Scan::from`], the step included; an old recording does not have it.
    pub since: Option<u32>,
    /// Whether a port is flooded meanwhile: sources are then those of both.
    pub mixed: bool,
}

/// Ports tried recently, and the scan that they make.
#[derive(Debug, Default)]
pub struct Scan {
    /// Counters before a step in which ports were tried that had not been tried recently, and the number of those.
    tried: VecDeque<(Point, Duration, u32)>,
    incident: Option<Incident>,
    /// When it began.
    onset: Duration,
    at: Duration,
}

impl Scan {
    /// Adds a step of the SYNs that met no listener, without those of floods.
    pub fn step(&mut self, step: Option<&Step>, ports: Ports, netns: u32, view: &SubjectView) {
        let at = view.context.at;
        self.at = at;
        if let Some(step) = step
            && ports.fresh > 0
        {
            self.tried.push_back((step.interval.from, at, ports.fresh));
        }
        while self.tried.len() > STEPS || self.tried.front().is_some_and(|(_, then, _)| at.saturating_sub(*then) > TIME)
        {
            self.tried.pop_front();
        }
        let on = self.within(CONTINUED_WITHIN, at) >= CONTINUED_PORTS;
        if self.firing().is_some() {
            self.count(ports.fresh, ports, view);
            let Some(incident) = &mut self.incident else { return };
            incident.advance(step, on, QUIET, view);
            incident.publish(view.context);
            if !incident.firing() {
                // What was tried is counted: it does not begin again for it.
                self.tried.clear();
            }
            return;
        }
        if self.within(TIME, at) >= SCAN_PORTS && step.is_some() {
            self.open(ports, netns, view);
        }
    }

    fn within(&self, time: Duration, at: Duration) -> u32 {
        let late = self.tried.iter().filter(|(_, then, _)| at.saturating_sub(*then) <= time);
        late.fold(0, |sum, (_, _, fresh)| sum.saturating_add(*fresh))
    }

    /// The counters before the first port that is of the scan.
    fn begun(&self) -> Option<Point> {
        let is_scanned = |(_, then, _): &&(Point, Duration, u32)| {
            let soon = self.tried.iter().filter(|(_, at, _)| at >= then && at.saturating_sub(*then) <= BEGUN_WITHIN);
            soon.fold(0_u32, |sum, (_, _, fresh)| sum.saturating_add(*fresh)) >= BEGUN_PORTS
        };
        self.tried.iter().find(is_scanned).map(|(before, ..)| *before)
    }

    fn open(&mut self, ports: Ports, netns: u32, view: &SubjectView) {
        let Some(before) = self.begun() else { return };
        let attribution = Attribution { class: Class::Scan, origin: None };
        let excursion = Excursion::from_point(before, 0.0, 0.0, Some(view.context.at));
        let (again, previous, subject) = (self.may_return(), self.incident.take(), Subject::Ports(netns));
        self.incident = Some(Incident::begin(previous, subject, attribution, &excursion, view));
        if !again {
            self.onset = before.at;
        }
        self.count(self.within(TIME, view.context.at), ports, view);
        if let Some(incident) = &mut self.incident {
            incident.publish(view.context);
        }
    }

    /// Takes over how many ports were tried; `more` of them are new, if the number itself is not known.
    fn count(&mut self, more: u32, ports: Ports, view: &SubjectView) {
        let Some(incident) = &mut self.incident else { return };
        let evidence = &mut incident.record.evidence;
        let before = evidence.ports.unwrap_or_default();
        let now = ports.since.unwrap_or(before.saturating_add(more).min(MAX_PORTS));
        evidence.ports = Some(now.max(before));
        if evidence.top_sources.is_empty() {
            // A short one may be over when its sources are read.
            evidence::sources(evidence, view);
        }
        incident.record.note_census(view.context.census_error);
        if ports.mixed {
            incident.record.note(Unknown::SharedSources);
        }
    }

    /// Whether the next scan is the last one again.
    fn may_return(&self) -> bool {
        self.incident.as_ref().is_some_and(|incident| self.at.saturating_sub(incident.last) <= AGAIN)
    }

    /// When the scan began that goes on or may go on; else when ports were first tried that may be one.
    pub fn from(&self) -> Option<Duration> {
        if self.may_return() || self.firing().is_some() {
            return Some(self.onset);
        }
        self.begun().map(|before| before.at)
    }

    /// The scan that goes on.
    pub fn firing(&self) -> Option<&Incident> {
        self.incident.as_ref().filter(|incident| incident.firing())
    }
}
