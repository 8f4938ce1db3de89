//! SYNs to no listener: which ports, and which are active.

use std::time::Instant;

use tracker_detect::estimators::decay::PortRates;
use tracker_model::api::NoListener;

use super::maps::Mapped;

/// Ports that are named; the rest is in the total.
const TOP_PORTS: usize = 10;

/// How active each port is.
pub struct ClosedPorts {
    begun: Instant,
    rates: PortRates,
}

impl Default for ClosedPorts {
    fn default() -> Self {
        Self { begun: Instant::now(), rates: PortRates::default() }
    }
}

impl ClosedPorts {
    /// Adds the counts of this moment.
    pub fn read(&mut self, counts: &Mapped<u64>) -> NoListener {
        self.rates.update(self.begun.elapsed(), (0..=u16::MAX).zip(counts.read()), TOP_PORTS)
    }
}
