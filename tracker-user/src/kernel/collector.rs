//! Reads everything that the kernel side knows into a snapshot.

mod daemon_state;
mod start;
mod watch;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aya::Ebpf;
use jiff::Timestamp;
use tracker_common::{classify::Outcome, counters::InterfaceCounters, listener::ListenerKey};
use tracker_detect::{
    alert::{AlertStore, ObservedAt},
    detector::{HostObservation, Observation},
    registry::Detectors,
    syn_flood::SynFlood,
};
use tracker_model::{
    Snapshot,
    api::{Interface, MapFill, NoListener, Unwatched},
    counters::NamespaceCounters,
};

use super::{
    SocketsAsked, SocketsFound,
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
    undelivered::Undelivered,
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
    undelivered: Undelivered,
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
        let mut open = self.open_listeners(moment.0, &interfaces)?;
        let at = moment.0.saturating_duration_since(self.begun);
        self.undelivered.step(&mut self.object, &mut self.maps, &mut self.drops, &mut open, at)?;
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
    fn open_listeners(&mut self, now: Instant, interfaces: &[Interface]) -> Result<Vec<Open>, KernelError> {
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
        let mut open = self.listeners.read(&mut self.maps, &mut self.slots, now, &seen)?;
        let is_loopback_watched = interfaces.iter().any(|interface| interface.name == "lo");
        for (_, listener) in &mut open {
            listener.note_loopback(is_loopback_watched);
        }
        Ok(open)
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
            self.undelivered.forget(*slot);
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
}
