//! Serves HTTP, and bounds what clients can take: connections, memory and time. A scrape must be answered while others
//! hold connections open with requests that they do not finish, or with answers that they do not read.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use crate::descriptors;

/// A connection is closed when the client takes longer to send a request, or to read an answer.
pub const PHASE_LIMIT: Duration = Duration::from_secs(10);
/// How long an answer may be on its way before it is cut short to make room for a new connection; without descriptors,
/// also how long a client may take to begin its request.
const GRACE: Duration = Duration::from_millis(100);
/// Pause before looking for room again, and after an error of `accept()`.
const RETRY: Duration = Duration::from_millis(20);
/// Most memory for the head of a request, and for answers that wait in line behind one.
pub const BUFFER: usize = 16 << 10;

/// A socket that takes connections.
pub trait Listen: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// The next connection.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// Serves at most `most` connections at once until `stop` is set, then lets answers under way be finished.
pub async fn serve(listener: impl Listen, router: Router, most: usize, mut stop: watch::Receiver<bool>) {
    let mut connections = Connections::default();
    let mut has_failed = false;
    loop {
        let accepted = tokio::select! {
            biased;
            // An error says that the sender is gone, which is a stop too.
            _ = stop.wait_for(|set| *set) => break,
            accepted = listener.next() => accepted,
        };
        match accepted {
            Ok(stream) => {
                connections.make_room(most).await;
                connections.add(stream, router.clone(), stop.clone());
                has_failed = false;
                // The request is often there already: it must be read before others push the connection out.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if !std::mem::replace(&mut has_failed, true) {
                    let hint = descriptors::hint(&error).unwrap_or("trying again");
                    tracing::warn!("cannot accept a connection: {error}; {hint}");
                }
                if descriptors::hint(&error).is_some() {
                    connections.close_idle();
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    drop(listener);
    while connections.tasks.join_next().await.is_some() {}
}

/// What a connection does. Those that come first are closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It waits for a request, or for the rest of one.
    Reading,
    /// It waits for the client to read the answer.
    Writing,
    /// It waits for the daemon's answer.
    Handling,
}

/// The phase of a connection, and when it began.
#[derive(Clone, Debug)]
struct Progress(Arc<Mutex<(Phase, Instant)>>);

impl Progress {
    fn start() -> Self {
        Self(Arc::new(Mutex::new((Phase::Reading, Instant::now()))))
    }

    fn get(&self) -> (Phase, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (phase, Instant::now());
    }

    /// Ends when the client takes too long.
    async fn expire(&self) {
        loop {
            let (phase, since) = self.get();
            let left = PHASE_LIMIT.saturating_sub(since.elapsed());
            if left.is_zero() && phase != Phase::Handling {
                return;
            }
            tokio::time::sleep(left.max(RETRY)).await;
        }
    }
}

/// The connections of a listener.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: Vec<(AbortHandle, Progress)>,
}

impl Connections {
    fn add(
        &mut self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        router: Router,
        stop: watch::Receiver<bool>,
    ) {
        let progress = Progress::start();
        let task = self.tasks.spawn(answer(stream, router, progress.clone(), stop));
        self.open.push((task, progress));
    }

    /// Closes the connection whose client has kept the daemon waiting longest: it holds a descriptor that is missing.
    fn close_idle(&mut self) {
        self.open.retain(|(task, _)| !task.is_finished());
        let is_idle = |(phase, since): (Phase, Instant)| phase != Phase::Handling && since.elapsed() >= GRACE;
        let idle = self.open.iter().enumerate().filter(|(_, (_, progress))| is_idle(progress.get()));
        if let Some((index, _)) = idle.min_by_key(|(_, (_, progress))| progress.get()) {
            self.open.swap_remove(index).0.abort();
        }
    }

    /// Waits until there is room for one more. Closes the connection that has waited for a request longest; without
    /// one, that whose answer is read most slowly. One that waits for the daemon is left alone.
    async fn make_room(&mut self, most: usize) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.open.retain(|(task, _)| !task.is_finished());
            if self.open.len() < most {
                return;
            }
            let oldest = self.open.iter().enumerate().min_by_key(|(_, (_, progress))| progress.get());
            if let Some((index, (_, progress))) = oldest
                && match progress.get() {
                    (Phase::Reading, _) => true,
                    (Phase::Writing, since) => since.elapsed() >= GRACE,
                    (Phase::Handling, _) => false,
                }
            {
                self.open.swap_remove(index).0.abort();
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Answers the requests of a connection, one after the other.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    router: Router,
    progress: Progress,
    mut stop: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        progress.enter(Phase::Handling);
        let (answer, progress) = (router.call(request), progress.clone());
        async move {
            let answer = answer.await;
            progress.enter(Phase::Writing);
            answer
        }
    });
    let io = TokioIo::new(Tracked { stream, progress: progress.clone() });
    let mut connection = pin!(http1::Builder::new().max_buf_size(BUFFER).serve_connection(io, service));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // An error is the client's: it hung up, or sent what is no HTTP.
            _ = connection.as_mut() => return,
            () = progress.expire() => return,
            _ = stop.wait_for(|set| *set), if !is_stopping => {
                if progress.get().0 == Phase::Reading {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                is_stopping = true;
            }
        }
    }
}

/// A stream that notices when an answer is written.
struct Tracked<S> {
    stream: S,
    progress: Progress,
}

impl<S: AsyncRead + Unpin> AsyncRead for Tracked<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tracked<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written all it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.get().0 == Phase::Writing {
            self.progress.enter(Phase::Reading);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
