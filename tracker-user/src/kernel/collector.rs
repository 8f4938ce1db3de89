//! Reads everything that the kernel side knows into a snapshot.

mod watch;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aya::{Ebpf, programs::ProgramInfo};
use caps::{CapSet, Capability};
use jiff::Timestamp;
use tracker_common::{
    classify::Outcome,
    counters::{InterfaceCounters, Loss, SocketCounters},
    limits,
    listener::ListenerKey,
    names,
};
use tracker_detect::{
    alert::{AlertStore, ObservedAt},
    detector::{HostObservation, Observation},
    registry::Detectors,
    syn_flood::SynFlood,
};
use tracker_model::{
    Snapshot,
    api::{Interface, MapFill, NoListener, Program, Unwatched},
    counters::NamespaceCounters,
    text::listener_place,
};

use super::{
    OWN_NETNS, Settings, SocketsAsked, SocketsFound,
    attach::Attachments,
    census::CensusScheduler,
    closed_ports::ClosedPorts,
    drops::Drops,
    error::KernelError,
    floods::{self, FloodCollector, Open, ReadContext},
    half_open::HalfOpen,
    links::{self, Link, Listing},
    listeners::{self, Listeners, Seen},
    listening::Listening,
    local::LocalAddresses,
    maps::Maps,
    missed_events::{self, MissedEvents},
    object,
    ports::Ports,
    recording::Recording,
    slots::Slots,
    tcp_counters,
};

pub use self::watch::BegunWatch;

/// Between two readings while many SYNs come, or the flood detector watches something: it is to answer within a second
/// and a half of the onset.
pub const BUSY_TICK: Duration = Duration::from_millis(250);
/// With this many SYNs between two readings there are many.
const MANY_SYNS: u64 = 25;

/// SYNs that these interfaces received.
fn syns(interfaces: &[Interface]) -> u64 {
    interfaces.iter().map(|interface| received_syns(&interface.counters)).sum()
}

fn received_syns(counters: &InterfaceCounters) -> u64 {
    counters.packets[Outcome::TcpSyn as usize].iter().sum()
}

/// Everything of the kernel side that is kept between two readings.
pub struct Collector {
    object: Ebpf,
    maps: Maps,
    local: LocalAddresses,
    attachments: Attachments,
    /// The interfaces as they were listed last.
    links: BTreeMap<u32, Link>,
    notifications_lost: bool,
    listeners: Listeners,
    listening: Listening,
    slots: Slots,
    closed_ports: ClosedPorts,
    drops: Drops,
    floods: FloodCollector,
    half_open: HalfOpen,
    missed_events: MissedEvents,
    ports: Ports,
    detectors: Detectors,
    alerts: AlertStore,
    census: CensusScheduler,
    /// SYNs at the last look at them, and when the last reading began.
    syns: u64,
    read_at: Instant,
    started_at: Timestamp,
    /// `started_at` by the monotonic clock.
    begun: Instant,
    netns: u32,
    lifetime_sample: u32,
    socket_events: &'static str,
    log: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
}

impl Collector {
    /// Loads the programs, attaches those that see sockets, and takes the first census.
    pub fn start(settings: &Settings, recording: Option<Recording>, listing: &Listing) -> Result<Self, KernelError> {
        let netns = own_netns()?;
        let mut object = object::open(settings, netns)?;
        let log = if settings.kernel_log { aya_log::EbpfLogger::init(&mut object).ok() } else { None };
        let mut maps = Maps::take(&mut object)?;
        let slots = Slots::fill(&mut maps)?;
        let local = LocalAddresses::of(&listing.local_prefixes, &mut maps)?;
        // Events first, then the census: a listener that opens in between is known to both.
        let socket_events = object::attach_socket_events(&mut object, settings.socket_events)?;
        let shows_delivery = attach_sk_lookup(&mut object)?;
        let (census, listening) = (load_census(settings, &mut object)?, Listening::load(&mut object));
        check_netns_right(settings)?;
        let bind_seen_by = object::attach_bind(&mut object, settings.trace_bind)?;
        let (alerts, begun) = (AlertStore::default(), Instant::now());
        let mut collector = Self {
            object,
            maps,
            local,
            attachments: Attachments::new(settings.hook, settings.interfaces.clone()),
            links: listing.links.clone(),
            notifications_lost: false,
            listeners: Listeners::new(shows_delivery),
            listening,
            slots,
            closed_ports: ClosedPorts::new(shows_delivery),
            drops: Drops::default(),
            floods: FloodCollector::new(recording, shows_delivery),
            half_open: HalfOpen::default(),
            missed_events: MissedEvents::default(),
            ports: Ports::new(netns, settings.all_netns, bind_seen_by),
            detectors: Detectors::new(settings.sensitivity, &alerts),
            alerts,
            census,
            syns: 0,
            read_at: begun,
            started_at: Timestamp::now(),
            begun,
            netns,
            lifetime_sample: settings.lifetime_sample,
            socket_events,
            log,
        };
        collector.take_census(false)?;
        Ok(collector)
    }

