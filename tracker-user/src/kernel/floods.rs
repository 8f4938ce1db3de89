//! Collects what the flood detector looks at, from the maps at each reading.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracker_common::{
    flows::Sampling,
    histogram::{BUCKETS, HANDSHAKE_SHIFT, Histogram, edge_us},
    limits,
    listener::ListenerKey,
};
use tracker_detect::{
    detector::Observation,
    registry::Detectors,
    syn::{ClosedPortsObservation, ListenerId, ListenerObservation, QueuesObservation, SynObservation},
    syn_flood::SynFlood,
};
use tracker_model::{
    api::Alert,
    counters::{ListenerQueues, NamespaceCounters},
    listener::Listener,
};

use super::{
    aborted::Aborted,
    error::KernelError,
    listening::Listening,
    maps::{Mapped, Maps},
    recording::Recording,
    sources::{Question, Sources, address, octets},
};

/// Clients of a service that is gone try again for this long.
const SERVED: Duration = Duration::from_mins(10);
/// Ports without a listener that the detector sees at a time.
const PORTS: usize = 64;
/// The sample of connections is thinned so that no more than this many SYNs a second are in it.
const SAMPLED_PER_SECOND: f64 = 2048.0;
/// A SYN of the sample stands for at most this many.
const LARGEST_WEIGHT: u32 = 1 << 15;
/// Handshakes that happened this long ago weigh a third (1/e) of those that happen now.
const HANDSHAKES_FADE: Duration = Duration::from_mins(2);
/// A share of fewer handshakes says nothing.
const ENOUGH_HANDSHAKES: f64 = 20.0;

/// What is kept between two readings to see what is new.
pub struct FloodCollector {
    begun: Instant,
    sources: Sources,
    handshakes: HashMap<ListenerId, Handshakes>,
    closed_ports: ClosedPorts,
    shows_delivery: bool,
    aborted: Aborted,
    sampled: (Duration, u64),
    recording: Option<Recording>,
    busy: bool,
}

/// An open listener with its slot.
pub type Open = (u32, Listener);

/// What is known besides the listeners.
pub struct ReadContext<'a> {
    /// When the counts of the listeners were read.
    pub at: Instant,
    /// The time of day at that moment.
    pub wall: Timestamp,
    /// Network namespace.
    pub netns: u32,
    /// SYNs that watched interfaces have received.
    pub syns: u64,
    /// When half-open requests and connections were counted, and the queues where the kernel shows them no sooner.
    pub census_at: Instant,
    /// The listening sockets, each by itself.
    pub listening: &'a Listening,
    /// Why the last census failed, if it did.
    pub census_error: Option<&'a str>,
    /// TCP counters of the namespace.
    pub namespace: Option<NamespaceCounters>,
}

impl FloodCollector {
    /// Nothing was read yet; `recording` is where to record what the detector is shown, and `shows_delivery` whether
    /// the kernel shows which SYNs reach TCP.
    pub fn new(recording: Option<Recording>, shows_delivery: bool) -> Self {
        Self {
            begun: Instant::now(),
            sources: Sources::default(),
            handshakes: HashMap::new(),
            closed_ports: ClosedPorts::default(),
            shows_delivery,
            aborted: Aborted::default(),
            sampled: (Duration::ZERO, 0),
            recording,
            busy: false,
        }
    }

    /// Why the recording ended before the daemon did.
    pub fn why_recording_ended(&self) -> Option<&str> {
        self.recording.as_ref().and_then(Recording::why_ended)
    }

    /// Whether something is under suspicion or alarm, so that a second between two readings is too long.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Shows `detectors` what was read, and writes the verdicts into `open`.
    pub fn observe(
        &mut self,
        detectors: &mut Detectors,
        maps: &mut Maps,
        open: &mut [Open],
        context: &ReadContext<'_>,
    ) -> Result<(), KernelError> {
        let at = context.at.saturating_duration_since(self.begun);
        self.closed_ports.served(open, at);
        self.aborted.resets(context.namespace);
        let detector = detectors.get();
        let mut listeners = Vec::with_capacity(open.len());
        for (slot, listener) in open.iter_mut().filter(|(slot, _)| *slot != 0) {
            listeners.push(self.listener(detector, maps, *slot, listener, at, context)?);
        }
        let closed_ports = self.closed_ports(detector, maps, &listeners, at)?;
        self.sample(maps, at, context.syns)?;
        let observation = SynObservation {
            at,
            wall: context.wall,
            netns: context.netns,
            listeners,
            closed_ports,
            namespace: context.namespace,
            census_error: context.census_error.map(str::to_owned),
        };
        if let Some(recording) = &mut self.recording {
            recording.write(&observation);
        }
        detectors.observe(&Observation::Syns(Box::new(observation)));
        self.judge(detectors.get(), open);
        Ok(())
    }

