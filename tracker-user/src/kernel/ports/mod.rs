//! Ephemeral ports: what each census tells of them.

mod admission;
mod clock;
mod conflicts;
mod failures;
mod holders;
mod makers;
mod namespaces;
mod settings;
mod sockets;
mod space;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use aya::Ebpf;
use jiff::Timestamp;
use tracker_common::names;
use tracker_model::api::{self, Alert};
use tracker_detect::{alert::store::AlertIds, ports::{LeakWatch, LeaksSeen, PortSettings, PortWatch, PortsSeen}};

use self::{
    clock::Jiffies,
    conflicts::Conflicts,
    holders::Urgency,
    makers::Makers,
    namespaces::Namespace,
    sockets::Wanted,
    space::{Around, Space, delay_ms},
};
use super::{SocketsAsked, SocketsFound, census, error::KernelError, maps::Maps, route};

/// Between two rounds of the other namespaces, at least.
const ROUND: Duration = Duration::from_secs(5);
/// The same when somebody asks.
const ROUND_ASKED: Duration = Duration::from_millis(250);
/// A round goes on at the next reading after so long: the detector shares the thread.
const TURN: Duration = Duration::from_millis(50);
/// Rounds may take this share of one CPU: the pause after one is so many times its length.
const SHARE: u32 = 100;
/// The same when somebody asks.
const SHARE_ASKED: u32 = 10;

/// Prepares the passes of the census, and takes over what they counted.
pub struct Ports {
    begun: Instant,
    own: Space,
    jiffies: Jiffies,
    makers: Makers,
    conflicts: Conflicts,
    watch: PortWatch,
    leaks: LeakWatch,
    /// Connects that got no port, in all, at the last look.
    failed: u64,
    others: Option<Others>,
}

/// The other network namespaces of the host.
struct Others {
    spaces: BTreeMap<u32, Space>,
    /// Those that this round has yet to look at.
    pending: Vec<Namespace>,
    /// Those that are looked at in the round under way, all that there are, why some were not looked at, and when it began.
    found: BTreeSet<u32>,
    alive: BTreeSet<u32>,
    unread: Option<String>,
    begun: Instant,
    round: Option<Instant>,
    took: Duration,
}

impl Others {
    fn begin(&mut self, own: u32) {
        self.begun = Instant::now();
        let (found, alive) = namespaces::others(own);
        let beyond = alive.len().saturating_sub(found.len() + 1);
        self.unread =
            (beyond > 0).then(|| format!("{beyond} network namespaces beyond {} are not looked at", namespaces::MOST));
        self.found = found.iter().map(|namespace| namespace.netns).collect();
        (self.pending, self.alive) = (found, alive);
        self.took = Duration::ZERO;
    }
}

impl Ports {
    /// Nothing is known yet. `seen_by` is how refused calls of `bind()` are seen.
    pub fn new(netns: u32, ids: &AlertIds, all_netns: bool, seen_by: &'static str) -> Self {
        let others = || Others {
            spaces: BTreeMap::new(),
            pending: Vec::new(),
            found: BTreeSet::new(),
            alive: BTreeSet::new(),
            unread: None,
            begun: Instant::now(),
            round: None,
            took: Duration::ZERO,
        };
        Self {
            begun: Instant::now(),
            own: Space::new(netns, None),
            jiffies: Jiffies::default(),
            makers: Makers::default(),
            conflicts: Conflicts::default(),
            watch: PortWatch::new(ids.clone()).with_conflicts_seen_by(seen_by),
            leaks: LeakWatch::new(ids.clone()),
            failed: 0,
            others: all_netns.then(others),
        }
    }

    /// Tells the kernel side what to count in the pass of this number, and clears what the last one counted.
    pub fn prepare(&mut self, maps: &mut Maps, generation: u32) -> Result<(), KernelError> {
        self.own.settings = settings::read()?;
        self.own.prepare(maps, &self.around(true), generation)
    }