    /// Takes all programs off the interfaces.
    pub async fn detach(&mut self) {
        self.attachments.clear(&mut self.maps).await;
    }

    /// Interfaces or addresses have changed. What is to be attached or taken off is left to [`Self::attach_until`].
    pub fn take_over(&mut self, listing: &Listing) {
        self.links.clone_from(&listing.links);
        self.attachments.listed_again();
        self.notifications_lost = listing.notifications_lost;
        if let Err(error) = self.local.update(&listing.local_prefixes, &mut self.maps) {
            tracing::warn!("enter local addresses: {error}");
        }
    }

    /// Attaches to interfaces that came, for as long as there is time; whether all is done.
    pub async fn attach_until(&mut self, end: Instant) -> Result<bool, KernelError> {
        self.attachments.update(&mut self.object, &mut self.maps, &self.links, end).await
    }

    /// A census because somebody waits for its figures, unless one was just taken.
    pub fn census_on_request(&mut self) {
        if self.census.may_be_taken() {
            self.try_census(true);
        }
    }

    /// What is due besides a reading: the log of the programs, a census, and a look at other network namespaces.
    pub fn work_between_readings(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        if self.is_census_due() {
            self.try_census(false);
        }
        self.census.round(&mut self.object, &mut self.maps, &mut self.ports, false);
        self.observe_ports();
    }

    fn try_census(&mut self, asked: bool) {
        if let Err(error) = self.take_census(asked) {
            tracing::warn!("census: {error}");
        }
        self.observe_ports();
    }

    /// Shows the detectors what the passes over sockets saw. A reading that fails keeps none of it waiting.
    fn observe_ports(&mut self) {
        for observation in self.ports.take_observations() {
            self.detectors.observe(&observation);
        }
    }

    /// Takes a census; `asked` is whether somebody waits for it.
    fn take_census(&mut self, asked: bool) -> Result<(), KernelError> {
        self.maps.census_wanted.update(0, 0)?;
        let before = listeners::versions(&self.maps);
        if self.census.take(&mut self.object, &mut self.maps, &mut self.ports, asked) {
            self.listeners.reconcile(&mut self.maps, &before, self.census.complete())?;
            self.half_open.read(&self.maps, self.census.complete(), self.census.half_open());
        }
        Ok(())
    }

    /// The sockets that hold ports.
    pub fn sockets(&mut self, asked: &SocketsAsked) -> Result<SocketsFound, KernelError> {
        let is_local = asked.address.is_some_and(|address| self.local.may_bind(address));
        self.ports.sockets(&mut self.object, &mut self.maps, asked, is_local)
    }

    /// Whether the next reading should not wait for the tick.
    pub fn is_busy(&mut self) -> bool {
        if self.read_at.elapsed() < BUSY_TICK / 2 {
            return false;
        }
        let before = std::mem::replace(&mut self.syns, self.attachments.syns(&self.maps));
        self.floods.is_busy() || self.syns.saturating_sub(before) >= MANY_SYNS
    }

    /// Whether the detector would be helped by a census, and one may be taken again.
    pub fn wants_census(&self) -> bool {
        self.detectors.get::<SynFlood>().wants_census() && self.census.may_be_taken()
    }

    /// Whether the census is due, or something happened that only a census shows: a listener was opened, or a
    /// call found no port.
    fn is_census_due(&self) -> bool {
        self.census.is_due() || (self.census.may_be_taken() && self.is_census_wanted())
    }

    fn is_census_wanted(&self) -> bool {
        self.maps.census_wanted.lookup(0).is_ok_and(|wanted| wanted != 0) || self.ports.has_failures(&self.maps)
    }

