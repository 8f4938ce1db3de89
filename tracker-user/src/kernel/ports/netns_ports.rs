//! The ephemeral ports of one network namespace: what a pass needs to know, and what it counted.

use std::{cmp::Reverse, time::Instant};

use jiff::Timestamp;
use tracker_common::{
    hash, limits,
    own_ranges::OwnRange,
    ports::{BUCKETS, Bits, PortBuckets, PortPass, PortSource, PortTotals, PortTuple, TupleCounts},
};
use tracker_detect::ports::{
    PortSet, PortSettings, PortsObservation, RangeObservation, SourceObservation, TupleObservation, UdpObservation,
};
use tracker_model::api::{PortRange, PortRest};

use super::{
    admission,
    clock::Jiffies,
    holders::Holders,
    ranges::{Ranges, RangesSeen},
};
use crate::kernel::{error::KernelError, maps::Maps, sources::address};

/// Tuples whose processes are asked for: those with the most sockets.
const HELD: usize = 64;
/// Tuples that the model gets one by one, those with the most sockets; the others are summed up.
const LISTED: usize = 1024;

/// What a pass begins with.
static EMPTY_BUCKETS: PortBuckets = PortBuckets { counts: [0; BUCKETS] };

/// What is kept of a network namespace between two passes.
pub struct NetnsPorts {
    /// Its inode number.
    pub netns: u32,
    /// Its name, if it is not that of the daemon.
    pub name: Option<String>,
    /// What it was set to at the last pass.
    pub settings: PortSettings,
    /// Who holds its sockets.
    pub holders: Holders,
    /// Ranges that sockets have set for themselves.
    pub ranges: Ranges,
    admitted: Box<Bits>,
    holders_from: u32,
}

/// What a pass needs to know that is the same in all namespaces.
#[derive(Clone, Copy)]
pub struct PassContext {
    /// When the daemon began.
    pub begun: Instant,
    /// The kernel's clock.
    pub jiffies: Jiffies,
    /// Destinations that are watched for connects.
    pub watching: usize,
    /// Whether this is the daemon's own namespace.
    pub own: bool,
}

impl NetnsPorts {
    /// Nothing is known yet.
    pub fn new(netns: u32, name: Option<String>) -> Self {
        Self {
            netns,
            name,
            settings: PortSettings::default(),
            holders: Holders::default(),
            ranges: Ranges::default(),
            admitted: Box::new(admission::all()),
            holders_from: 1,
        }
    }

    /// Sets what the kernel side counts in the pass of this number, and clears what the last one counted.
    pub fn prepare(&mut self, maps: &mut Maps, context: &PassContext, generation: u32) -> Result<(), KernelError> {
        let jiffies = context.jiffies;
        let ranges = self.ranges.prepare(maps)?;
        let pass = PortPass {
            generation,
            recent: jiffies.in_seconds(limits::RECENT_SECONDS),
            time_wait: jiffies.in_seconds(limits::TIME_WAIT_SECONDS),
            reuse_delay_ms: delay_ms(&self.settings),
            holders_from: self.holders_from,
            quiet: jiffies.in_seconds(limits::SILENT_SECONDS),
            netns: self.netns,
            own: context.own.into(),
            watching: u32::try_from(context.watching).unwrap_or(u32::MAX),
            ranges,
            low: self.settings.low,
            high: self.settings.high,
            padding: 0,
            eligible: Bits::from(&self.settings.choosable()),
            admitted: *self.admitted,
        };
        maps.port_pass.update(0, pass)?;
        maps.port_totals.update(0, PortTotals { ranges: ranges.into(), ..PortTotals::default() })?;
        maps.port_buckets.update(0, EMPTY_BUCKETS)?;
        for index in 0..limits::PORT_SOURCES {
            if maps.port_sources.lookup(index)?.used != 0 {
                maps.port_sources.update(index, PortSource::default())?;
            }
        }
        Ok(())
    }

    /// What the pass of this number counted, and whether it should be repeated: tuples were left out that may be among
    /// the largest.
    pub fn take_over(
        &mut self,
        maps: &Maps,
        context: &mut PassContext,
        generation: u32,
    ) -> Result<(PortsObservation, bool), KernelError> {
        let totals = maps.port_totals.lookup(0)?;
        context.jiffies.learn(&totals);
        let mut tuples: Vec<PortTuple> =
            maps.port_tuples.read().filter(|tuple| tuple.generation == generation).collect();
        tuples.sort_unstable_by_key(|tuple| Reverse(tuple.counts.sockets()));
        // When more than that are of one size, those are asked for that find a place.
        let most = tuples.first().map_or(1, |tuple| tuple.counts.sockets());
        self.holders_from = tuples.get(HELD).map_or(1, |tuple| (tuple.counts.sockets() + 1).min(most));
        let left_out = self.left_out(maps, &totals, &tuples)?;
        let ranges = self.ranges.take_over(maps, &totals)?;
        let (listed, unlisted) = self.listed(&mut tuples, &ranges, context.jiffies);
        let seen = PortsObservation {
            at: context.begun.elapsed(),
            wall: Timestamp::now(),
            netns: self.netns,
            name: self.name.clone(),
            settings: self.settings.clone(),
            bound: PortSet::from(&totals.bound),
            udp: UdpObservation {
                sockets: totals.udp_sockets,
                ephemeral: totals.udp_ephemeral,
                ports: PortSet::from(&totals.udp),
                ipv4_ports: PortSet::from(&totals.udp_ipv4),
                processes: Vec::new(),
            },
            rest: rest(&totals, &left_out, unlisted),
            tuples: listed,
            sources: sources(maps)?,
            sources_lost: totals.unsourced,
            ranges_lost: ranges.lost,
            failures: Vec::new(),
            conflicts: Vec::new(),
        };
        Ok((seen, left_out.repeat || ranges.repeat))
    }