    /// What the pass of this number counted, and whether it should be repeated.
    pub fn take_over(&mut self, maps: &Maps, generation: u32) -> Result<(PortsSeen, bool), KernelError> {
        let mut around = self.around(true);
        let taken = self.own.take_over(maps, &mut around, generation);
        self.jiffies = around.jiffies;
        taken
    }

    fn around(&self, own: bool) -> Around {
        Around { begun: self.begun, jiffies: self.jiffies, watching: self.makers.watched(), own }
    }

    /// Whether the other namespaces are to be looked at.
    pub fn is_round_due(&self, asked: bool) -> bool {
        let (pause, share) = if asked { (ROUND_ASKED, SHARE_ASKED) } else { (ROUND, SHARE) };
        let due = |others: &Others| {
            !others.pending.is_empty()
                || others.round.is_none_or(|round| round.elapsed() >= pause.max(others.took * share))
        };
        self.others.as_ref().is_some_and(due)
    }

    /// Looks at the other namespaces, each in a pass of its own, as far as the time goes. `generation` gives the numbers of the
    /// passes.
    pub fn round(&mut self, object: &mut Ebpf, maps: &mut Maps, asked: bool, mut generation: impl FnMut() -> u32) {
        let Some(mut others) = self.others.take() else { return };
        let begun = Instant::now();
        if others.pending.is_empty() {
            others.begin(self.own.netns);
        }
        while begun.elapsed() < TURN
            && let Some(namespace) = others.pending.pop()
        {
            let new = || Space::new(namespace.netns, Some(namespace.name.clone()));
            let space = others.spaces.entry(namespace.netns).or_insert_with(new);
            if let Err(error) = self.visit(object, maps, &namespace, space, asked, &mut generation) {
                others.unread = Some(format!("{}: {error}", namespace.name));
            }
        }
        others.took += begun.elapsed();
        if others.pending.is_empty() {
            self.end(maps, &mut others);
        }
        self.others = Some(others);
    }

    /// All were looked at: those that are gone are forgotten.
    fn end(&mut self, maps: &mut Maps, others: &mut Others) {
        let Others { spaces, found, alive, begun, .. } = others;
        spaces.retain(|netns, _| {
            if !found.contains(netns) {
                self.watch.forget(*netns, Timestamp::now());
                self.leaks.forget(*netns, Timestamp::now());
            }
            found.contains(netns)
        });
        // Another may get the number of one that is gone, and is not to get its failures with it.
        if let Err(error) = failures::forget(maps, alive, begun.elapsed()) {
            tracing::warn!("forget network namespaces that are gone: {error}");
        }
        self.watch.set_unread(others.unread.take());
        others.round = Some(Instant::now());
    }

    /// Looks at one; twice when tuples were left out that may be among the largest.
    fn visit(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        namespace: &Namespace,
        space: &mut Space,
        asked: bool,
        generation: &mut impl FnMut() -> u32,
    ) -> Result<(), KernelError> {
        let (mut seen, again) = self.walk(object, maps, namespace, space, generation())?;
        if again {
            (seen, _) = self.walk(object, maps, namespace, space, generation())?;
        }
        self.tell(object, maps, space, seen, asked)
    }

    fn walk(
        &self,
        object: &mut Ebpf,
        maps: &mut Maps,
        namespace: &Namespace,
        space: &mut Space,
        generation: u32,
    ) -> Result<(PortsSeen, bool), KernelError> {
        let tcp = census::link(object, names::PROGRAM_CENSUS, "bpf_iter/tcp")?;
        let udp = census::link(object, names::PROGRAM_UDP, "bpf_iter/udp")?;
        let there = || -> std::io::Result<(Result<PortSettings, KernelError>, bool, File, File)> {
            Ok((settings::read(), namespaces::is_empty(), census::open(tcp)?, census::open(udp)?))
        };
        let io = |source| KernelError::Io { what: "look at a network namespace".into(), source };
        let (settings, empty, mut tcp, mut udp) = namespace.within(there).map_err(io)?;
        space.settings = settings?;
        let mut around = self.around(false);
        space.prepare(maps, &around, generation)?;
        if !empty {
            census::drive(&mut tcp).map_err(io)?;
            census::drive(&mut udp).map_err(io)?;
        }
        space.take_over(maps, &mut around, generation)
    }

