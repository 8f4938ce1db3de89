//! SYNs to no listener, by port: a series for each of at most 32 ports that were active last, and one for the rest.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tracker_detect::estimators::decay::TIME_CONSTANT;
use tracker_model::{api::NoListener, counters::PortSyns};

/// A port gets a series when it is among this many of the most active,
const TOP: usize = 10;
/// and when it received at least one in this many of all SYNs to no listener. Otherwise a scan of all ports would take
/// every series with one SYN each.
const ONE_IN: u32 = 100;
/// Most ports that have a series at one moment.
const MAX: usize = 32;
/// A series that has not grown for this long gives way to any port that is active now.
const IDLE: Duration = Duration::from_mins(5);
/// A port must receive this many SYNs per second to replace another: four in a minute. A scan of one port after the
/// other sends less to each, and would leave a new series behind every few seconds.
const ACTIVE: f64 = 3.5 / 60.0;
/// To replace one that is not idle it must be this many times as active; otherwise similar ports would take turns.
const MORE: f64 = 2.0;

/// Counts by port that never go back while they are there, and whose sum never goes back and is the total.
///
/// A port's series counts the SYNs that came while its count was known, that is while it was in the list of a
/// snapshot; all others count in `other`. As long as the lists hold every port there is, and they do until more ports
/// are hit than a list is long, that is all of them.
///
/// When no series is free, a port that is active now replaces one that is not, whose count goes to `other`. If that
/// port comes back, it starts at zero.
#[derive(Debug, Default)]
pub struct PortSeries {
    own: BTreeMap<u16, Own>,
    other: u64,
    last: Reading,
    /// SYNs that a port's series is ahead of the total, for the two are read one after the other.
    ahead: u64,
}

/// A port with a series.
#[derive(Clone, Copy, Debug)]
struct Own {
    syns: u64,
    /// When it last grew.
    grown_at: Duration,
    /// Its rate when it was last in a list, and when that was.
    rate: f64,
    listed_at: Duration,
}

impl Own {
    fn new(now: Duration) -> Self {
        Self { syns: 0, grown_at: now, rate: 0.0, listed_at: now }
    }

    fn is_idle(&self, now: Duration) -> bool {
        now.saturating_sub(self.grown_at) >= IDLE
    }

    /// Its rate, as far as is known: it fades while the port is in no list.
    fn rate(&self, now: Duration) -> f64 {
        let unlisted = now.saturating_sub(self.listed_at);
        self.rate * (-unlisted.div_duration_f64(TIME_CONSTANT)).exp()
    }
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
    /// Adds a snapshot: `total` SYNs to no listener by all interfaces, and the most active ports. `now` is of the
    /// monotonic clock.
    pub fn update(&mut self, now: Duration, total: u64, seen: &NoListener) {
        // First those that have a series: only then is it known which of them are idle.
        let mut counted: u64 = seen.top_ports.iter().map(|entry| self.count(now, entry)).sum();
        // Before any gives way: what loses its series now must be gone from at least one scrape.
        let without = |entry: &&PortSyns| !self.own.contains_key(&entry.port);
        let without: Vec<_> = seen.top_ports.iter().take(TOP).filter(without).collect();
        for entry in without {
            if self.make_room(now, total, seen, entry) {
                self.own.insert(entry.port, Own::new(now));
                counted += self.count(now, entry);
            }
        }
        let grown = total.saturating_sub(self.last.total);
        let due = counted + self.ahead;
        self.other += grown.saturating_sub(due);
        self.ahead = due.saturating_sub(grown);
        let listed = seen.top_ports.iter().map(|entry| (entry.port, entry.syns)).collect();
        self.last = Reading { total, ports: seen.ports, listed };
    }

    /// Counts the new SYNs of a port that has a series, and returns how many there were.
    fn count(&mut self, now: Duration, entry: &PortSyns) -> u64 {
        let Some(own) = self.own.get_mut(&entry.port) else { return 0 };
        let new = self.last.count(entry.port).map_or(0, |before| entry.syns.saturating_sub(before));
        own.syns += new;
        if new > 0 {
            own.grown_at = now;
        }
        (own.rate, own.listed_at) = (entry.syn_rate, now);
        new
    }

    /// Whether a port gets a series; removes another if that makes room for it.
    fn make_room(&mut self, now: Duration, total: u64, seen: &NoListener, entry: &PortSyns) -> bool {
        let recent = entry.syn_rate > 0.0 && entry.syn_rate * f64::from(ONE_IN) >= seen.syn_rate;
        if self.own.len() < MAX {
            return recent || entry.syns >= total.div_ceil(ONE_IN.into());
        }
        if !recent || entry.syn_rate < ACTIVE {
            return false;
        }
        let Some(port) = self.least_active(now) else { return false };
        let victim = self.own[&port];
        let gives_way = victim.is_idle(now) || entry.syn_rate > victim.rate(now) * MORE;
        if gives_way {
            self.own.remove(&port);
            self.other += victim.syns;
        }
        gives_way
    }

