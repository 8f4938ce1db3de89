//! What the rest of the daemon has of the kernel side: a handle to ask, and the thread to wait for.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use tokio::sync::{mpsc, oneshot, watch};
use tracker_detect::explain::listen::ListenObservation;
use tracker_model::Snapshot;

use super::{
    ListenAsked, Settings, SocketsAsked, SocketsFound,
    error::KernelError,
    recording::Recording,
    requests::{Request, ThreadEnds, WAITING},
    thread,
};

/// Stack of the thread that owns the kernel side, bytes. Values of maps pass over it whole, those of `PORT_BUCKETS`
/// with 128 KiB, and a build that is not optimised copies each of them many times: 2 MiB are too few.
const STACK: usize = 16 << 20;

/// Asks the kernel side. There are no answers while it starts or stops.
#[derive(Clone)]
pub struct KernelHandle {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    requests: mpsc::Sender<Request>,
}

impl KernelHandle {
    /// A handle of a kernel side that does not run yet.
    #[must_use]
    pub fn new() -> (Self, ThreadEnds) {
        let (snapshot_sender, snapshots) = watch::channel(None);
        let (requests, incoming) = mpsc::channel(WAITING);
        (Self { snapshots, requests }, ThreadEnds { snapshots: snapshot_sender, requests: incoming })
    }

    /// A handle without a kernel side, which always answers the same. For tests. Answers with sockets need a Tokio
    /// runtime.
    #[must_use]
    pub fn fixed(snapshot: Option<Snapshot>, sockets: Option<SocketsFound>) -> Self {
        let (handle, mut ends) = Self::new();
        ends.snapshots.send_replace(snapshot.map(Arc::new));
        if let Some(sockets) = sockets {
            tokio::spawn(async move {
                while let Some(request) = ends.requests.recv().await {
                    // Nobody waits any more when sending fails.
                    match request {
                        Request::Sockets(_, answer) => drop(answer.send(Ok(sockets.clone()))),
                        Request::Watch(asked, answer) => drop(answer.send(Ok(quiet(asked, &sockets)))),
                        Request::Refresh(_) => {}
                    }
                }
            });
        }
        handle
    }

    /// The newest snapshot; at most a second old.
    #[must_use]
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshots.borrow().clone()
    }

    /// A snapshot of this moment, with a census unless one was just taken.
    pub async fn refresh(&self) -> Option<Arc<Snapshot>> {
        // Nobody reads the requests before the first snapshot.
        self.snapshot()?;
        let (answer, snapshot) = oneshot::channel();
        match self.requests.send(Request::Refresh(answer)).await {
            Ok(()) => snapshot.await.ok().or_else(|| self.snapshot()),
            Err(_) => self.snapshot(),
        }
    }

    /// The sockets that hold ports; takes as long as a pass over all descriptors of all processes. There is no answer
    /// when too many ask at once.
    pub async fn sockets(&self, asked: SocketsAsked) -> Option<Result<SocketsFound, KernelError>> {
        self.snapshot()?;
        let (answer, found) = oneshot::channel();
        self.requests.send(Request::Sockets(asked, answer)).await.ok()?;
        found.await.ok()
    }

    /// Watches a port for as long as is asked, and says what was seen.
    pub async fn watch(&self, asked: ListenAsked) -> Option<Result<ListenObservation, KernelError>> {
        self.snapshot()?;
        let (answer, seen) = oneshot::channel();
        self.requests.send(Request::Watch(asked, answer)).await.ok()?;
        seen.await.ok()
    }

    /// Waits for the first snapshot; whether it came. Otherwise the thread has ended.
    pub async fn started(&self) -> bool {
        self.snapshots.clone().wait_for(Option::is_some).await.is_ok()
    }
}

/// A watch during which nothing happened.
fn quiet(asked: ListenAsked, found: &SocketsFound) -> ListenObservation {
    let sockets = found.sockets.iter().filter(|socket| socket.port == asked.port);
    ListenObservation {
        watched: asked.lasts,
        is_local: found.is_local,
        sockets: sockets.cloned().collect(),
        ..ListenObservation::default()
    }
}

/// The thread that owns the kernel side. It ends, and detaches everything, when this is dropped or [`Self::stop`] is
/// called.
pub struct KernelThread {
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<Result<(), KernelError>>,
}

impl KernelThread {
    /// Starts the thread. It loads and attaches the programs, seeds the listeners, takes the first census, and then
    /// reads and answers until it is stopped. All of it works on the network namespace of the calling thread.
    pub fn start(settings: &Settings, ends: ThreadEnds) -> Result<Self, KernelError> {
        let recording = settings.record.as_deref().map(Recording::create).transpose()?;
        let settings = settings.clone();
        Self::spawn(move |stop| thread::run(&settings, recording, ends, stop))
    }

    /// Runs `body`, which ends when its argument is dropped, on the thread.
    pub(crate) fn spawn(
        body: impl FnOnce(oneshot::Receiver<()>) -> Result<(), KernelError> + Send + 'static,
    ) -> Result<Self, KernelError> {
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("kernel".into())
            .stack_size(STACK)
            .spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(|| body(stopped)));
                // Nobody waits any more when sending fails.
                let _ = end.send(result.unwrap_or_else(|panic| Err(KernelError::Panic(text_of(&*panic)))));
            })
            .map_err(|source| KernelError::Io { what: "start a thread".into(), source })?;
        Ok(Self { stop: Some(stop), ended })
    }

    /// Makes the thread detach everything and end.
    pub fn stop(&mut self) {
        self.stop = None;
    }

    /// Waits until the thread has ended. Must not be called again once it has returned.
    pub async fn ended(&mut self) -> Result<(), KernelError> {
        let lost = |_| Err(KernelError::Panic("the thread is gone".into()));
        (&mut self.ended).await.unwrap_or_else(lost)
    }
}

/// What a panic says.
fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no text").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_the_thread_is_an_end_that_says_why() {
        let mut thread = KernelThread::spawn(|_| panic!("index {} of 3", 7)).unwrap();
        let error = thread.ended().await.unwrap_err().to_string();
        assert_eq!(error, "the kernel thread panicked: index 7 of 3");
    }

    #[tokio::test]
    async fn the_thread_ends_when_it_is_stopped() {
        let mut thread = KernelThread::spawn(|stop| {
            let _ = stop.blocking_recv();
            Ok(())
        })
        .unwrap();
        thread.stop();
        assert!(thread.ended().await.is_ok());
    }
}
