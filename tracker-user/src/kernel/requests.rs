//! What the kernel side is asked for, and when each request has its turn: the detector shares the thread.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tracker_detect::explain::listen::ListenObservation;
use tracker_model::Snapshot;

use super::{KernelError, ListenAsked, SocketsAsked, SocketsFound};

/// This many may wait for sockets; those beyond get no answer.
pub const WAITING: usize = 16;
/// The pause after a search for sockets, in lengths of it.
const SEARCH_PAUSE: u32 = 4;
/// The pause after a reading on request, in lengths of it, and at most this long. Those who ask meanwhile share the
/// next.
const REFRESH_PAUSE: u32 = 9;
const MOST_REFRESH_PAUSE: Duration = Duration::from_millis(100);

/// What the thread is asked for, and where the answer goes.
pub enum Request {
    /// A fresh snapshot.
    Refresh(SnapshotAnswer),
    /// The sockets that hold ports.
    Sockets(SocketsAsked, SocketsAnswer),
    /// To watch a port for a while.
    Watch(ListenAsked, WatchAnswer),
}

/// Where a snapshot goes.
pub type SnapshotAnswer = oneshot::Sender<Arc<Snapshot>>;
/// Where the sockets go.
pub type SocketsAnswer = oneshot::Sender<Result<SocketsFound, KernelError>>;
/// Where goes what was seen of a port.
pub type WatchAnswer = oneshot::Sender<Result<ListenObservation, KernelError>>;

/// What the thread has of a handle: where snapshots go, and where requests come from.
pub struct ThreadEnds {
    pub(crate) snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    pub(super) requests: mpsc::Receiver<Request>,
}

/// Work that is due now.
pub enum Work {
    /// One reading for all of these.
    Refresh(Vec<SnapshotAnswer>),
    /// One search.
    Sockets(SocketsAsked, SocketsAnswer),
    /// To begin a watch.
    Watch(ListenAsked, WatchAnswer),
}

/// Requests that wait.
pub struct Requests {
    incoming: mpsc::Receiver<Request>,
    refreshes: Vec<SnapshotAnswer>,
    searches: VecDeque<(SocketsAsked, SocketsAnswer)>,
    watches: VecDeque<(ListenAsked, WatchAnswer)>,
    may_refresh: Instant,
    may_search: Instant,
}

impl Requests {
    /// No request has come yet.
    pub fn new(incoming: mpsc::Receiver<Request>) -> Self {
        let (refreshes, searches, now) = (Vec::new(), VecDeque::new(), Instant::now());
        Self { incoming, refreshes, searches, watches: VecDeque::new(), may_refresh: now, may_search: now }
    }

    /// Waits for work that is due. Nothing is lost when the wait is given up.
    pub async fn next(&mut self) -> Work {
        loop {
            if let Some((asked, answer)) = self.watches.pop_front() {
                return Work::Watch(asked, answer);
            }
            tokio::select! {
                // Work that is due goes first: it makes room for requests.
                biased;
                () = sleep_until(self.may_refresh), if !self.refreshes.is_empty() => {
                    return Work::Refresh(std::mem::take(&mut self.refreshes));
                }
                () = sleep_until(self.may_search), if !self.searches.is_empty() => {
                    let search = self.searches.pop_front().filter(|(_, answer)| !answer.is_closed());
                    if let Some((asked, answer)) = search {
                        return Work::Sockets(asked, answer);
                    }
                }
                Some(request) = self.incoming.recv(), if self.refreshes.len() < WAITING => self.add(request),
                // Nobody can ask any more, and nothing waits.
                else => std::future::pending().await,
            }
        }
    }

    fn add(&mut self, request: Request) {
        match request {
            Request::Refresh(answer) => self.refreshes.push(answer),
            Request::Watch(asked, answer) => self.watches.push_back((asked, answer)),
            Request::Sockets(asked, answer) => {
                self.searches.retain(|(_, answer)| !answer.is_closed());
                // Who is not let in sees that the answer is dropped.
                if self.searches.len() < WAITING {
                    self.searches.push_back((asked, answer));
                }
            }
        }
    }

    /// A reading has taken this long; the next waits for a multiple of it.
    pub fn refreshed(&mut self, took: Duration) {
        self.may_refresh = Instant::now() + MOST_REFRESH_PAUSE.min(took * REFRESH_PAUSE);
    }

    /// A search has taken this long; the next waits for a multiple of it.
    pub fn searched(&mut self, took: Duration) {
        self.may_search = Instant::now() + took * SEARCH_PAUSE;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    fn search() -> (Request, oneshot::Receiver<Result<SocketsFound, KernelError>>) {
        let (answer, found) = oneshot::channel();
        let asked = SocketsAsked { ports: None, destination: None, address: None, source: None };
        (Request::Sockets(asked, answer), found)
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_again_and_again_share_readings_with_pauses_between() {
        let (asks, incoming) = mpsc::channel(WAITING);
        let mut requests = Requests::new(incoming);
        let asking = async {
            loop {
                let (answer, _snapshot) = oneshot::channel();
                asks.send(Request::Refresh(answer)).await.ok();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (mut readings, mut answers) = (0, 0);
        let reading = async {
            loop {
                if let Work::Refresh(asked) = requests.next().await {
                    (readings, answers) = (readings + 1, answers + asked.len());
                    requests.refreshed(Duration::from_millis(12));
                }
            }
        };
        let both = async { tokio::join!(asking, reading) };
        let _: Result<((), ()), _> = tokio::time::timeout(Duration::from_secs(2), both).await;
        assert!((18..=21).contains(&readings), "{readings} readings in two seconds");
        assert!(answers > 10 * readings, "{answers} answers");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_who_asks_does_not_wait() {
        let (asks, incoming) = mpsc::channel(WAITING);
        let (answer, _snapshot) = oneshot::channel();
        asks.send(Request::Refresh(answer)).await.ok();
        let begun = Instant::now();
        assert!(matches!(Requests::new(incoming).next().await, Work::Refresh(asked) if asked.len() == 1));
        assert!(begun.elapsed() < Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_is_begun_at_once_whatever_else_waits() {
        let (asks, incoming) = mpsc::channel(WAITING);
        let mut requests = Requests::new(incoming);
        requests.searched(Duration::from_secs(10));
        let (answer, _seen) = oneshot::channel();
        let asked = ListenAsked { address: [0, 0, 0, 0].into(), port: 80, lasts: Duration::from_secs(3) };
        asks.try_send(search().0).ok();
        asks.try_send(Request::Watch(asked, answer)).ok();
        let begun = Instant::now();
        assert!(matches!(requests.next().await, Work::Watch(asked, _) if asked.port == 80));
        assert!(begun.elapsed() < Duration::from_millis(5));
    }

    #[tokio::test(start_paused = true)]
    async fn searches_beyond_those_that_may_wait_get_no_answer() {
        let (asks, incoming) = mpsc::channel(2 * WAITING);
        let mut requests = Requests::new(incoming);
        requests.searched(Duration::from_secs(1));
        let mut found = Vec::new();
        for _ in 0..WAITING + 3 {
            let (request, answer) = search();
            asks.try_send(request).ok();
            found.push(answer);
        }
        let begun = Instant::now();
        assert!(matches!(requests.next().await, Work::Sockets(..)));
        assert!(begun.elapsed() >= Duration::from_secs(4), "the pause after a search");
        let answers = found.into_iter().map(|mut answer| answer.try_recv());
        let refused = answers.filter(|answer| matches!(answer, Err(TryRecvError::Closed)));
        assert_eq!(refused.count(), 4, "three too many, and the one that was dropped here");
    }
}