    /// The port whose series has been idle longest, or else the one with the lowest rate.
    fn least_active(&self, now: Duration) -> Option<u16> {
        let idle = self.own.iter().filter(|(_, own)| own.is_idle(now)).min_by_key(|(_, own)| own.grown_at);
        let slow = || self.own.iter().min_by(|(_, a), (_, b)| a.rate(now).total_cmp(&b.rate(now)));
        idle.or_else(slow).map(|(port, _)| *port)
    }

    /// The ports that have a series, with their SYNs.
    pub fn own(&self) -> impl Iterator<Item = (u16, u64)> {
        self.own.iter().map(|(port, own)| (*port, own.syns))
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
    use tracker_detect::estimators::decay::PortRates;

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn of(series: &PortSeries, port: u16) -> Option<u64> {
        series.own().find(|(own, _)| *own == port).map(|(_, syns)| syns)
    }

    fn sum(series: &PortSeries) -> u64 {
        series.own().map(|(_, syns)| syns).sum::<u64>() + series.other()
    }

    /// A host whose ports are hit, read once a second and scraped every 15 s.
    #[derive(Default)]
    struct Host {
        counts: BTreeMap<u16, u64>,
        rates: PortRates,
        series: PortSeries,
        second: u16,
        /// Every series there ever was.
        ever: std::collections::BTreeSet<u16>,
    }

    impl Host {
        /// Each second every one of `ports` receives `syns`.
        fn receive(&mut self, seconds: u16, ports: impl IntoIterator<Item = u16>, syns: u64) {
            let ports: Vec<u16> = ports.into_iter().collect();
            for _ in 0..seconds {
                for &port in &ports {
                    *self.counts.entry(port).or_default() += syns;
                }
                self.second += 1;
                let counts = self.counts.iter().map(|(port, syns)| (*port, *syns));
                let seen = self.rates.update(Duration::from_secs(self.second.into()), counts, 10);
                if self.second.is_multiple_of(15) {
                    let total = self.counts.values().sum();
                    self.series.update(at(self.second.into()), total, &seen);
                    assert_eq!(sum(&self.series), total, "second {}", self.second);
                    self.ever.extend(self.series.own().map(|(port, _)| port));
                    assert!(self.series.own().count() <= MAX);
                }
            }
        }
    }

    #[test]
    fn a_service_that_dies_after_scans_took_every_series_gets_one() {
        let mut host = Host::default();
        // 36 ports in groups of nine, then the clients of a service that has died.
        for group in 0..4 {
            host.receive(30, 1_000 + group * 9..1_009 + group * 9, 10);
        }
        assert_eq!(host.series.own().count(), MAX);
        host.receive(140, [443], 10);
        let counted = of(&host.series, 443).expect("a series");
        assert!((1_200..=1_400).contains(&counted), "{counted} of 1,400");
    }

    #[test]
    fn the_series_that_has_been_idle_longest_gives_way() {
        let mut host = Host::default();
        for port in 1..=32 {
            host.receive(15, [port], 10);
        }
        assert!(of(&host.series, 1).is_some_and(|syns| syns > 0));
        host.receive(15, [443], 1);
        assert_eq!((of(&host.series, 1), of(&host.series, 2).is_some()), (None, true));
        assert!(of(&host.series, 443).is_some());
        // It comes back and starts at zero.
        let before = host.counts[&1];
        host.receive(45, [1], 1);
        assert!(of(&host.series, 1).is_some_and(|syns| syns <= 45) && host.counts[&1] == before + 45);
        assert_eq!(of(&host.series, 2), None);
    }

    #[test]
    fn without_an_idle_series_the_least_active_gives_way_to_one_that_is_more_active() {
        let mut host = Host::default();
        for group in 0..4 {
            host.receive(15, 1_000 + group * 8..1_008 + group * 8, 5);
        }
        host.receive(15, [443], 50);
        let gone: Vec<_> = (1_000..1_032).filter(|port| of(&host.series, *port).is_none()).collect();
        assert_eq!((gone.len(), of(&host.series, 443).is_some()), (1, true));
        assert!(gone[0] < 1_008, "one of the group that is quiet longest");
    }

    #[test]
    fn a_slow_scan_takes_no_series_from_others() {
        let mut host = Host::default();
        for group in 0..4 {
            host.receive(15, 1_000 + group * 8..1_008 + group * 8, 5);
        }
        host.receive(600, [], 0);
        for port in 2_000..3_000 {
            host.receive(2, [port], 1);
        }
        assert_eq!(host.ever.len(), MAX);
        host.receive(15, [443], 1);
        assert!(of(&host.series, 443).is_some());
    }

    #[test]
    fn ports_alike_do_not_take_turns() {
        let mut host = Host::default();
        host.receive(15, 1..=8, 10);
        for group in 1..4 {
            host.receive(15, 1 + group * 8..9 + group * 8, 10);
        }
        let last = host.series.own[&32].rate;
        let entry = |factor| PortSyns { port: 443, syns: 99, syn_rate: last * factor };
        for (factor, room) in [(0.9, false), (1.5, true)] {
            let seen = NoListener { top_ports: vec![entry(factor)], ports: 33, syn_rate: 1.0, ..NoListener::default() };
            // The first group was last in a list 45 s ago: it has faded to less than a half.
            assert_eq!(host.series.make_room(at(60), 0, &seen, &entry(factor)), room, "{factor}");
        }
    }

    #[test]
    fn the_sum_never_goes_back_and_no_more_than_32_have_a_series_whatever_happens() {
        let mut random = 1_u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..200 {
            let (mut series, mut counts, mut total) = (PortSeries::default(), BTreeMap::<u16, u64>::new(), 0_u64);
            let (mut second, mut before, mut own) = (0, 0, BTreeMap::new());
            for _ in 0..100 {
                second += next(400);
                for _ in 0..next(30) {
                    let (port, syns) = (u16::try_from(next(80)).unwrap(), next(50));
                    *counts.entry(port).or_default() += syns;
                    // The total is read before or after, and an interface may leave with its counters.
                    total = (total + syns * next(3)).saturating_sub(if next(20) == 0 { next(500) } else { 0 });
                }
                let mut top_ports: Vec<_> = counts
                    .iter()
                    .map(|(&port, &syns)| PortSyns { port, syns, syn_rate: f64::from(u32::try_from(next(9)).unwrap()) })
                    .collect();
                top_ports.sort_by(|a, b| b.syn_rate.total_cmp(&a.syn_rate));
                let syn_rate = top_ports.iter().map(|entry| entry.syn_rate).sum();
                let ports = u32::try_from(counts.len()).unwrap();
                top_ports.truncate(10);
                series.update(at(second), total, &NoListener { top_ports, ports, syn_rate, ..NoListener::default() });
                let now: BTreeMap<_, _> = series.own().collect();
                assert!(sum(&series) >= before && now.len() <= MAX);
                assert!(now.iter().all(|(port, syns)| own.get(port).is_none_or(|before| before <= syns)));
                (before, own) = (sum(&series), now);
            }
        }
    }

    /// Total, number of ports and list of each snapshot; and after it, ports with a series and the others.
    type Steps = &'static [(u64, u32, &'static [(u16, u64)], &'static [(u16, u64)], u64)];

    const SCANNED: &[(u16, u64)] = &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1)];
    const CASES: &[(&str, Steps)] = &[
        (
            "few ports are counted exactly",
            &[
                (40, 2, &[(23, 30), (80, 10)], &[(23, 30), (80, 10)], 0),
                (50, 3, &[(23, 35), (80, 10), (22, 5)], &[(22, 5), (23, 35), (80, 10)], 0),
            ],
        ),
        (
            "a port that climbs into the list starts at zero, for how many of the 90 are new is not known",
            &[
                (100, 3, &[(1, 50), (2, 30)], &[(1, 50), (2, 30)], 20),
                (200, 3, &[(3, 90), (1, 60)], &[(1, 60), (2, 30), (3, 0)], 110),
                (230, 3, &[(3, 120), (1, 60)], &[(1, 60), (2, 30), (3, 30)], 110),
            ],
        ),
        (
            "a port that falls off the list keeps its series",
            &[(10, 1, &[(1, 10)], &[(1, 10)], 0), (110, 3, &[(2, 60), (3, 40)], &[(1, 10), (2, 60), (3, 40)], 0)],
        ),
        ("a scan of all ports gets no series", &[(60_000, 60_000, SCANNED, &[], 60_000)]),
        (
            "counts read at different moments even out: the five that were missing belong to the port",
            &[(5, 1, &[(1, 10)], &[(1, 10)], 0), (10, 1, &[(1, 10)], &[(1, 10)], 0)],
        ),
        (
            "nothing goes back when an interface and its counters leave",
            &[
                (100, 1, &[(1, 100)], &[(1, 100)], 0),
                (40, 1, &[(1, 100)], &[(1, 100)], 0),
                (47, 1, &[(1, 107)], &[(1, 107)], 0),
            ],
        ),
    ];

    #[test]
    fn syns_are_counted_while_their_port_is_listed_and_the_rest_is_the_others() {
        for (case, steps) in CASES {
            let mut series = PortSeries::default();
            for (total, ports, top, own, other) in *steps {
                // Quiet ports: none has a rate.
                let top_ports = top.iter().map(|&(port, syns)| PortSyns { port, syns, syn_rate: 0.0 }).collect();
                series.update(at(0), *total, &NoListener { top_ports, ports: *ports, ..NoListener::default() });
                assert_eq!((series.own().collect::<Vec<_>>(), series.other()), (own.to_vec(), *other), "{case}");
            }
        }
    }
}