    fn listener(
        &mut self,
        detector: &SynFlood,
        maps: &mut Maps,
        slot: u32,
        listener: &mut Listener,
        at: Duration,
        context: &ReadContext<'_>,
    ) -> Result<ListenerObservation, KernelError> {
        let id = id(listener);
        let (syns, completed) = (listener.syns_for_tcp(), listener.completed.total());
        let watched = detector.listener(&id).watched_from(at);
        let question = Question { slot, counted: (syns, completed), at, watched, anew: None };
        let sources = self.sources.read(maps, &question)?;
        listener.distinct_sources = self.sources.distinct(slot);
        let queues = listener.queues.map(|queues| self.queues(listener, queues, context));
        Ok(ListenerObservation {
            id,
            syns,
            undelivered: listener.delivery.map_or(0, |delivery| delivery.lost()),
            drop_reasons: listener.drop_reasons.clone(),
            completed,
            aborted: self.aborted.of(slot, listener.sample.aborted),
            handshake_p95_us: self.handshakes.entry(id).or_default().p95(at, &listener.handshake_time),
            sample: listener.sample,
            queues,
            device: listener.device.clone(),
            worst_socket: listener.worst_socket.clone(),
            sources,
        })
    }

    /// The queues of a listener, which are those of the last walk over its sockets, or else of the last census.
    fn queues(&self, listener: &Listener, queues: ListenerQueues, context: &ReadContext<'_>) -> QueuesObservation {
        let census_at = context.census_at.saturating_duration_since(self.begun);
        let census = QueuesObservation { at: census_at, queues, ..QueuesObservation::default() };
        context.listening.group(&key(listener), listener.sockets.into()).map_or(census, |group| QueuesObservation {
            at: context.listening.at.saturating_duration_since(self.begun),
            census_at: Some(census_at),
            full: if listener.sockets > 1 { group.full } else { 0 },
            dropped_full: group.dropped_full,
            ..census
        })
    }

    fn closed_ports(
        &mut self,
        detector: &SynFlood,
        maps: &mut Maps,
        listeners: &[ListenerObservation],
        at: Duration,
    ) -> Result<ClosedPortsObservation, KernelError> {
        let open: HashSet<_> = listeners.iter().map(|listener| listener.id).collect();
        self.handshakes.retain(|id, _| open.contains(id) || detector.listener(id).watched);
        let vanished: HashSet<u16> = self.handshakes.keys().filter(|id| !open.contains(id)).map(|id| id.port).collect();
        let counts = if self.shows_delivery { &maps.closed_delivered } else { &maps.closed_ports };
        let status = detector.no_listener();
        let mut refused = self.closed_ports.read(counts, &vanished, at, status.scan_from);
        let (slot, counted) = (limits::NO_LISTENER_SLOT, (refused.syns, 0));
        let question = Question { slot, counted, at, watched: status.watched_from(at), anew: status.anew_from };
        refused.sources = self.sources.read(maps, &question)?;
        Ok(refused)
    }