    /// Reads the maps, lets the detector judge, and returns all that is known then.
    pub fn read(&mut self) -> Result<Snapshot, KernelError> {
        self.read_at = Instant::now();
        let taken_at = Timestamp::now();
        let (interfaces, unwatched) = self.attachments.read(&self.maps)?;
        // The counts of SYNs are of this moment; what is read after it takes its time.
        let moment = (Instant::now(), Timestamp::now());
        let mut open = self.open_listeners(moment.0)?;
        let is_loopback_watched = interfaces.iter().any(|interface| interface.name == "lo");
        for (_, listener) in &mut open {
            listener.note_loopback(is_loopback_watched);
        }
        let tcp_counters = tcp_counters::read().inspect_err(|error| tracing::debug!("{error}")).ok();
        self.judge(moment, syns(&interfaces), tcp_counters, &mut open)?;
        let (sockets, losses) = self.sockets_and_losses()?;
        let (maps, missing) = (self.fill(&sockets), self.attachments.missing());
        self.detect(moment, &maps, &missing);
        Ok(Snapshot {
            taken_at,
            read_at: self.read_at,
            started_at: self.started_at,
            uptime: self.read_at.saturating_duration_since(self.begun),
            netns: self.netns,
            interfaces,
            departed: self.attachments.departed(),
            missing,
            unwatched,
            warnings: self.warnings(),
            alerts: floods::with_listening_processes(self.alerts.alerts(), &open),
            alerts_opened: self.alerts.opened(),
            listeners: open.into_iter().map(|(_, listener)| listener).collect(),
            no_listener: self.no_listener(),
            lifetime_sample: self.lifetime_sample,
            socket_events: self.socket_events.into(),
            census: self.census.last,
            census_error: self.census.error.clone(),
            tcp_counters,
            ports: self.ports.ports(),
            losses,
            programs: self.programs(),
            maps,
            sockets,
            read_seconds: self.read_at.elapsed().as_secs_f64(),
        })
    }

    /// The listeners that are open, with their queues of this moment.
    fn open_listeners(&mut self, now: Instant) -> Result<Vec<Open>, KernelError> {
        // Slots that were freed before the last look have been forgotten.
        self.slots.freed.clear();
        let detector = self.detectors.get::<SynFlood>();
        let keeps = |key: &ListenerKey| detector.listener(&floods::id_of(key)).watched;
        self.slots.assign(&mut self.maps, &mut self.listening, &self.listeners.activity(), keeps)?;
        let seen = Seen {
            generation: self.census.complete(),
            census_at: self.census.succeeded_at,
            links: &self.links,
            half_open: &self.half_open,
            listening: &self.listening,
        };
        self.listeners.read(&mut self.maps, &mut self.slots, now, &seen)
    }

    fn no_listener(&mut self) -> NoListener {
        let detector = self.detectors.get::<SynFlood>();
        let (verdict, top_sources) = (detector.no_listener().verdict, detector.no_listener_sources());
        NoListener { verdict, top_sources, ..self.closed_ports.read(&self.maps) }
    }

    /// Shows the detectors how complete the view of the host is.
    fn detect(&mut self, (at, wall): (Instant, Timestamp), maps: &[MapFill], missing: &[Unwatched]) {
        let now = ObservedAt { at: at.saturating_duration_since(self.begun), wall };
        let (maps, missing) = (maps.to_vec(), missing.to_vec());
        self.detectors.observe(&Observation::Host(HostObservation { now, netns: self.netns, maps, missing }));
    }

    /// Lets the flood detector judge, which writes its verdicts into `open`.
    fn judge(
        &mut self,
        (at, wall): (Instant, Timestamp),
        syns: u64,
        namespace: Option<NamespaceCounters>,
        open: &mut [Open],
    ) -> Result<(), KernelError> {
        for slot in &self.slots.freed {
            self.floods.forget(*slot);
        }
        let context = ReadContext {
            at,
            wall,
            netns: self.netns,
            syns: syns + received_syns(&self.attachments.departed()),
            census_at: self.census.succeeded_at,
            listening: &self.listening,
            census_error: self.census.error.as_deref(),
            namespace,
        };
        self.floods.observe(&mut self.detectors, &mut self.maps, open, &context)
    }

    /// What is wrong with the daemon itself.
    fn warnings(&self) -> Vec<String> {
        let lost = self.notifications_lost.then(|| {
            let seconds = links::RESYNC.as_secs();
            format!("the kernel does not notify of changed interfaces: they are listed every {seconds} s until it does")
        });
        let recording = self.floods.why_recording_ended();
        lost.into_iter()
            .chain(self.unjudged())
            .chain(recording.map(|why| format!("the recording (--detector.record) has ended: {why}")))
            .collect()
    }

