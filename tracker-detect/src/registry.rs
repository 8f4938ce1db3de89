//! The list of detectors.
//!
//! A detector is one file and one line of [`DETECTORS`]: its thresholds, its text and its advice stand in its file.
//!
//! Some detectors also answer questions, such as what to read next. The answers are of types of their own and are asked
//! for at several places, so a collector takes the detector from the list by its type ([`Detectors::get`]). A value
//! that all detectors write answers into would copy them for each listener, four times a second, and would know every
//! detector.

use std::any::Any;

use crate::{
    alert::AlertStore,
    call_failures,
    detector::{Detector, Observation},
    hook_detached, leaks, map_pressure, port_exhaustion,
    syn::Sensitivity,
    syn_flood,
};

/// Makes a detector whose alerts go into a store.
type NewDetector = fn(Sensitivity, AlertStore) -> Box<dyn Detector>;

/// All of them.
pub const DETECTORS: &[NewDetector] = &[
    syn_flood::detector,
    |_, alerts| port_exhaustion::detector(alerts),
    |_, alerts| call_failures::detector(alerts),
    |_, alerts| leaks::detector(alerts),
    |_, alerts| map_pressure::detector(alerts),
    |_, alerts| hook_detached::detector(alerts),
];

/// One of each.
#[derive(Debug)]
pub struct Detectors(Vec<Box<dyn Detector>>);

impl Detectors {
    /// Detectors that have seen nothing, whose alerts go into `alerts`.
    #[must_use]
    pub fn new(sensitivity: Sensitivity, alerts: &AlertStore) -> Self {
        Self(DETECTORS.iter().map(|new| new(sensitivity, alerts.clone())).collect())
    }

    /// Shows an observation to all of them.
    pub fn observe(&mut self, observation: &Observation) {
        for detector in &mut self.0 {
            detector.observe(observation);
        }
    }

    /// The detector of this type, to ask it questions.
    ///
    /// # Panics
    ///
    /// When none is on the list.
    #[must_use]
    pub fn get<T: Detector>(&self) -> &T {
        let found = self.0.iter().find_map(|detector| (&**detector as &dyn Any).downcast_ref());
        found.unwrap_or_else(|| panic!("{} is not in DETECTORS", std::any::type_name::<T>()))
    }
}