    /// Tells the model what a census of the daemon's own namespace saw.
    pub fn conclude(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        mut seen: PortsSeen,
        asked: bool,
    ) -> Result<(), KernelError> {
        self.makers.update(maps, &seen.tuples)?;
        for tuple in &mut seen.tuples {
            tuple.made_by = self.makers.of(tuple.destination, tuple.destination_port);
        }
        let netns = self.own.netns;
        let mut own = std::mem::replace(&mut self.own, Space::new(netns, None));
        let result = self.tell(object, maps, &mut own, seen, asked);
        self.own = own;
        result
    }

    /// Tells the model what a pass saw, with processes and failures. `asked` is whether somebody waits for it.
    fn tell(
        &mut self,
        object: &mut Ebpf,
        maps: &mut Maps,
        space: &mut Space,
        mut seen: PortsSeen,
        asked: bool,
    ) -> Result<(), KernelError> {
        let urgency = match (asked, self.is_hot()) {
            (true, _) => Urgency::Asked,
            (false, true) => Urgency::Hot,
            (false, false) => Urgency::None,
        };
        let holders = &mut space.holders;
        if holders.is_due(urgency) {
            holders.take(object, maps, self.jiffies)?;
            let leaks = std::mem::take(&mut holders.leaks);
            let (at, wall, netns, complete) = (seen.at, seen.wall, seen.netns, holders.leaks_complete);
            self.leaks.step(&LeaksSeen { at, wall, netns, processes: leaks, complete });
        }
        for tuple in &mut seen.tuples {
            tuple.processes = holders.of(tuple.source, tuple.destination, tuple.destination_port);
        }
        seen.udp.processes = holders.udp.clone();
        // connect() passes over them, and bind() finds them taken. They are as old as the last look at descriptors.
        seen.bound.extend(&holders.idle);
        let failures = failures::read(maps)?;
        self.failed = failures.iter().map(|failure| failure.count).sum();
        let own = self.own.netns;
        let conflicts = self.conflicts.read(object, maps, self.jiffies, own)?;
        seen.conflicts = conflicts.into_iter().filter(|conflict| conflict.netns == seen.netns).collect();
        seen.failures = failures.into_iter().filter(|failure| failure.netns == seen.netns).collect();
        self.watch.step(&seen);
        Ok(())
    }

    /// Whether a connect or a `bind()` has failed since the last census.
    pub fn has_failures(&self, maps: &Maps) -> bool {
        failures::count(maps) != self.failed || conflicts::count(maps) != self.conflicts.count
    }

    /// Whether some destination may soon run out: the next census should not wait.
    pub fn is_hot(&self) -> bool {
        self.watch.is_hot()
    }

    /// Whether the length of a jiffy is known, without which no `TIME_WAIT` has an age and no leak is seen.
    pub fn knows_time(&self) -> bool {
        self.jiffies.is_known()
    }

    /// How ports stand: the same until the next look at one of the namespaces.
    pub fn ports(&self) -> Arc<api::Ports> {
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
            netns: self.own.netns,
            ports: asked.ports.clone().unwrap_or(settings.range()),
            destination: asked.destination,
            reuse_delay_ms: delay_ms(&settings),
        };
        let (sockets, truncated) = sockets::find(object, maps, self.jiffies, &wanted)?;
        let way = asked.destination.zip(asked.source).map(|(to, from)| route::source(to, Some(from)));
        let no_way = way.and_then(Result::err).filter(route::is_no_way).map(|error| error.to_string());
        Ok(SocketsFound { sockets, truncated, settings, is_local, no_way, ipv6_only: settings::ipv6_only() })
    }
}
