//! The census: one pass of the iterator over all TCP sockets of the namespace.

use std::time::{Duration, Instant};

use aya::Ebpf;
use jiff::Timestamp;
use tracker_common::{counters::Census, names, state};
use tracker_detect::ports::PortsObservation;
use tracker_model::api::CensusReport;

use super::{error::KernelError, iterator, maps::Maps, pace, ports::Ports};

/// Between two while ports are running out.
const HOT_INTERVAL: Duration = Duration::from_secs(1);

/// A census for which there is a reason is taken only when the last one is at least this old.
const FRESH: Duration = Duration::from_millis(250);

/// Takes censuses, and decides when.
pub struct CensusScheduler {
    shortest_interval: Duration,
    generation: u32,
    complete: u32,
    /// The last one that succeeded.
    pub last: Option<CensusReport>,
    /// Why the last one failed, if it did.
    pub error: Option<String>,
    /// There is no program to take one with; `error` says why.
    missing: bool,
    next: Instant,
    /// When one was last tried.
    tried_at: Instant,
    /// When the last one that succeeded was taken.
    pub succeeded_at: Instant,
}

impl CensusScheduler {
    /// With at least this pause between two.
    pub fn new(shortest_interval: Duration) -> Self {
        let now = Instant::now();
        Self {
            shortest_interval,
            generation: 0,
            complete: 0,
            last: None,
            error: None,
            missing: false,
            next: now,
            tried_at: now,
            succeeded_at: now,
        }
    }

    /// No census can be taken, for this reason.
    pub fn give_up(&mut self, reason: String) {
        self.error = Some(reason);
        self.missing = true;
    }

    /// Whether the next one is due.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Whether one may be taken for which there is a reason.
    pub fn may_be_taken(&self) -> bool {
        let took = Duration::from_secs_f64(self.last.map_or(0.0, |last| last.seconds));
        pace::is_due(Some(self.tried_at), took, FRESH, true)
    }

    /// The number of the last one that is complete, as the kernel side writes it; 0 before the first. What one that
    /// failed has written over is not known until the next.
    pub fn complete(&self) -> u32 {
        self.complete
    }

    /// Half-open requests that the last one met.
    pub fn half_open(&self) -> u64 {
        let requests = |census: CensusReport| {
            census.counts.states.iter().map(|family| family[usize::from(state::NEW_SYN_RECV)]).sum()
        };
        self.last.map_or(0, requests)
    }

    /// Takes one; returns whether it is complete. What fails is kept in `error`; the figures of the last success stay
    /// and show their age.
    pub fn take(&mut self, object: &mut Ebpf, maps: &mut Maps, ports: &mut Ports, asked: bool) -> bool {
        if self.missing {
            self.tried_at = Instant::now();
            return false;
        }
        let begun = Instant::now();
        let taken_at = Timestamp::now();
        let result = self.passes(object, maps, ports);
        let spent = begun.elapsed();
        // What follows paces itself, and its failure takes nothing from the counts.
        let result = result.map(|(counts, seen)| {
            let complete = self.generation;
            if let Err(error) = ports.conclude(object, maps, seen, asked) {
                tracing::warn!("processes of sockets: {error}");
            }
            self.round(object, maps, ports, asked);
            (counts, complete)
        });
        // Ports that are running out are looked at each second; and the second census, from which the length of a jiffy
        // is known, should not be long in coming.
        let soon = ports.is_hot() || !ports.knows_time();
        let shortest = if soon { self.shortest_interval.min(HOT_INTERVAL) } else { self.shortest_interval };
        let interval = shortest.max(spent * pace::SHARE);
        self.tried_at = Instant::now();
        self.next = self.tried_at + interval;
        match result {
            Ok((counts, complete)) => {
                let (seconds, interval_seconds) = (spent.as_secs_f64(), interval.as_secs_f64());
                let sockets = counts.states.as_flattened().iter().sum();
                self.last = Some(CensusReport { taken_at, seconds, interval_seconds, sockets, counts });
                self.error = None;
                self.complete = complete;
                self.succeeded_at = self.tried_at;
                true
            }
            Err(error) => {
                tracing::warn!("census: {error}");
                self.error = Some(error.to_string());
                false
            }
        }
    }

    /// A pass over TCP and UDP; a second one when the first left out tuples of ports that may be among the largest.
    fn passes(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        ports: &mut Ports,
    ) -> Result<(Census, PortsObservation), KernelError> {
        let mut repeated = false;
        loop {
            let generation = self.number();
            ports.prepare(maps, generation)?;
            let counts = pass(object, maps, generation)?;
            iterator::run(object, names::PROGRAM_UDP, "bpf_iter/udp")?;
            let (seen, again) = ports.take_over(maps, generation)?;
            if !again || repeated {
                return Ok((counts, seen));
            }
            repeated = true;
        }
    }

    /// Looks at some of the other network namespaces, when it is their turn.
    pub fn round(&mut self, object: &mut Ebpf, maps: &mut Maps, ports: &mut Ports, asked: bool) {
        if ports.is_round_due(asked) {
            ports.round(object, maps, asked, || self.number());
        }
    }

    fn number(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1).max(1);
        self.generation
    }
}

fn pass(object: &mut Ebpf, maps: &mut Maps, generation: u32) -> Result<Census, KernelError> {
    maps.census.update(0, Census::default())?;
    maps.census_generation.update(0, generation)?;
    iterator::run(object, names::PROGRAM_CENSUS, "bpf_iter/tcp")?;
    maps.census.lookup(0)
}
