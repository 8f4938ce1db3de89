//! SYNs to no listener: which ports, and which are active.

use std::time::Instant;

use tracker_detect::estimators::decay::PortRates;
use tracker_model::api::{NoListener, UndeliveredSyns};

use super::maps::Maps;

/// Ports that are named; the rest is in the total.
const TOP_PORTS: usize = 10;

/// How active each port is.
pub struct ClosedPorts {
    begun: Instant,
    rates: PortRates,
    /// The same of SYNs that TCP did not look up at their port; none where that is not known.
    undelivered: Option<PortRates>,
    /// All of these: SYNs on their way are among them for a moment, and the sum is not to go back.
    lost: u64,
}

impl ClosedPorts {
    /// Nothing was read yet. `shows_delivery` is whether the kernel shows which SYNs reach TCP.
    pub fn new(shows_delivery: bool) -> Self {
        let undelivered = shows_delivery.then(PortRates::default);
        Self { begun: Instant::now(), rates: PortRates::default(), undelivered, lost: 0 }
    }

    /// Whether the kernel shows which SYNs reach TCP.
    pub fn shows_delivery(&self) -> bool {
        self.undelivered.is_some()
    }

    /// Adds the counts of this moment.
    pub fn read(&mut self, maps: &Maps) -> NoListener {
        let (at, ports) = (self.begun.elapsed(), || 0..=u16::MAX);
        let Some(undelivered) = &mut self.undelivered else {
            return self.rates.update(at, ports().zip(maps.closed_ports.read()), TOP_PORTS);
        };
        let lost = maps.closed_ports.read().zip(maps.closed_delivered.read());
        let lost = lost.map(|(received, delivered)| received.saturating_sub(delivered));
        let mut total = 0;
        let counted = ports().zip(lost).inspect(|(_, syns)| total += syns);
        let lost = undelivered.update(at, counted, TOP_PORTS);
        let seen = self.rates.update(at, ports().zip(maps.closed_delivered.read()), TOP_PORTS);
        let (ports, syn_rate, top_ports) = (lost.ports, lost.syn_rate, lost.top_ports);
        self.lost = self.lost.max(total);
        let diverted = maps.closed_diverted.read().sum();
        NoListener {
            undelivered: Some(UndeliveredSyns { syns: self.lost, diverted, ports, syn_rate, top_ports }),
            ..seen
        }
    }
}
