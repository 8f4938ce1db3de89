//! All that is known at one moment of a listener, or of a port without one.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracker_model::counters::{FlowSample, NamespaceCounters};

use super::{QueuesSeen, cusum::Gauge, history::Point, sources::Sample, tcp_ext::NamespaceHistory};

/// The moment of an observation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    /// On the detector's clock.
    pub at: Duration,
    /// The time of day.
    pub wall: Timestamp,
    /// The namespace's recent counters.
    pub namespace: &'a NamespaceHistory,
    /// Why the last census failed.
    pub census_error: Option<&'a str>,
}

impl Moment<'_> {
    /// The time of day at an earlier moment, as the clock of today tells it.
    pub(super) fn wall_of(&self, at: Duration) -> Timestamp {
        let ago = SignedDuration::try_from(self.at.saturating_sub(at)).unwrap_or_default();
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

/// All that is known of a subject at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight<'a> {
    /// The moment.
    pub moment: &'a Moment<'a>,
    /// Its counters.
    pub gauge: &'a Gauge,
    /// Its sources.
    pub sample: &'a Sample,
    /// Distinct sources since it is watched, and the SYNs that this covers.
    pub distinct: (f64, u64),
    /// The sample of its SYNs, while it has one.
    pub flow: Option<FlowSample>,
    /// Its queues.
    pub queues: Option<QueuesSeen>,
}

/// What was before the onset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    /// The subject's counters.
    pub point: Point,
    /// The sample of its SYNs.
    pub flow: Option<FlowSample>,
    /// The namespace's counters.
    pub namespace: Option<NamespaceCounters>,
}
