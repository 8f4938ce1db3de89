//! Ephemeral ports: what each census tells of them.

mod admission;
mod clock;
mod failures;
mod holders;
mod settings;
mod sockets;

use std::{cmp::Reverse, time::Instant};

use aya::Ebpf;
use jiff::Timestamp;
use tracker_common::{
    hash, limits, names,
    ports::{Bits, PortBuckets, PortPass, PortSource, PortTotals, PortTuple},
};
use tracker_model::{
    api::{self, Alert},
    ledger::AlertIds,
    ports::{LeakWatch, LeaksSeen, PortSet, PortSettings, PortWatch, PortsSeen, RestSeen, SourceSeen, TupleSeen},
};

use self::{clock::Jiffies, holders::Holders, sockets::Wanted};
use super::{SocketsAsked, SocketsFound, error::KernelError, maps::Maps, sources::address};

/// A `TIME_WAIT` lasts so long (`TCP_TIMEWAIT_LEN`), seconds.
const TIME_WAIT: u32 = 60;
/// One that was entered so long ago is recent, seconds (`tracker_model::ports::RECENT`).
const RECENT: u32 = 10;
/// A socket that only its process can end counts as leaked when its peer was not heard of for so long, seconds.
const QUIET: u32 = 60;
/// Tuples whose processes are asked for: those with the most sockets.
const HELD: usize = 64;
/// Tuples that the model is told of, those with the most sockets; the others are summed up.
const TOLD: usize = 1024;

/// Prepares the passes of the census, and takes over what they counted.
pub struct Ports {
    netns: u32,
    begun: Instant,
    settings: PortSettings,
    jiffies: Jiffies,
    admitted: Box<Bits>,
    holders_from: u32,
    holders: Holders,
    watch: PortWatch,
    leaks: LeakWatch,
    /// Connects that got no port, in all, at the last look.
    failed: u64,
}

impl Ports {
    /// Nothing is known yet.
    pub fn new(netns: u32, ids: &AlertIds) -> Self {
        Self {
            netns,
            begun: Instant::now(),
            settings: PortSettings::default(),
            jiffies: Jiffies::default(),
            admitted: Box::new(admission::all()),
            holders_from: 1,
            holders: Holders::default(),
            watch: PortWatch::new(ids.clone()),
            leaks: LeakWatch::new(ids.clone()),
            failed: 0,
        }
    }

    /// Tells the kernel side what to count in the pass of this number, and clears what the last one counted.
    pub fn prepare(&mut self, maps: &mut Maps, generation: u32) -> Result<(), KernelError> {
        self.settings = settings::read()?;
        let mut eligible = PortSet::new();
        eligible.insert_range(self.settings.range());
        let mut words = *eligible.words();
        for (word, reserved) in words.iter_mut().zip(self.settings.reserved.words()) {
            *word &= !reserved;
        }
        let pass = PortPass {
            generation,
            recent: self.jiffies.of(RECENT),
            time_wait: self.jiffies.of(TIME_WAIT),
            reuse_delay_ms: delay_ms(&self.settings),
            holders_from: self.holders_from,
            quiet: self.jiffies.of(QUIET),
            netns: self.netns,
            own: 1,
            eligible: Bits { words },
            admitted: *self.admitted,
        };
        let map = |name| move |source| KernelError::Map { name, source };
        maps.port_pass.set(0, pass, 0).map_err(map(names::PORT_PASS))?;
        maps.port_totals.set(0, PortTotals::default(), 0).map_err(map(names::PORT_TOTALS))?;
        maps.port_buckets.set(0, PortBuckets::default(), 0).map_err(map(names::PORT_BUCKETS))?;
        for index in 0..limits::PORT_SOURCES {
            if maps.port_sources.get(&index, 0).map_err(map(names::PORT_SOURCES))?.used != 0 {
                maps.port_sources.set(index, PortSource::default(), 0).map_err(map(names::PORT_SOURCES))?;
            }
        }
        Ok(())
    }

    /// What the pass of this number counted, and whether it should be repeated: tuples were left out that may be among the
    /// largest.
    pub fn take_over(&mut self, maps: &Maps, generation: u32) -> Result<(PortsSeen, bool), KernelError> {
        let map = |name| move |source| KernelError::Map { name, source };
        let totals = maps.port_totals.get(&0, 0).map_err(map(names::PORT_TOTALS))?;
        self.jiffies.learn(&totals);
        let mut tuples: Vec<PortTuple> =
            maps.port_tuples.read().filter(|tuple| tuple.generation == generation).collect();
        tuples.sort_unstable_by_key(|tuple| Reverse(sockets(tuple)));
        self.holders_from = tuples.get(HELD).map_or(1, |tuple| sockets(tuple) + 1);
        let left_out = self.left_out(maps, &totals, &tuples)?;
        let mut rest =
            RestSeen { sockets: totals.rest + totals.unplaced, tuples_at_least: left_out.tuples, most: left_out.most };
        for tuple in tuples.iter().skip(TOLD) {
            rest.tuples_at_least += 1;
            rest.sockets += u64::from(sockets(tuple));
            rest.most = rest.most.max(sockets(tuple));
        }
        let seen = PortsSeen {
            at: self.begun.elapsed(),
            wall: Timestamp::now(),
            netns: self.netns,
            settings: self.settings.clone(),
            bound: PortSet::from_words(Box::new(totals.bound.words)),
            tuples: tuples.iter().take(TOLD).map(|tuple| self.tuple(tuple)).collect(),
            rest,
            sources: sources(maps)?,
            sources_lost: totals.unsourced,
            failures: Vec::new(),
            conflicts: Vec::new(),
        };
        Ok((seen, left_out.repeat))
    }

