//! Local ports: reads the sockets, settings and processes of each census for the model of tracker-detect.
//! What the ports mean, and when they run out, does not belong here.

mod admission;
mod clock;
mod conflicts;
mod connectors;
mod failures;
mod holders;
mod namespaces;
mod netns_ports;
mod others;
mod ranges;
mod settings;
mod sockets;

use std::{
    fs::File,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use aya::Ebpf;
use jiff::Timestamp;
use tracker_common::names;
use tracker_detect::{
    detector::{LeaksObservation, Observation},
    ports::{PortModel, PortSettings, PortsObservation, is_short},
};
use tracker_model::api::{self, PortConflict, PortFailure, PortRange};

use self::{
    clock::Jiffies,
    conflicts::Conflicts,
    connectors::Connectors,
    holders::Urgency,
    namespaces::{Listing, Namespace},
    netns_ports::{NetnsPorts, PassContext, delay_ms},
    others::Others,
    sockets::Wanted,
};
use super::{SocketsAsked, SocketsFound, error::KernelError, iterator, maps::Maps, pace, route};

/// Between two rounds of the other namespaces, at least.
const ROUND: Duration = Duration::from_secs(5);
/// The pause when somebody asks.
const ROUND_ASKED: Duration = Duration::from_millis(250);
/// A round pauses until the next reading after this time: the detector shares the thread.
const TURN: Duration = Duration::from_millis(50);

/// Prepares the passes of the census, and takes over what they counted.
pub struct Ports {
    begun: Instant,
    own: NetnsPorts,
    connectors: Connectors,
    model: Model,
    others: Option<Others>,
}

/// The model, and what it needs besides the passes.
struct Model {
    jiffies: Jiffies,
    conflicts: Conflicts,
    ports: PortModel,
    /// What the detectors have not been shown yet.
    observations: Vec<Observation>,
    /// Connects that got no port, and refused calls of `bind()`, of all network namespaces.
    connects: Vec<PortFailure>,
    binds: Vec<PortConflict>,
}

impl Ports {
    /// Nothing is known yet. `seen_by` is how refused calls of `bind()` are seen.
    pub fn new(netns: u32, all_netns: bool, seen_by: &'static str) -> Self {
        Self {
            begun: Instant::now(),
            own: NetnsPorts::new(netns, None),
            connectors: Connectors::default(),
            model: Model {
                jiffies: Jiffies::default(),
                conflicts: Conflicts::default(),
                ports: PortModel::new(seen_by),
                observations: Vec::new(),
                connects: Vec::new(),
                binds: Vec::new(),
            },
            others: all_netns.then(Others::default),
        }
    }

    /// Sets what the kernel side counts in the pass of this number, and clears what the last one counted.
    pub fn prepare(&mut self, maps: &mut Maps, generation: u32) -> Result<(), KernelError> {
        self.own.settings = settings::read()?;
        self.own.prepare(maps, &self.context(true), generation)
    }

    /// What the pass of this number counted, and whether it should be repeated.
    pub fn take_over(&mut self, maps: &Maps, generation: u32) -> Result<(PortsObservation, bool), KernelError> {
        let mut context = self.context(true);
        let taken = self.own.take_over(maps, &mut context, generation);
        self.model.jiffies = context.jiffies;
        taken
    }

    fn context(&self, own: bool) -> PassContext {
        PassContext { begun: self.begun, jiffies: self.model.jiffies, watching: self.connectors.watched(), own }
    }

    /// Whether the other namespaces are to be looked at.
    pub fn is_round_due(&self, asked: bool) -> bool {
        let pause = if asked { ROUND_ASKED } else { ROUND };
        let due = |others: &Others| others.is_under_way() || pace::is_due(others.ended, others.took, pause, asked);
        self.others.as_ref().is_some_and(due)
    }

    /// Looks at the other namespaces, each in a pass of its own, as far as the time goes. `generation` gives the
    /// numbers of the passes.
    pub fn round(&mut self, object: &mut Ebpf, maps: &mut Maps, asked: bool, mut generation: impl FnMut() -> u32) {
        let Some(mut others) = self.others.take() else { return };
        let begun = Instant::now();
        let end = begun + TURN;
        if !others.is_under_way() {
            others.begin(Listing::new(self.own.netns));
        }
        others.list(end);
        if let Err(error) = self.model.read_failed_calls(object, maps, self.own.netns) {
            others.unread = Some(error.to_string());
        }
        while Instant::now() < end
            && let Some(namespace) = others.pending.pop()
        {
            let new = || NetnsPorts::new(namespace.netns, Some(namespace.name.clone()));
            let space = others.spaces.entry(namespace.netns).or_insert_with(new);
            if let Err(error) = self.visit(object, maps, &namespace, space, asked, &mut generation) {
                others.unread = Some(format!("{}: {error}", namespace.name));
            }
        }
        others.took += begun.elapsed();
        if !others.is_under_way() {
            self.end(maps, &mut others);
        }
        self.others = Some(others);
    }

    /// All were looked at: those that are gone are forgotten.
    fn end(&mut self, maps: &mut Maps, others: &mut Others) {
        for netns in others.take_gone() {
            self.model.ports.forget(netns);
            self.model.observations.push(Observation::NetnsGone { netns, wall: Timestamp::now() });
        }
        // Another may get the number of one that is gone, and must not inherit its failures.
        if let (Some(listed), Some(begun)) = (others.listed.take(), others.begun)
            && let Err(error) = failures::forget(maps, &listed.alive, begun.elapsed())
        {
            tracing::warn!("forget network namespaces that are gone: {error}");
        }
        self.model.ports.set_unread(others.unread.take());
        others.ended = Some(Instant::now());
    }

    /// Looks at one; twice when tuples were left out that may be among the largest.
    fn visit(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        namespace: &Namespace,
        space: &mut NetnsPorts,
        asked: bool,
        generation: &mut impl FnMut() -> u32,
    ) -> Result<(), KernelError> {
        let (mut seen, again) = self.walk(object, maps, namespace, space, generation())?;
        if again {
            (seen, _) = self.walk(object, maps, namespace, space, generation())?;
        }
        self.model.update(object, maps, space, seen, asked)
    }

    fn walk(
        &self,
        object: &mut Ebpf,
        maps: &mut Maps,
        namespace: &Namespace,
        space: &mut NetnsPorts,
        generation: u32,
    ) -> Result<(PortsObservation, bool), KernelError> {
        let tcp = iterator::link(object, names::PROGRAM_CENSUS, "bpf_iter/tcp")?;
        let udp = iterator::link(object, names::PROGRAM_UDP, "bpf_iter/udp")?;
        let there = || -> io::Result<(Result<PortSettings, KernelError>, bool, File, File)> {
            Ok((settings::read(), namespaces::is_empty(), iterator::open(tcp)?, iterator::open(udp)?))
        };
        let io = |source| KernelError::Io { what: "look at a network namespace".into(), source };
        let (settings, empty, mut tcp, mut udp) = namespace.within(there).map_err(io)?;
        space.settings = settings?;
        let mut context = self.context(false);
        space.prepare(maps, &context, generation)?;
        if !empty {
            iterator::drive(&mut tcp).map_err(io)?;
            iterator::drive(&mut udp).map_err(io)?;
        }
        space.take_over(maps, &mut context, generation)
    }

    /// Gives the model what a census of the daemon's own namespace saw.
    pub fn conclude(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        mut seen: PortsObservation,
        asked: bool,
    ) -> Result<(), KernelError> {
        self.connectors.update(maps, &seen.tuples, &seen.settings)?;
        for tuple in &mut seen.tuples {
            let (destination, port) = (tuple.destination, tuple.destination_port);
            tuple.made_by = self.connectors.of_destination(destination, port, None);
            for own in &mut tuple.ranges {
                own.within.made_by = self.connectors.of_destination(destination, port, Some(own.range));
            }
            for range in self.connectors.ranges(destination, port) {
                self.own.ranges.learn((tuple.source, destination, port), range);
            }
        }
        self.model.read_failed_calls(object, maps, self.own.netns)?;
        self.model.update(object, maps, &mut self.own, seen, asked)
    }

    /// Whether a connect or a `bind()` has failed since the last census.
    pub fn has_failures(&self, maps: &Maps) -> bool {
        let known: u64 = self.model.connects.iter().map(|failure| failure.count).sum();
        failures::count(&maps.connect_failures) != known
            || failures::count(&maps.bind_failures) != self.model.conflicts.count
    }

    /// Whether some destination may soon run out: the next census should not wait.
    pub fn is_hot(&self) -> bool {
        self.model.ports.is_hot()
    }

    /// Whether the length of a jiffy is known, without which no `TIME_WAIT` has an age and no leak is seen.
    pub fn knows_time(&self) -> bool {
        self.model.jiffies.is_known()
    }

    /// What was seen for the detectors since the last call.
    pub fn take_observations(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.model.observations)
    }

    /// How ports stand: the same until the next look at one of the namespaces.
    pub fn ports(&self) -> Arc<api::Ports> {
        self.model.ports.ports()
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
            netns: self.own.netns,
            ports: asked.ports.clone().unwrap_or(settings.range()),
            destination: asked.destination,
            reuse_delay_ms: delay_ms(&settings),
        };
        let (sockets, truncated) = sockets::find(object, maps, self.model.jiffies, &wanted)?;
        let way = asked.destination.zip(asked.source).map(|(to, from)| route::source(to, Some(from)));
        let no_route = way.and_then(Result::err).filter(route::is_unreachable).map(|error| error.to_string());
        Ok(SocketsFound { sockets, truncated, settings, is_local, no_route, ipv6_only: settings::ipv6_only() })
    }
}

