//! The list of detectors.
//!
//! A detector is one file and one line of [`DETECTORS`]: its thresholds, its text and its advice stand in its file. The
//! flood detector and the port model are not on the list. They also answer questions (verdicts, what to read next, how
//! ports stand), so the collectors that ask them hold them; their alerts are in the same store.

use crate::{
    alert::AlertStore,
    detector::{Detector, Observation},
    hook_detached, leaks, map_pressure,
};

/// Makes a detector whose alerts go into a store.
type NewDetector = fn(AlertStore) -> Box<dyn Detector>;

/// All of them.
pub const DETECTORS: &[NewDetector] = &[leaks::detector, map_pressure::detector, hook_detached::detector];

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
    use tracker_model::api::AlertKind;

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