    /// Listeners that are not judged though they receive SYNs.
    fn unjudged(&self) -> Option<String> {
        let starved = &self.slots.starved;
        let [first, ..] = &starved[..] else { return None };
        let (id, device) = (floods::id_of(first), self.links.get(&first.device).map(|link| link.name.as_str()));
        let slots = limits::LISTENERS;
        Some(format!(
            "listeners that receive SYNs and are not judged: {}, first {}; the {slots} that are counted apart receive \
             more",
            starved.len(),
            listener_place(id.address, device, id.port)
        ))
    }

    /// Socket events, and what could not be counted.
    fn sockets_and_losses(&mut self) -> Result<(SocketCounters, [u64; Loss::COUNT]), KernelError> {
        let counters = &self.maps.socket_counters;
        let (sockets, missed) = self.missed_events.count(missed_events::passive_opens, || counters.sum(0))?;
        let mut losses = [0; Loss::COUNT];
        for loss in Loss::ALL {
            losses[loss as usize] = self.maps.losses.sum(loss as u32)?;
        }
        losses[Loss::EventSkipped as usize] = object::skipped_events(&self.object);
        losses[Loss::EventUnseen as usize] = missed;
        Ok((sockets, losses))
    }

    fn fill(&self, sockets: &SocketCounters) -> Vec<MapFill> {
        let (addresses, prefixes) = self.local.counts();
        let timed = sockets.timed.cast_signed().max(0).cast_unsigned();
        [
            (names::LISTENERS, self.listeners.entries, limits::KNOWN_LISTENERS),
            (names::LISTENER_COUNTERS, self.listeners.slots, limits::LISTENERS),
            (names::INTERFACE_COUNTERS, self.attachments.slots(), limits::INTERFACES - 1),
            (names::LOCAL_ADDRESSES, addresses, limits::LOCAL_ADDRESSES),
            (names::LOCAL_PREFIXES, prefixes, limits::LOCAL_PREFIXES),
            (names::LIFETIMES, timed, limits::MEASURED_LIFETIMES),
        ]
        .into_iter()
        .map(|(name, entries, capacity)| MapFill { name: name.into(), entries, capacity: capacity.into() })
        .collect()
    }

    fn programs(&self) -> Vec<Program> {
        let report = |names::Program { name, kind, .. }: &names::Program| {
            // A program that was not loaded has no info.
            let info: ProgramInfo = self.object.program(name)?.info().ok()?;
            Some(Program {
                name: (*name).into(),
                kind: (*kind).into(),
                id: info.id(),
                run_count: info.run_count(),
                run_seconds: info.run_time().as_secs_f64(),
            })
        };
        let mut programs: Vec<_> = names::PROGRAMS.iter().filter_map(report).collect();
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        programs
    }
}

/// Attaches what sees which SYNs reach TCP; whether that is known. It may go without, and says so then.
fn attach_sk_lookup(object: &mut Ebpf) -> Result<bool, KernelError> {
    match object::attach_sk_lookup(object) {
        Ok(()) => Ok(true),
        Err(KernelError::NoRight) => Err(KernelError::NoRight),
        Err(error) => {
            tracing::warn!("SYNs that rules divert or drop before TCP are taken for those of a flood: {error}");
            Ok(false)
        }
    }
}

/// Loads the programs of the census. It may go without one, and says so then.
fn load_census(settings: &Settings, object: &mut Ebpf) -> Result<CensusScheduler, KernelError> {
    let mut census = CensusScheduler::new(settings.census_interval);
    match object::load_passes(object) {
        Ok(()) => {}
        Err(KernelError::NoRight) => return Err(KernelError::NoRight),
        Err(error) => {
            tracing::warn!("no census: {error}");
            census.give_up(format!(
                "{error}; listeners older than the daemon are not known, and SYNs to them count as meeting none"
            ));
        }
    }
    Ok(census)
}

/// Other network namespaces may be entered, if that is wanted.
fn check_netns_right(settings: &Settings) -> Result<(), KernelError> {
    let may_enter = || caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false);
    if settings.all_netns && !may_enter() { Err(KernelError::NoRightForNetns) } else { Ok(()) }
}

/// Inode number of this thread's network namespace.
fn own_netns() -> Result<u32, KernelError> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(OWN_NETNS)
        .map_err(|source| KernelError::Io { what: format!("read {OWN_NETNS}; is /proc mounted?"), source })?;
    // The kernel's namespace inode numbers are 32 bits wide (`ns_common.inum`).
    Ok(u32::try_from(metadata.ino()).unwrap_or_default())
}
