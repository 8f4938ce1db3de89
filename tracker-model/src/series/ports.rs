//! SYNs to no listener, by port: a series for each port that was ever among the top, and one for the rest.

use std::collections::{BTreeMap, HashMap};

use crate::snapshot::NoListener;

/// A port gets a series when it is among so many.
const TOP: usize = 10;
/// And when it received at least one in so many of all SYNs to no listener; else a scan of all ports would take
/// every series with one SYN each.
const SHARE: u64 = 100;
/// Most ports that ever get a series.
const MAX: usize = 32;

/// Counts by port that never go back and whose sum is the total.
///
/// A port keeps its series once it has one. It counts the SYNs that came while its count was known, that is while it
/// was in the list of a snapshot; all others count in `other`. As long as the lists hold every port there is, and
/// they do until more ports are hit than a list is long, that is all of them.
#[derive(Debug, Default)]
pub struct PortSeries {
    own: BTreeMap<u16, u64>,
    other: u64,
    last: Reading,
    /// SYNs that a port's series is ahead of the total, for the two are read one after the other.
    ahead: u64,
}

#[derive(Debug, Default)]
struct Reading {
    total: u64,
    ports: u32,
    listed: HashMap<u16, u64>,
}

impl Reading {
    /// The count of a port at this reading, if it is known.
    fn count(&self, port: u16) -> Option<u64> {
        let complete = self.ports as usize <= self.listed.len();
        self.listed.get(&port).copied().or(complete.then_some(0))
    }
}

impl PortSeries {
    /// Takes in a snapshot: the SYNs to no listener by all interfaces, and the ports with most.
    pub fn update(&mut self, total: u64, now: &NoListener) {
        let mut counted = 0;
        for (rank, entry) in now.top_ports.iter().enumerate() {
            let worthy = rank < TOP && self.own.len() < MAX && entry.syns >= total.div_ceil(SHARE);
            if worthy || self.own.contains_key(&entry.port) {
                let new = self.last.count(entry.port).map_or(0, |before| entry.syns.saturating_sub(before));
                *self.own.entry(entry.port).or_default() += new;
                counted += new;
            }
        }
        let grown = total.saturating_sub(self.last.total);
        let due = counted + self.ahead;
        self.other += grown.saturating_sub(due);
        self.ahead = due.saturating_sub(grown);
        let listed = now.top_ports.iter().map(|entry| (entry.port, entry.syns)).collect();
        self.last = Reading { total, ports: now.ports, listed };
    }

    /// The ports that have a series, with their SYNs.
    #[must_use]
    pub fn own(&self) -> &BTreeMap<u16, u64> {
        &self.own
    }

    /// All other SYNs to no listener.
    #[must_use]
    pub fn other(&self) -> u64 {
        self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::PortSyns;

    fn list(ports: u32, top: &[(u16, u64)]) -> NoListener {
        NoListener { top_ports: top.iter().map(|&(port, syns)| PortSyns { port, syns }).collect(), ports }
    }

    fn sum(series: &PortSeries) -> u64 {
        series.own().values().sum::<u64>() + series.other()
    }

    #[test]
    fn few_ports_are_counted_exactly() {
        let mut series = PortSeries::default();
        series.update(40, &list(2, &[(23, 30), (80, 10)]));
        assert_eq!((series.own()[&23], series.own()[&80], series.other()), (30, 10, 0));
        series.update(50, &list(3, &[(23, 35), (80, 10), (22, 5)]));
        assert_eq!((series.own()[&23], series.own()[&22], series.other()), (35, 5, 0));
    }

    #[test]
    fn a_port_that_climbs_into_the_list_starts_at_zero_and_the_rest_does_not_go_back() {
        let mut series = PortSeries::default();
        series.update(100, &list(3, &[(1, 50), (2, 30)]));
        assert_eq!(series.other(), 20);
        series.update(200, &list(3, &[(3, 90), (1, 60)]));
        assert_eq!(series.own()[&3], 0, "how many of the 90 are new is not known");
        assert_eq!((series.own()[&1], series.own()[&2], series.other()), (60, 30, 110));
        series.update(230, &list(3, &[(3, 120), (1, 60)]));
        assert_eq!((series.own()[&3], sum(&series)), (30, 230));
    }

    #[test]
    fn a_port_that_falls_off_the_list_keeps_its_series() {
        let mut series = PortSeries::default();
        series.update(10, &list(1, &[(1, 10)]));
        series.update(110, &list(3, &[(2, 60), (3, 40)]));
        assert_eq!((series.own()[&1], sum(&series)), (10, 110));
    }

    #[test]
    fn a_scan_of_all_ports_gets_no_series() {
        let mut series = PortSeries::default();
        let scanned: Vec<_> = (1..=10).map(|port| (port, 1)).collect();
        series.update(60_000, &list(60_000, &scanned));
        assert_eq!((series.own().len(), series.other()), (0, 60_000));
    }

    #[test]
    fn no_more_than_the_most_ports_get_a_series() {
        let mut series = PortSeries::default();
        for step in 0..100_u16 {
            series.update(u64::from(step + 1), &list(u32::from(step) + 1, &[(step, 1)]));
        }
        assert_eq!((series.own().len(), sum(&series)), (MAX, 100));
    }

    #[test]
    fn counters_read_at_different_moments_even_out() {
        let mut series = PortSeries::default();
        series.update(5, &list(1, &[(1, 10)]));
        assert_eq!((series.own()[&1], series.other()), (10, 0));
        series.update(10, &list(1, &[(1, 10)]));
        assert_eq!((sum(&series), series.other()), (10, 0), "the five that were missing belong to the port");
    }

    #[test]
    fn nothing_goes_back_when_an_interface_and_its_counters_leave() {
        let mut series = PortSeries::default();
        series.update(100, &list(1, &[(1, 100)]));
        series.update(40, &list(1, &[(1, 100)]));
        assert_eq!(sum(&series), 100);
        series.update(47, &list(1, &[(1, 107)]));
        assert_eq!((series.own()[&1], series.other()), (107, 0));
    }
}
