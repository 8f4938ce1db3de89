//! Ten million sources: memory stays what it was, and the counts are exact.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::lab::{self, Lab, Memory};
use crate::{
    Family, daemon,
    flood::{Flood, Pace, Sources},
};

/// How much resident memory may move by itself: allocations come and go with answers of the API.
const RESIDENT: u64 = 1 << 20;

/// What it showed.
#[derive(Clone, Debug)]
pub struct Many {
    /// Over which family.
    pub family: Family,
    /// Frames sent, each from a source of its own.
    pub frames: u64,
    /// In how many seconds.
    pub seconds: f64,
    /// SYNs that tracker counted.
    pub syns: u64,
    /// Frames lost on the way, before anyone saw them.
    pub dropped: u64,
    /// Memory once the daemon has taken its first census.
    pub start: Memory,
    /// Memory before the flood, when a small one has called an alert.
    pub before: Memory,
    /// Memory after the flood.
    pub after: Memory,
    /// Distinct sources that the alert names.
    pub distinct: Option<f64>,
}

impl Many {
    /// Sends a flood of this many frames, as fast as the machine does.
    pub fn run(family: Family, frames: u64) -> Result<Self> {
        let lab = Lab::new(1, 1)?;
        let daemon = lab.daemon(None)?;
        let start = Memory::of(daemon.pid())?;
        let api = lab::api(&daemon);
        // A small flood first: an alert, and the sources that are kept for it, take memory once, however large the
        // flood is.
        let target = lab.target(family, Lab::port(0));
        let flood = |pace, duration, frames| {
            let flood = Flood::syns(target, Sources::Everywhere(family), pace, duration);
            Flood { frames, ..flood }.start(&lab.pair.client, lab.route())?.wait()
        };
        let warm = flood(Pace::Steady(20_000.0), Duration::from_secs(5), u64::MAX)?;
        api.fresh_listeners()?;
        let device = &lab.pair.link.right.device;
        let (before, dropped) = (Memory::of(daemon.pid())?, lab.server.dropped(device)?);
        let sent = flood(Pace::Fastest, Duration::from_mins(3), frames)?;
        let listeners = api.fresh_listeners()?;
        let after = Memory::of(daemon.pid())?;
        let listener = daemon::find(listeners, (lab::wildcard(family), target.port()).into());
        let alerts = api.alerts()?.answer.alerts;
        Ok(Self {
            family,
            frames: sent.frames,
            seconds: sent.end().duration_since(sent.start).as_secs_f64(),
            syns: listener.context("the listener is not known")?.syns_received - warm.frames,
            dropped: lab.server.dropped(device)? - dropped,
            start,
            before,
            after,
            distinct: alerts.first().map(|alert| alert.evidence.flood().expect("of a flood").distinct_sources),
        })
    }

    /// Whether it holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        // A frame that the backlog refuses is sent again where the kernel says so, as 6.18 does: not all that were
        // dropped are missing.
        (self.frames.saturating_sub(self.dropped)..=self.frames).contains(&self.syns)
            && self.start.maps == self.before.maps
            && self.before.maps == self.after.maps
            && self.after.resident.saturating_sub(self.before.resident) <= RESIDENT
    }
}
