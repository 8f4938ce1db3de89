//! The flood detector: from counts of SYNs and completed handshakes to a verdict an operator can act on.

mod observation;

pub use observation::{FlowSample, ListenerId, ListenerSeen, Observation, QueuesSeen, RefusedSeen, SourcesSeen};

use crate::{
    api::{Alert, SourceShare},
    snapshot::{Process, Verdict},
};

/// How readily the detector calls a flood: the one thing an operator may tune.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sensitivity {
    /// Later, and only for large floods.
    Low,
    /// As tested.
    #[default]
    Medium,
    /// Sooner, and for small ones too.
    High,
}

/// Watches all listeners of a host.
#[derive(Debug)]
pub struct Detector {
    _sensitivity: Sensitivity,
}

impl Detector {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new(sensitivity: Sensitivity) -> Self {
        Self { _sensitivity: sensitivity }
    }

    /// Takes in one observation. Those that are not later than the last are left out.
    pub fn step(&mut self, _observation: &Observation) {}

    /// The verdict on a listener; none before its second observation.
    #[must_use]
    pub fn verdict(&self, _listener: &ListenerId) -> Option<Verdict> {
        None
    }

    /// The verdict on SYNs that meet no listener; none before the second observation.
    #[must_use]
    pub fn no_listener(&self) -> Option<Verdict> {
        None
    }

    /// Sources of the SYNs that meet no listener, with the largest shares, at most ten.
    #[must_use]
    pub fn no_listener_sources(&self) -> Vec<SourceShare> {
        Vec::new()
    }

    /// Whether a listener is under suspicion or alarm: its sources are then to be read at every observation, and the
    /// distinct ones summed up from when this became true.
    #[must_use]
    pub fn watches(&self, _listener: &ListenerId) -> bool {
        false
    }

    /// The same of the SYNs that meet no listener.
    #[must_use]
    pub fn watches_no_listener(&self) -> bool {
        false
    }

    /// Whether queues of this moment would help: some listener is under suspicion, or an alarm needs to be followed.
    #[must_use]
    pub fn wants_census(&self) -> bool {
        false
    }

    /// Alerts, with the process of each subject as `process` knows it: firing ones first, then resolved ones, newest first.
    #[must_use]
    pub fn alerts(&self, _process: impl Fn(&ListenerId) -> Option<Process>) -> Vec<Alert> {
        Vec::new()
    }
}