    /// The tuples that are listed one by one, and the others: those with most sockets, and before them those with
    /// ranges of their own, which may be full with few.
    fn listed<'a>(
        &self,
        tuples: &'a mut [PortTuple],
        ranges: &RangesSeen,
        jiffies: Jiffies,
    ) -> (Vec<TupleObservation>, &'a [PortTuple]) {
        tuples.sort_by_key(|tuple| tuple.ranges == 0);
        let (listed, others) = tuples.split_at(tuples.len().min(LISTED));
        let seen = |tuple: &PortTuple| {
            let of = |range: &&OwnRange| {
                (range.source, range.destination, range.port) == (tuple.source, tuple.destination, tuple.port)
            };
            let own = |range: &OwnRange| RangeObservation {
                range: PortRange { low: range.low, high: range.high },
                sockets: range.sockets,
                within: seen(tuple, &range.counts, jiffies),
            };
            TupleObservation {
                ranges: ranges.whole.iter().filter(of).map(own).collect(),
                all_ranged: self.ranges.has_all(tuple),
                ..seen(tuple, &tuple.counts, jiffies)
            }
        };
        (listed.iter().map(seen).collect(), others)
    }

    /// What the tuples that are not counted one by one hold at most, and which are to be in the next pass.
    fn left_out(&mut self, maps: &Maps, totals: &PortTotals, tuples: &[PortTuple]) -> Result<LeftOut, KernelError> {
        if totals.rest + totals.unplaced == 0 {
            return Ok(LeftOut { tuples: 0, most: 0, repeat: false });
        }
        let buckets = maps.port_buckets.lookup(0)?;
        // What found no place may be anything.
        let unplaced = u32::try_from(totals.unplaced).unwrap_or(u32::MAX);
        let (number, most) = admission::left_out(&self.admitted, &buckets.counts);
        let most = u32::from(most).max(unplaced);
        *self.admitted = admission::admit(&buckets.counts);
        let last_shown = tuples.get(limits::TUPLES_SHOWN - 1).map_or(0, |tuple| tuple.counts.sockets());
        Ok(LeftOut { tuples: number, most, repeat: most > last_shown })
    }
}

fn seen(tuple: &PortTuple, counts: &TupleCounts, jiffies: Jiffies) -> TupleObservation {
    TupleObservation {
        source: address(hash::to_octets(tuple.source)),
        destination: address(hash::to_octets(tuple.destination)),
        destination_port: tuple.port,
        states: counts.states,
        bound: counts.bound,
        recyclable: counts.recyclable,
        recent: counts.recent,
        next_free: if counts.next_free == u32::MAX { None } else { jiffies.duration(counts.next_free) },
        processes: Vec::new(),
        made_by: Vec::new(),
        ranges: Vec::new(),
        all_ranged: false,
    }
}

struct LeftOut {
    tuples: u64,
    most: u32,
    repeat: bool,
}

pub fn delay_ms(settings: &PortSettings) -> u32 {
    u32::try_from(settings.tw_reuse_delay.as_millis()).unwrap_or(u32::MAX)
}

/// What is counted together: the tuples that were left out, and those that are too many to be listed.
fn rest(totals: &PortTotals, left_out: &LeftOut, unlisted: &[PortTuple]) -> PortRest {
    let mut rest =
        PortRest { sockets: totals.rest + totals.unplaced, tuples_at_least: left_out.tuples, most: left_out.most };
    for tuple in unlisted {
        rest.tuples_at_least += 1;
        let sockets = tuple.counts.sockets();
        rest.sockets += u64::from(sockets);
        rest.most = rest.most.max(sockets);
    }
    rest
}

fn sources(maps: &Maps) -> Result<Vec<SourceObservation>, KernelError> {
    let mut sources = Vec::new();
    for index in 0..limits::PORT_SOURCES {
        let source = maps.port_sources.lookup(index)?;
        if source.used != 0 {
            let ports = PortSet::from(&source.ports);
            sources.push(SourceObservation { address: address(hash::to_octets(source.address)), ports });
        }
    }
    Ok(with_wildcards(sources))
}

/// What a socket holds on all addresses is taken on each. An IPv6 socket is put down as one that takes IPv4 too: few do
/// not, and the pool is then too small rather than too large.
fn with_wildcards(mut sources: Vec<SourceObservation>) -> Vec<SourceObservation> {
    let wildcards: Vec<_> = sources.extract_if(.., |source| source.address.is_unspecified()).collect();
    for source in &mut sources {
        for wildcard in wildcards.iter().filter(|wildcard| wildcard.address.is_ipv6() || source.address.is_ipv4()) {
            source.ports.extend(&wildcard.ports);
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_takes_the_port_on_each_address() {
        let source = |address: &str, ports: &[u16]| SourceObservation {
            address: address.parse().unwrap(),
            ports: ports.iter().copied().collect(),
        };
        let all = [
            source("0.0.0.0", &[40_000]),
            source("10.0.0.1", &[40_001]),
            source("fd00::1", &[40_002]),
            source("::", &[40_003]),
        ];
        let sources = with_wildcards(all.to_vec());
        let ports: Vec<Vec<u16>> = sources.iter().map(|source| source.ports.iter().collect()).collect();
        assert_eq!(ports, [vec![40_000, 40_001, 40_003], vec![40_002, 40_003]]);
    }
}
