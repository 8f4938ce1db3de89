//! The sources that usually send most.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    observation::SourcesObservation,
    settings::{ADDRESSES, BLOCK},
};
use crate::estimators::rate::float;

/// Sources that are remembered.
const USUAL: usize = 8;

/// A source and its SYNs per second.
type SourceRate = (IpAddr, f64);

/// The largest sources while all is well. Learnt as [`super::baseline::Baseline`] is: a block late.
#[derive(Debug, Default)]
pub struct UsualSources {
    rates: Vec<SourceRate>,
    held: Vec<SourceRate>,
    block: HashMap<IpAddr, f64>,
    seconds: f64,
}

impl UsualSources {
    /// Adds what was seen in `seconds`, while there was no suspicion.
    pub fn learn(&mut self, seen: &SourcesObservation, seconds: f64) {
        self.seconds += seconds;
        let weight = float(seen.syns) / float(seen.sample.len().max(1) as u64);
        for address in seen.sample.iter().take(ADDRESSES).map(IpAddr::to_canonical) {
            if self.block.len() < 2 * USUAL || self.block.contains_key(&address) {
                *self.block.entry(address).or_default() += weight;
            }
        }
        if self.seconds >= BLOCK {
            let mut rates: Vec<_> = self.block.drain().map(|(source, sum)| (source, sum / self.seconds)).collect();
            rates.sort_by(|a, b| b.1.total_cmp(&a.1));
            rates.truncate(USUAL);
            self.rates = std::mem::replace(&mut self.held, rates);
            self.seconds = 0.0;
        }
    }

    /// Forgets what is not yet taken for usual: there is suspicion.
    pub fn suspect(&mut self) {
        self.block.clear();
        self.held.clear();
        self.seconds = 0.0;
    }

    /// SYNs per second that an origin usually sends.
    pub fn rate(&self, origin: IpNet) -> f64 {
        self.rates.iter().filter(|(source, _)| origin.contains(source)).map(|(_, rate)| rate).sum()
    }
}
