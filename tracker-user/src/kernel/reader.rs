//! The thread that owns the kernel side: it attaches, follows changes of interfaces, takes censuses and reads the maps.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, mpsc as std_mpsc},
    time::{Duration, Instant},
};

use aya::{Ebpf, programs::ProgramInfo};
use caps::{CapSet, Capability};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tracker_common::{
    classify::Outcome,
    counters::{InterfaceCounters, Loss},
    limits, names,
};
use tracker_model::{
    Snapshot,
    ledger::AlertIds,
    snapshot::{Interface, MapFill, Program},
};

use super::{
    Request, Settings, SocketsAnswer, SocketsAsked, SocketsFound,
    attach::Attachments,
    census::Taker,
    error::KernelError,
    floods::{Around, Watch},
    half_open::HalfOpen,
    links::{Changes, Netlink},
    listeners::{self, Listeners},
    local::LocalAddresses,
    maps::Maps,
    object,
    ports::Ports,
    refused::Refused,
    select, tcp_counters,
    unseen::{self, Unseen},
};

/// The pause after a look for the sockets that hold ports, in lengths of it: the detector shares the thread.
const LOOK_PAUSE: u32 = 4;
/// So many may wait for one.
const WAITING: usize = 16;
/// Between two readings.
const TICK: Duration = Duration::from_secs(1);
/// Between two readings while many SYNs come, or the flood detector watches something: it is to answer within a second and a
/// half of the onset.
const BUSY_TICK: Duration = Duration::from_millis(250);
/// Many, between two ticks.
const MANY_SYNS: u64 = 25;
/// Changes of interfaces come in bursts; they are looked at together after this time.
const SETTLE: Duration = Duration::from_millis(50);
/// Interfaces and addresses are listed this often without a notification: one may be lost, and routes that make other
/// addresses local bring none that is subscribed to.
const RESYNC: Duration = Duration::from_secs(30);
/// A census on request is taken only when the last one is at least so old, and ten times as old as it took.
const FRESH: Duration = Duration::from_millis(250);

/// How the thread tells that it runs, or why not.
type Started = std_mpsc::Sender<Result<watch::Receiver<Arc<Snapshot>>, KernelError>>;

/// Body of the thread. Ends, and detaches everything, when `requests` is closed.
pub fn run(settings: &Settings, requests: mpsc::Receiver<Request>, started: &Started) {
    super::prefer();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(|source| KernelError::Io { what: "start a runtime".into(), source });
    match result {
        Ok(runtime) => runtime.block_on(serve(settings, requests, started)),
        Err(error) => drop(started.send(Err(error))),
    }
}

async fn serve(settings: &Settings, requests: mpsc::Receiver<Request>, started: &Started) {
    let (mut side, changes) = match Side::start(settings).await {
        Ok(side) => side,
        Err(error) => return drop(started.send(Err(error))),
    };
    match side.read() {
        Ok(snapshot) => {
            super::trim();
            let (sender, receiver) = watch::channel(Arc::new(snapshot));
            if started.send(Ok(receiver)).is_ok() {
                side.follow(requests, changes, &sender).await;
            }
        }
        Err(error) => drop(started.send(Err(error))),
    }
    side.attachments.clear(&mut side.maps);
}

/// SYNs that these interfaces received.
fn syns(interfaces: &[Interface]) -> u64 {
    interfaces.iter().map(|interface| received_syns(&interface.counters)).sum()
}

fn received_syns(counters: &InterfaceCounters) -> u64 {
    counters.packets[Outcome::TcpSyn as usize].iter().sum()
}

/// Everything of the kernel side that is kept between two readings.
struct Side {
    object: Ebpf,
    maps: Maps,
    netlink: Netlink,
    local: LocalAddresses,
    attachments: Attachments,
    listeners: Listeners,
    refused: Refused,
    watch: Watch,
    half_open: HalfOpen,
    unseen: Unseen,
    ports: Ports,
    syns: u64,
    read_at: Instant,
    census: Taker,
    /// When the last one that succeeded was taken, and when one was last tried.
    census_at: Instant,
    census_tried_at: Instant,
    started_at: Timestamp,
    netns: u32,
    lifetime_sample: u32,
    socket_events: &'static str,
    log: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
}