impl Model {
    /// Reads the failed calls of all network namespaces; who holds a port is looked for in that of the calling thread,
    /// `netns`.
    fn read_failed_calls(&mut self, object: &mut Ebpf, maps: &mut Maps, netns: u32) -> Result<(), KernelError> {
        self.connects = failures::read(maps)?;
        self.binds = self.conflicts.read(object, maps, self.jiffies, netns)?;
        Ok(())
    }

    /// Gives the model what a pass saw, with processes and failures. `asked` is whether somebody waits for it.
    fn update(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        space: &mut NetnsPorts,
        mut seen: PortsObservation,
        asked: bool,
    ) -> Result<(), KernelError> {
        let urgency = match (asked, self.ports.is_hot() || is_short(&seen)) {
            (true, _) => Urgency::Asked,
            (false, true) => Urgency::Hot,
            (false, false) => Urgency::None,
        };
        let holders = &mut space.holders;
        if holders.is_due(urgency) {
            holders.take(object, maps, self.jiffies)?;
            let leaks = std::mem::take(&mut holders.leaks);
            let (at, wall, netns, complete) = (seen.at, seen.wall, seen.netns, holders.leaks_complete);
            self.observations.push(Observation::Leaks(LeaksObservation {
                at,
                wall,
                netns,
                processes: leaks,
                complete,
            }));
        }
        for tuple in &mut seen.tuples {
            let (source, destination, port) = (tuple.source, tuple.destination, tuple.destination_port);
            tuple.processes = holders.of_tuple(source, destination, port, None);
            for own in &mut tuple.ranges {
                own.within.processes = holders.of_tuple(source, destination, port, Some(own.range));
            }
        }
        seen.udp.processes.clone_from(&holders.udp);
        // connect() passes over them, and bind() finds them taken. They are as old as the last look at descriptors.
        seen.bound.extend(&holders.idle);
        let netns = seen.netns;
        seen.failures = self.connects.iter().filter(|failure| failure.netns == netns).cloned().collect();
        for failure in &mut seen.failures {
            let set = |range: PortRange| u32::from(range.low) | u32::from(range.high) << 16;
            // Only here is it known in which range of the namespace it lies.
            failure.local_port_range = failure.local_port_range.and_then(|range| seen.settings.own_range(set(range)));
        }
        seen.conflicts = self.binds.iter().filter(|conflict| conflict.netns == netns).cloned().collect();
        self.observations.extend(self.ports.update(&seen).map(Observation::Ports));
        Ok(())
    }
}
