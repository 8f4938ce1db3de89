//! SYNs by target, summed over interfaces that come and go.

use std::collections::HashMap;

use tracker_common::{
    classify::Family,
    counters::{InterfaceCounters, SynTarget},
};

use crate::snapshot::{ByFamily, Interface};

type Syns = [[u64; Family::COUNT]; SynTarget::COUNT];

/// Sums that never go back, though the counters of an interface go when it goes.
#[derive(Debug, Default)]
pub struct SynSeries {
    last: HashMap<u32, Syns>,
    sum: Syns,
}

impl SynSeries {
    /// Takes in the interfaces of a snapshot.
    pub fn update(&mut self, interfaces: &[Interface]) {
        let mut now = HashMap::with_capacity(interfaces.len());
        for Interface { index, counters: InterfaceCounters { syns, .. }, .. } in interfaces {
            let before = self.last.get(index).copied().unwrap_or_default();
            let pairs = before.as_flattened().iter().zip(syns.as_flattened());
            for (sum, (before, now)) in self.sum.as_flattened_mut().iter_mut().zip(pairs) {
                // What went back began anew: the index was given to another interface.
                *sum += now.checked_sub(*before).unwrap_or(*now);
            }
            now.insert(*index, *syns);
        }
        self.last = now;
    }

    /// SYNs for `target`.
    #[must_use]
    pub fn total(&self, target: SynTarget) -> ByFamily {
        let by_family = self.sum[target as usize];
        ByFamily { ipv4: by_family[Family::Ipv4 as usize], ipv6: by_family[Family::Ipv6 as usize] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn interface(index: u32, ipv4: u64) -> Interface {
        let mut interface = sample::snapshot().interfaces.remove(0);
        interface.index = index;
        interface.counters.syns = Syns::default();
        interface.counters.syns[SynTarget::NoListener as usize][Family::Ipv4 as usize] = ipv4;
        interface
    }

    fn after(steps: &[&[Interface]]) -> u64 {
        let mut series = SynSeries::default();
        for step in steps {
            series.update(step);
        }
        series.total(SynTarget::NoListener).ipv4
    }

    #[test]
    fn interfaces_are_summed() {
        assert_eq!(after(&[&[interface(1, 10), interface(2, 5)]]), 15);
        assert_eq!(after(&[&[interface(1, 10)], &[interface(1, 12)], &[interface(1, 12)]]), 12);
    }

    #[test]
    fn an_interface_that_goes_leaves_its_count() {
        assert_eq!(after(&[&[interface(1, 10), interface(2, 5)], &[interface(1, 11)]]), 16);
        assert_eq!(after(&[&[interface(1, 10)], &[], &[interface(1, 3)]]), 13);
    }

    #[test]
    fn an_interface_that_begins_anew_adds_to_the_sum() {
        assert_eq!(after(&[&[interface(1, 10)], &[interface(1, 4)]]), 14);
    }
}
