//! The list of detectors.
//!
//! A detector is one file and one line of [`DETECTORS`]: its thresholds, its text and its advice stand in its file. The
//! flood detector and the port model are not on the list. They also answer questions (verdicts, what to read next, how
//! ports stand), so the collectors that ask them hold them; their alerts are in the same store.

use std::fmt::Debug;

use jiff::Timestamp;
use tracker_model::api::{AlertKind, MapFill, Unwatched};

use crate::{
    alert::{AlertStore, ObservedAt},
    leaks::{self, LeaksSeen},
    map_pressure,
};

/// What a detector is shown.
#[derive(Clone, Debug)]
pub enum Observation {
    /// The daemon itself, at each reading.
    Host(HostObservation),
    /// The processes of a network namespace that hold sockets whose peer is silent, some four times a minute.
    Leaks(LeaksSeen),
    /// A network namespace is gone.
    NetnsGone {
        /// Its number.
        netns: u32,
        /// The time of day.
        wall: Timestamp,
    },
}

/// How complete the daemon's view of the host is.
#[derive(Clone, Debug)]
pub struct HostObservation {
    /// When.
    pub now: ObservedAt,
    /// Network namespace of the daemon.
    pub netns: u32,
    /// Kernel maps that can fill up.
    pub maps: Vec<MapFill>,
    /// Interfaces that should be watched and are not.
    pub missing: Vec<Unwatched>,
}

/// Turns observations into alerts.
pub trait Detector: Debug + Send {
    /// The kinds of alert that it opens.
    fn kinds(&self) -> &'static [AlertKind];

    /// Takes in an observation. Those that are none of its business are left out.
    fn observe(&mut self, observation: &Observation);
}

/// Makes a detector whose alerts go into a store.
type NewDetector = fn(AlertStore) -> Box<dyn Detector>;

/// All of them.
pub const DETECTORS: &[NewDetector] = &[leaks::detector, map_pressure::detector];

/// One of each.
#[derive(Debug)]
pub struct Detectors(Vec<Box<dyn Detector>>);

impl Detectors {
    /// Detectors that have seen nothing, whose alerts go into `alerts`.
    #[must_use]
    pub fn new(alerts: &AlertStore) -> Self {
        Self(DETECTORS.iter().map(|new| new(alerts.clone())).collect())
    }

    /// Shows an observation to all of them.
    pub fn observe(&mut self, observation: &Observation) {
        for detector in &mut self.0 {
            detector.observe(observation);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ports, syn};

    #[test]
    fn each_kind_of_alert_has_one_detector() {
        let listed = Detectors::new(&AlertStore::default());
        let listed = listed.0.iter().flat_map(|detector| detector.kinds());
        let mut kinds: Vec<_> = listed.chain(syn::KINDS).chain(ports::KINDS).copied().collect();
        kinds.sort();
        assert_eq!(kinds, AlertKind::ALL);
    }
}
