//! The thread that owns the kernel side, and its loop.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::unistd::{SysconfVar, sysconf};
use tokio::{
    sync::{oneshot, watch},
    time::{Interval, MissedTickBehavior, interval, sleep_until},
};
use tracker_model::Snapshot;

use super::{
    Settings,
    collector::{BUSY_TICK, Collector},
    error::KernelError,
    interface_policy,
    links::{LinkWatcher, Listing},
    object::OBJECT,
    priority,
    recording::Recording,
    requests::{Requests, ThreadEnds, Work},
    watches::Watches,
};

/// Between two readings.
const TICK: Duration = Duration::from_secs(1);
/// Attaching to many interfaces is done in turns of this length, with a pause as long after each: the detector shares
/// the thread.
const ATTACH_TURN: Duration = Duration::from_millis(50);

/// Body of the thread. Ends, and detaches everything, when `stop` says so or its sender is gone.
pub fn run(
    settings: &Settings,
    recording: Option<Recording>,
    ends: ThreadEnds,
    stop: oneshot::Receiver<()>,
) -> Result<(), KernelError> {
    priority::raise();
    return_freed_memory();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| KernelError::Io { what: "start a runtime".into(), source })?;
    runtime.block_on(serve(settings, recording, ends, stop))
}

/// Makes the allocator return freed memory to the kernel. Loading parses the kernel's type information into some 10 MB
/// and frees them; glibc would raise its thresholds at that (`M_TRIM_THRESHOLD` in mallopt(3)) and keep all of it, and
/// `malloc_trim()` does not reach the end of a heap that is a thread's own.
fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no argument refers to memory. glibc takes its lock for the call, and the heap has been initialised: the
    // daemon has allocated before.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// Drops the pages of the object, which is read once; whoever reads it again gets them from the program's file.
fn drop_object() {
    let Ok(Some(page)) = sysconf(SysconfVar::PAGE_SIZE).map(|page| page.and_then(|page| usize::try_from(page).ok()))
    else {
        return;
    };
    let bytes = OBJECT.as_ptr_range();
    let (start, end) = (bytes.start.addr().next_multiple_of(page), bytes.end.addr() / page * page);
    // SAFETY: whole pages of constants, mapped from a file and never written: they are read again as they were.
    unsafe {
        libc::madvise(bytes.start.with_addr(start).cast_mut().cast(), end.saturating_sub(start), libc::MADV_DONTNEED);
    }
}

/// Loads and attaches, reads and answers until it is stopped, and detaches.
async fn serve(
    settings: &Settings,
    recording: Option<Recording>,
    ends: ThreadEnds,
    mut stop: oneshot::Receiver<()>,
) -> Result<(), KernelError> {
    let mut links = LinkWatcher::connect()?;
    let listing = tokio::select! {
        biased;
        _ = &mut stop => return Ok(()),
        listing = links.list() => listing?,
    };
    interface_policy::check(&listing.links, &settings.interfaces)?;
    let mut collector = Collector::start(settings, recording, &listing)?;
    drop_object();
    let result = tokio::select! {
        biased;
        _ = stop => Ok(()),
        result = read_for_ever(&mut collector, ends, links, listing) => result.map(|never| match never {}),
    };
    collector.detach().await;
    result
}

/// Attaches to the interfaces, then reads and answers.
async fn read_for_ever(
    collector: &mut Collector,
    ends: ThreadEnds,
    mut links: LinkWatcher,
    listing: Listing,
) -> Result<Infallible, KernelError> {
    while !collector.attach_until(Instant::now() + ATTACH_TURN).await? {
        // The daemon may be stopped meanwhile.
        tokio::task::yield_now().await;
    }
    let snapshot = collector.read()?;
    ends.snapshots.send_replace(Some(Arc::new(snapshot)));
    let (sender, listings) = watch::channel(listing);
    let requests = Requests::new(ends.requests);
    let watches = Watches::default();
    let mut reader = Reader { collector, requests, watches, snapshots: ends.snapshots, listings, attach_at: None };
    Ok(tokio::select! {
        never = links.follow(&sender) => never,
        never = reader.follow() => never,
    })
}

/// Reads each second, on request, and whenever interfaces or addresses change.
struct Reader<'a> {
    collector: &'a mut Collector,
    requests: Requests,
    watches: Watches,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    listings: watch::Receiver<Listing>,
    /// When to go on attaching.
    attach_at: Option<tokio::time::Instant>,
}

impl Reader<'_> {
    async fn follow(&mut self) -> Infallible {
        let (mut tick, mut busy) = (ticks(TICK), ticks(BUSY_TICK));
        loop {
            let attach_at = self.attach_at;
            let attach = async {
                match attach_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                work = self.requests.next() => self.answer(work),
                () = self.watches.due() => self.watches.finish(self.collector),
                _ = tick.tick() => {
                    self.watches.abandon(self.collector);
                    self.publish();
                }
                _ = busy.tick() => if self.collector.is_busy() { self.publish() },
                Ok(()) = self.listings.changed() => {
                    self.collector.take_over(&self.listings.borrow_and_update());
                    self.attach_at = Some(tokio::time::Instant::now());
                }
                () = attach => self.attach().await,
            }
        }
    }

    fn answer(&mut self, work: Work) {
        // Nobody waits any more when sending fails.
        match work {
            Work::Refresh(answers) => {
                let begun = Instant::now();
                self.collector.census_on_request();
                if let Some(snapshot) = self.publish_reading() {
                    for answer in answers {
                        let _ = answer.send(snapshot.clone());
                    }
                }
                self.requests.refreshed(begun.elapsed());
            }
            Work::Sockets(asked, answer) => {
                let begun = Instant::now();
                let _ = answer.send(self.collector.sockets(&asked));
                self.requests.searched(begun.elapsed());
            }
            Work::Watch(asked, answer) => self.watches.begin(self.collector, asked, answer),
        }
    }

    async fn attach(&mut self) {
        let pause = match self.collector.attach_until(Instant::now() + ATTACH_TURN).await {
            Ok(true) => None,
            Ok(false) => Some(ATTACH_TURN),
            Err(error) => {
                tracing::warn!("attach to interfaces: {error}");
                Some(TICK)
            }
        };
        self.attach_at = pause.map(|pause| tokio::time::Instant::now() + pause);
    }

    fn publish(&mut self) {
        self.collector.work_between_readings();
        self.publish_reading();
        // The detector may have become suspicious at this reading: it then gets queues of this moment at once.
        if self.collector.wants_census() {
            self.collector.census_on_request();
            self.publish_reading();
        }
    }

    fn publish_reading(&mut self) -> Option<Arc<Snapshot>> {
        let read = self.collector.read().inspect_err(|error| tracing::error!("read the kernel's maps: {error}"));
        let snapshot = Arc::new(read.ok()?);
        self.snapshots.send_replace(Some(snapshot.clone()));
        Some(snapshot)
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
