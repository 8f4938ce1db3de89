//! The start of the kernel side: what is loaded and attached, in which order.

use std::time::Instant;

use aya::Ebpf;
use caps::{CapSet, Capability};
use jiff::Timestamp;
use tracker_detect::{alert::AlertStore, registry::Detectors};

use super::{
    super::{
        OWN_NETNS, Settings, attach::Attachments, closed_ports::ClosedPorts, drops::Drops, half_open::HalfOpen,
        undelivered::Undelivered,
    },
    CensusScheduler, Collector, FloodCollector, KernelError, Listeners, Listening, Listing, LocalAddresses, Maps,
    MissedEvents, Ports, Recording, Slots, object,
};

/// What was attached, besides the interfaces.
struct Attached {
    socket_events: &'static str,
    shows_delivery: bool,
    census: CensusScheduler,
    listening: Listening,
    bind_seen_by: &'static str,
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
        let attached = attach(settings, &mut object)?;
        let (alerts, begun) = (AlertStore::default(), Instant::now());
        let mut collector = Self {
            object,
            maps,
            local,
            attachments: Attachments::new(settings.hook, settings.interfaces.clone()),
            links: listing.links.clone(),
            notifications_lost: false,
            listeners: Listeners::new(attached.shows_delivery),
            listening: attached.listening,
            slots,
            closed_ports: ClosedPorts::new(attached.shows_delivery),
            drops: Drops::default(),
            undelivered: Undelivered::default(),
            floods: FloodCollector::new(recording, attached.shows_delivery),
            half_open: HalfOpen::default(),
            missed_events: MissedEvents::default(),
            ports: Ports::new(netns, settings.all_netns, attached.bind_seen_by),
            detectors: Detectors::new(settings.sensitivity, &alerts),
            alerts,
            census: attached.census,
            syns: 0,
            read_at: begun,
            started_at: Timestamp::now(),
            begun,
            netns,
            lifetime_sample: settings.lifetime_sample,
            socket_events: attached.socket_events,
            log,
        };
        collector.take_census(false)?;
        Ok(collector)
    }
}

/// Attaches what sees sockets. Events come first, then the census: a listener that opens in between is known to both.
fn attach(settings: &Settings, object: &mut Ebpf) -> Result<Attached, KernelError> {
    let socket_events = object::attach_socket_events(object, settings.socket_events)?;
    let shows_delivery = attach_sk_lookup(object)?;
    let (census, listening) = (load_census(settings, object)?, Listening::load(object));
    check_netns_right(settings)?;
    let bind_seen_by = object::attach_bind(object, settings.trace_bind)?;
    Ok(Attached { socket_events, shows_delivery, census, listening, bind_seen_by })
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