    /// Tells the model what a census saw, with processes and failures. `asked` is whether somebody waits for it.
    pub fn conclude(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        mut seen: PortsSeen,
        asked: bool,
    ) -> Result<(), KernelError> {
        if self.holders.is_due(asked || self.is_hot()) {
            self.holders.take(object, maps, self.jiffies)?;
            let leaks = std::mem::take(&mut self.holders.leaks);
            self.leaks.step(&LeaksSeen { at: seen.at, wall: seen.wall, netns: seen.netns, processes: leaks });
        }
        for tuple in &mut seen.tuples {
            tuple.processes = self.holders.of(tuple.source, tuple.destination, tuple.destination_port);
        }
        seen.failures = failures::read(maps, seen.wall)?;
        self.failed = seen.failures.iter().map(|failure| failure.count).sum();
        self.watch.step(&seen);
        Ok(())
    }

    /// Whether connects have failed for want of a port since the last census.
    pub fn has_failures(&self, maps: &Maps) -> bool {
        failures::count(maps) != self.failed
    }

    /// Whether some destination may soon run out: the next census should not wait.
    pub fn is_hot(&self) -> bool {
        self.watch.is_hot()
    }

    /// Whether the length of a jiffy is known, without which no `TIME_WAIT` has an age and no leak is seen.
    pub fn knows_time(&self) -> bool {
        self.jiffies.per_second().is_some()
    }

    /// How ports stand.
    pub fn ports(&self) -> api::Ports {
        self.watch.ports()
    }

    /// Alerts of ports and of leaks.
    pub fn alerts(&self) -> impl Iterator<Item = Alert> {
        self.watch.alerts().into_iter().chain(self.leaks.alerts())
    }

    /// The sockets that hold ports, for `tracker explain`.
    pub fn sockets(
        &self,
        object: &mut Ebpf,
        maps: &mut Maps,
        asked: &SocketsAsked,
        is_local: bool,
    ) -> Result<SocketsFound, KernelError> {
        let settings = settings::read()?;
        let wanted = Wanted {
            netns: self.netns,
            ports: asked.ports.clone().unwrap_or(settings.range()),
            destination: asked.destination,
            reuse_delay_ms: delay_ms(&settings),
        };
        let (sockets, truncated) = sockets::find(object, maps, self.jiffies, &wanted)?;
        Ok(SocketsFound { sockets, truncated, settings, is_local, ipv6_only: settings::ipv6_only() })
    }

    /// What the tuples that are not counted apart hold at most, and which are to be in the next pass.
    fn left_out(&mut self, maps: &Maps, totals: &PortTotals, tuples: &[PortTuple]) -> Result<LeftOut, KernelError> {
        if totals.rest + totals.unplaced == 0 {
            return Ok(LeftOut { tuples: 0, most: 0, repeat: false });
        }
        let buckets =
            maps.port_buckets.get(&0, 0).map_err(|source| KernelError::Map { name: names::PORT_BUCKETS, source })?;
        // What found no place may be anything.
        let unplaced = u32::try_from(totals.unplaced).unwrap_or(u32::MAX);
        let (number, most) = admission::left_out(&self.admitted, &buckets.counts);
        let most = u32::from(most).max(unplaced);
        self.admitted = Box::new(admission::admit(&buckets.counts));
        let last_shown = tuples.get(SHOWN - 1).map_or(0, sockets);
        Ok(LeftOut { tuples: number, most, repeat: most > last_shown })
    }

    fn tuple(&self, tuple: &PortTuple) -> TupleSeen {
        TupleSeen {
            source: address(hash::address(tuple.source)),
            destination: address(hash::address(tuple.destination)),
            destination_port: tuple.port,
            states: tuple.states,
            bound: tuple.bound,
            recyclable: tuple.recyclable,
            recent: tuple.recent,
            next_free: if tuple.next_free == u32::MAX { None } else { self.jiffies.duration(tuple.next_free) },
            processes: Vec::new(),
            made_by: Vec::new(),
        }
    }
}

/// Tuples that are shown one by one wherever there are many.
const SHOWN: usize = 32;

struct LeftOut {
    tuples: u64,
    most: u32,
    repeat: bool,
}

fn delay_ms(settings: &PortSettings) -> u32 {
    u32::try_from(settings.tw_reuse_delay.as_millis()).unwrap_or(u32::MAX)
}

fn sockets(tuple: &PortTuple) -> u32 {
    tuple.states.iter().map(|count| u32::from(*count)).sum()
}

fn sources(maps: &Maps) -> Result<Vec<SourceSeen>, KernelError> {
    let mut sources = Vec::new();
    for index in 0..limits::PORT_SOURCES {
        let source = maps
            .port_sources
            .get(&index, 0)
            .map_err(|source| KernelError::Map { name: names::PORT_SOURCES, source })?;
        if source.used != 0 {
            sources.push(SourceSeen {
                address: address(hash::address(source.address)),
                ports: PortSet::from_words(Box::new(source.ports.words)),
            });
        }
    }
    Ok(sources)
}