impl Side {
    async fn start(settings: &Settings) -> Result<(Self, Changes), KernelError> {
        let (netlink, changes) = Netlink::connect()?;
        let links = netlink.links().await?;
        select::check(&links, &settings.interfaces)?;
        let netns = own_netns()?;
        let mut object = object::open(settings, netns, false)?;
        let log = if settings.kernel_log { aya_log::EbpfLogger::init(&mut object).ok() } else { None };
        let mut maps = Maps::take(&mut object)?;
        listeners::fill_slots(&mut maps)?;
        let mut local = LocalAddresses::default();
        local.update(&netlink, &mut maps).await?;
        // Events first, then the census: a listener that opens in between is known to both.
        let socket_events = object::attach_socket_events(&mut object, settings.socket_events)?;
        let mut census = Taker::new(settings.census_interval);
        match object::load_census(&mut object).and_then(|()| object::load_passes(&mut object)) {
            Ok(()) => {}
            Err(KernelError::NoRight) => return Err(KernelError::NoRight),
            Err(error) => {
                tracing::warn!("no census: {error}");
                census.give_up(format!(
                    "{error}; listeners older than the daemon are not known, and SYNs to them count as meeting none"
                ));
            }
        }
        if settings.all_netns && !caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false) {
            return Err(KernelError::NoRightForNetns);
        }
        let bind_seen_by = object::attach_bind(&mut object, settings.trace_bind)?;
        let ids = AlertIds::default();
        let attachments = Attachments::new(settings.hook, settings.interfaces.clone());
        let mut side = Self {
            object,
            maps,
            netlink,
            local,
            attachments,
            listeners: Listeners::default(),
            refused: Refused::default(),
            watch: Watch::new(settings.sensitivity, settings.record.as_deref(), &ids)?,
            half_open: HalfOpen::default(),
            unseen: Unseen::default(),
            ports: Ports::new(netns, &ids, settings.all_netns, bind_seen_by),
            syns: 0,
            read_at: Instant::now(),
            census,
            census_at: Instant::now(),
            census_tried_at: Instant::now(),
            started_at: Timestamp::now(),
            netns,
            lifetime_sample: settings.lifetime_sample,
            socket_events,
            log,
        };
        side.take_census(false)?;
        if let Err(error) = side.attachments.update(&mut side.object, &mut side.maps, &links) {
            side.attachments.clear(&mut side.maps);
            return Err(error);
        }
        Ok((side, changes))
    }

    /// Reads each second, on request, and whenever interfaces or addresses change.
    async fn follow(
        &mut self,
        mut requests: mpsc::Receiver<Request>,
        mut changes: Changes,
        snapshots: &watch::Sender<Arc<Snapshot>>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut busy = tokio::time::interval(BUSY_TICK);
        busy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut resync = tokio::time::interval(RESYNC);
        let mut settled = None;
        let (mut asked, mut may_look) = (VecDeque::new(), tokio::time::Instant::now());
        loop {
            let settle = async {
                match settled {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                request = requests.recv() => {
                    // Nobody waits any more when sending fails.
                    match request {
                        None => return,
                        Some(Request::Refresh(answer)) => {
                            self.refresh(snapshots);
                            let _ = answer.send(snapshots.borrow().clone());
                        }
                        Some(Request::Sockets(what, answer)) => {
                            asked.retain(|(_, answer): &(_, SocketsAnswer)| !answer.is_closed());
                            // Those beyond are told by their sender's end.
                            if asked.len() < WAITING {
                                asked.push_back((what, answer));
                            }
                        }
                    }
                }
                () = tokio::time::sleep_until(may_look), if !asked.is_empty() => {
                    let begun = Instant::now();
                    if let Some((what, answer)) = asked.pop_front().filter(|(_, answer)| !answer.is_closed()) {
                        let _ = answer.send(self.sockets(&what));
                    }
                    may_look = tokio::time::Instant::now() + begun.elapsed() * LOOK_PAUSE;
                }
                _ = tick.tick() => self.publish(snapshots),
                _ = busy.tick() => if self.is_busy() { self.publish(snapshots) },
                change = changes.next() => {
                    if change.is_none() {
                        tracing::error!("no more notifications of interfaces: new ones are not watched");
                        changes = futures_channel::mpsc::unbounded().1;
                    }
                    settled.get_or_insert(tokio::time::Instant::now() + SETTLE);
                }
                () = settle => {
                    settled = None;
                    self.interfaces().await;
                }
                // Interfaces too: a burst of changes may overflow the socket, and the notification is lost.
                _ = resync.tick() => self.interfaces().await,
            }
        }
    }

    async fn interfaces(&mut self) {
        match self.netlink.links().await {
            // An interface named by the user may go and come back while the daemon runs; it was warned of.
            Ok(links) => drop(self.attachments.update(&mut self.object, &mut self.maps, &links)),
            Err(error) => tracing::warn!("list interfaces: {error}"),
        }
        self.addresses().await;
    }

    async fn addresses(&mut self) {
        if let Err(error) = self.local.update(&self.netlink, &mut self.maps).await {
            tracing::warn!("list local addresses: {error}");
        }
    }

    /// A reading on request, with a census unless one was just taken.
    fn refresh(&mut self, snapshots: &watch::Sender<Arc<Snapshot>>) {
        if self.census_tried_at.elapsed() >= self.census_pause()
            && let Err(error) = self.take_census(true)
        {
            tracing::warn!("census: {error}");
        }
        self.publish_read(snapshots);
    }

    fn publish(&mut self, snapshots: &watch::Sender<Arc<Snapshot>>) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        if self.census_is_due()
            && let Err(error) = self.take_census(false)
        {
            tracing::warn!("census: {error}");
        }
        self.census.round(&mut self.object, &mut self.maps, &mut self.ports, false);
        self.publish_read(snapshots);
        // The detector may have become suspicious at this reading: it then gets queues of this moment at once.
        if self.census_is_wanted() {
            self.refresh(snapshots);
        }
    }

    fn publish_read(&mut self, snapshots: &watch::Sender<Arc<Snapshot>>) {
        match self.read() {
            Ok(snapshot) => drop(snapshots.send_replace(Arc::new(snapshot))),
            Err(error) => tracing::error!("read the kernel's maps: {error}"),
        }
    }

    /// Takes a census; `asked` is whether somebody waits for it.
    fn take_census(&mut self, asked: bool) -> Result<(), KernelError> {
        self.maps.census_wanted.update(0, 0)?;
        let before = listeners::versions(&self.maps);
        let complete = self.census.take(&mut self.object, &mut self.maps, &mut self.ports, asked);
        self.census_tried_at = Instant::now();
        if complete {
            self.census_at = self.census_tried_at;
            self.listeners.reconcile(&mut self.maps, &before, self.census.complete())?;
            self.half_open.read(&self.maps, self.census.complete(), self.census.half_open());
        }
        Ok(())
    }

    fn sockets(&mut self, asked: &SocketsAsked) -> Result<SocketsFound, KernelError> {
        let is_local = asked.address.is_some_and(|address| self.local.may_bind(address));
        self.ports.sockets(&mut self.object, &mut self.maps, asked, is_local)
    }

    /// Whether the next reading should not wait for the tick.
    fn is_busy(&mut self) -> bool {
        if self.read_at.elapsed() < BUSY_TICK / 2 {
            return false;
        }
        let before = std::mem::replace(&mut self.syns, self.attachments.syns(&self.maps));
        self.watch.is_busy() || self.syns.saturating_sub(before) >= MANY_SYNS
    }

    /// Whether the detector would be helped by a census, and one may be taken again.
    fn census_is_wanted(&self) -> bool {
        self.watch.wants_census() && self.census_tried_at.elapsed() >= self.census_pause()
    }

    /// Least time between two censuses for which there is a reason.
    fn census_pause(&self) -> Duration {
        let cost = self.census.last.map_or(0.0, |last| last.seconds);
        FRESH.max(Duration::from_secs_f64(cost * 10.0))
    }

    /// Whether the census is due, or a listener was opened that only a census can tell of.
    fn census_is_due(&self) -> bool {
        self.census.is_due()
            || self.maps.census_wanted.lookup(0).is_ok_and(|wanted| wanted != 0)
            || (self.ports.has_failures(&self.maps) && self.census_tried_at.elapsed() >= self.census_pause())
    }

    fn read(&mut self) -> Result<Snapshot, KernelError> {
        let begun = Instant::now();
        self.read_at = begun;
        let taken_at = Timestamp::now();
        let (interfaces, unwatched) = self.attachments.read(&self.maps)?;
        // Of this moment are the counts of SYNs; what is read after it takes its time.
        let (at, wall) = (Instant::now(), Timestamp::now());
        let mut open = self.listeners.read(&mut self.maps, self.census.complete(), taken_at, &self.half_open)?;
        for slot in &self.listeners.freed {
            self.watch.forget(*slot);
        }
        let tcp_counters = tcp_counters::read().inspect_err(|error| tracing::debug!("{error}")).ok();
        let around = Around {
            at,
            wall,
            netns: self.netns,
            syns: syns(&interfaces) + received_syns(&self.attachments.departed()),
            census_at: self.census_at,
            census_error: self.census.error.as_deref(),
            namespace: tcp_counters,
        };
        let mut floods = self.watch.observe(&mut self.maps, &mut open, &around)?;
        floods.alerts.extend(self.ports.alerts());
        let counters = &self.maps.socket_counters;
        let sockets = || counters.sum(0);
        let (sockets, unseen) = self.unseen.count(unseen::passive_opens, sockets)?;
        let mut losses = [0; Loss::COUNT];
        for loss in Loss::ALL {
            losses[loss as usize] = self.maps.losses.sum(loss as u32)?;
        }
        losses[Loss::EventSkipped as usize] = object::skipped_events(&self.object);
        losses[Loss::EventUnseen as usize] = unseen;
        Ok(Snapshot {
            taken_at,
            started_at: self.started_at,
            netns: self.netns,
            interfaces,
            departed: self.attachments.departed(),
            missing: self.attachments.missing(),
            unwatched,
            listeners: open.into_iter().map(|(_, listener)| listener).collect(),
            no_listener: self.refused.read(&self.maps.refused_syns),
            lifetime_sample: self.lifetime_sample,
            socket_events: self.socket_events.into(),
            census: self.census.last,
            census_error: self.census.error.clone(),
            tcp_counters,
            floods,
            ports: self.ports.ports(),
            losses,
            programs: self.programs(),
            maps: self.fill(sockets.timed.cast_signed().max(0).cast_unsigned()),
            sockets,
            read_seconds: begun.elapsed().as_secs_f64(),
        })
    }

    fn fill(&self, timed: u64) -> Vec<MapFill> {
        let (addresses, prefixes) = self.local.counts();
        [
            (names::LISTENERS, self.listeners.entries, limits::LISTENERS * 4),
            (names::LISTENER_COUNTERS, self.listeners.slots, limits::LISTENERS),
            (names::INTERFACE_COUNTERS, self.attachments.slots(), limits::INTERFACES - 1),
            (names::LOCAL_ADDRESSES, addresses, limits::LOCAL_ADDRESSES),
            (names::LOCAL_PREFIXES, prefixes, limits::LOCAL_PREFIXES),
            (names::TIMED, timed, limits::TIMED_CONNECTIONS),
        ]
        .into_iter()
        .map(|(name, entries, capacity)| MapFill { name: name.into(), entries, capacity: capacity.into() })
        .collect()
    }

    fn programs(&self) -> Vec<Program> {
        let kinds = BTreeMap::from([
            (names::PROGRAM_XDP, "xdp"),
            (names::PROGRAM_TC, "tc"),
            (names::PROGRAM_SOCK_BTF, "tp_btf"),
            (names::PROGRAM_SOCK_RAW, "raw_tp"),
            (names::PROGRAM_BIND, "fexit"),
            (names::PROGRAM_BIND_IN, "tracepoint"),
            (names::PROGRAM_BIND_OUT, "tracepoint"),
        ]);
        let report = |(name, program): (&str, &aya::programs::Program)| {
            // A program that was not loaded has no info.
            let info: ProgramInfo = program.info().ok()?;
            Some(Program {
                name: name.into(),
                // All others are iterators.
                kind: kinds.get(name).copied().unwrap_or("iter").into(),
                id: info.id(),
                run_count: info.run_count(),
                run_seconds: info.run_time().as_secs_f64(),
            })
        };
        let mut programs: Vec<_> = self.object.programs().filter_map(report).collect();
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        programs
    }
}

/// Inode number of this thread's network namespace.
fn own_netns() -> Result<u32, KernelError> {
    use std::os::unix::fs::MetadataExt as _;
    let path = "/proc/thread-self/ns/net";
    let metadata = std::fs::metadata(path)
        .map_err(|source| KernelError::Io { what: format!("read {path}; is /proc mounted?"), source })?;
    // The kernel's namespace inode numbers are 32 bits wide (`ns_common.inum`).
    Ok(u32::try_from(metadata.ino()).unwrap_or_default())
}