    /// Thins the sample of connections when there are many, and gives the kernel side the time.
    fn sample(&mut self, maps: &mut Maps, at: Duration, syns: u64) -> Result<(), KernelError> {
        let (before, counted) = self.sampled;
        let seconds = at.saturating_sub(before).as_secs_f64();
        if seconds < 1.0 && before != Duration::ZERO {
            return Ok(());
        }
        self.sampled = (at, syns);
        #[expect(clippy::cast_precision_loss, reason = "a rate is rounded anyway")]
        let rate = syns.saturating_sub(counted) as f64 / seconds.max(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of f64 stays within u32")]
        let weight = (rate / SAMPLED_PER_SECOND).ceil() as u32;
        let mask = weight.clamp(1, LARGEST_WEIGHT).next_power_of_two() - 1;
        let epoch = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
        let sources_at_lookup = u32::from(self.shows_delivery);
        maps.sampling.update(0, Sampling { mask, epoch, sources_at_lookup, padding: 0 })
    }

    fn judge(&mut self, detector: &SynFlood, open: &mut [Open]) {
        self.busy = detector.no_listener().watched;
        for (_, listener) in open.iter_mut().filter(|(slot, _)| *slot != 0) {
            let status = detector.listener(&id(listener));
            listener.verdict = status.verdict;
            self.busy |= status.watched;
        }
    }

    /// A slot was freed.
    pub fn forget(&mut self, slot: u32) {
        self.sources.forget(slot);
        self.aborted.forget(slot);
    }
}

/// Alerts of listeners with the process that listens now.
pub fn with_listening_processes(mut alerts: Vec<Alert>, open: &[Open]) -> Vec<Alert> {
    let place = |listener: &Listener| (listener.netns, listener.address, listener.port, listener.device.clone());
    let processes: HashMap<_, _> =
        open.iter().map(|(_, listener)| (place(listener), listener.process.clone())).collect();
    for alert in alerts.iter_mut().filter(|alert| alert.class.is_some()) {
        let subject = &mut alert.subject;
        if let (netns, Some(address), Some(port)) = (subject.netns, subject.address, subject.port) {
            let process = processes.get(&(netns, address, port, subject.device.clone()));
            subject.process = process.cloned().flatten();
        }
    }
    alerts
}

fn key(listener: &Listener) -> ListenerKey {
    let (netns, port, device) = (listener.netns, listener.port.into(), listener.device_index);
    ListenerKey { netns, port, address: octets(listener.address), device }
}

/// The listener of a key.
pub fn id_of(key: &ListenerKey) -> ListenerId {
    let port = u16::try_from(key.port).unwrap_or_default();
    ListenerId { netns: key.netns, address: address(key.address), port, device: key.device }
}

fn id(listener: &Listener) -> ListenerId {
    let &Listener { netns, address, port, device_index: device, .. } = listener;
    ListenerId { netns, address, port, device }
}

/// How long recent handshakes of a listener took.
#[derive(Default)]
struct Handshakes {
    at: Duration,
    before: Histogram,
    recent: [f64; BUCKETS],
}

impl Handshakes {
    /// What 95 % of them took at most, microseconds; none when there were too few.
    fn p95(&mut self, at: Duration, histogram: &Histogram) -> Option<u64> {
        let kept = (-at.saturating_sub(self.at).div_duration_f64(HANDSHAKES_FADE)).exp();
        for (recent, (now, before)) in self.recent.iter_mut().zip(histogram.buckets.iter().zip(&self.before.buckets)) {
            #[expect(clippy::cast_precision_loss, reason = "a count of two minutes")]
            let new = now.saturating_sub(*before) as f64;
            *recent = *recent * kept + new;
        }
        (self.at, self.before) = (at, *histogram);
        let total: f64 = self.recent.iter().sum();
        if total < ENOUGH_HANDSHAKES {
            return None;
        }
        let mut sum = 0.0;
        let bucket = self.recent.iter().position(|count| {
            sum += count;
            sum >= 0.95 * total
        });
        edge_us(bucket?, HANDSHAKE_SHIFT)
    }
}

/// SYNs to ports without a listener, as of the last reading.
struct ClosedPorts {
    before: Box<[u64]>,
    /// When something last listened at a port, other than for this host alone.
    served: Box<[Option<Duration>]>,
    tried: Tried,
    first: bool,
}

impl Default for ClosedPorts {
    fn default() -> Self {
        // Zeroed memory of this size costs nothing until it is written.
        let ports = usize::from(u16::MAX) + 1;
        let (before, served, tried) = (vec![0; ports].into(), vec![None; ports].into(), vec![0; ports].into());
        Self { before, served, tried: Tried(tried), first: true }
    }
}

impl ClosedPorts {
    fn served(&mut self, open: &[Open], at: Duration) {
        for (_, listener) in open.iter().filter(|(_, listener)| !listener.address.is_loopback()) {
            self.served[usize::from(listener.port)] = Some(at);
        }
    }

    /// What came since the last reading. `scan_from` is since when ports are to be counted.
    fn read(
        &mut self,
        counts: &Mapped<u64>,
        always: &HashSet<u16>,
        at: Duration,
        scan_from: Option<Duration>,
    ) -> ClosedPortsObservation {
        let mut refused = ClosedPortsObservation::default();
        let now = milliseconds(at).max(1);
        // What was seen at that moment came before it.
        let from = scan_from.map_or(now, |from| milliseconds(from).saturating_add(1));
        let mut of_scan = 0;
        // Port, count now, count before.
        let mut listed: Vec<(u16, u64, u64)> = Vec::new();
        for (port, (syns, before)) in (0..=u16::MAX).zip(counts.read().zip(&mut self.before)) {
            // One that a rule for transparent proxies looked up here first is taken back.
            let syns = syns.max(*before);
            refused.syns += syns;
            let changed = syns != *before && !self.first;
            refused.ports_touched += u32::from(changed);
            of_scan += u32::from(self.tried.see(port, changed.then_some(now)) >= from);
            if changed || always.contains(&port) {
                listed.push((port, syns, *before));
            }
            if syns != *before {
                // Not written where nothing changed: memory that was never written takes no room.
                *before = syns;
            }
        }
        self.first = false;
        refused.ports_of_scan = Some(of_scan);
        let most = |(port, now, before): &(u16, u64, u64)| {
            Reverse(if always.contains(port) { u64::MAX } else { now.saturating_sub(*before) })
        };
        if listed.len() > PORTS {
            listed.select_nth_unstable_by_key(PORTS, most);
            listed.truncate(PORTS);
        }
        listed.sort_unstable_by_key(most);
        let is_served =
            |port: &u16| self.served[usize::from(*port)].is_some_and(|served| at.saturating_sub(served) <= SERVED);
        refused.served_before = listed.iter().map(|(port, ..)| *port).filter(is_served).collect();
        refused.before = listed.iter().map(|(.., before)| *before).collect();
        refused.ports = listed.into_iter().map(|(port, syns, _)| (port, syns)).collect();
        refused
    }
}

/// When each port was last seen to have received a SYN, milliseconds; 0 is never.
struct Tried(Box<[u64]>);

impl Tried {
    /// Notes whether a port received one just now, and returns when it last did.
    fn see(&mut self, port: u16, now: Option<u64>) -> u64 {
        let tried = &mut self.0[usize::from(port)];
        if let Some(now) = now {
            *tried = now;
        }
        *tried
    }
}

fn milliseconds(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}
