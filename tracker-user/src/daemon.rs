//! The daemon: the one place where settings, kernel side, API and web server meet.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use axum::Router;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    api::{self, ApiSocket},
    config::Settings,
    descriptors,
    kernel::{KernelHandle, KernelThread},
    logging,
    metrics::Metrics,
    serve::{self, Listen},
    web,
};

/// Answers that are under way when the daemon stops get this long.
const PATIENCE: Duration = Duration::from_secs(2);
/// Detaching gets this long. When the process ends, the kernel takes off what is left, but for filters on clsact.
const DETACH_LIMIT: Duration = Duration::from_secs(6);
/// Whatever hangs, the process ends this long after the signal. `docker stop` kills it after ten seconds.
const STOP_LIMIT: Duration = Duration::from_secs(9);
/// Serving takes little: a scrape now and then and a command.
const WORKERS: usize = 2;

/// Runs the daemon until a signal stops it.
pub fn run(settings: &Settings) -> Result<()> {
    let log = logging::start(settings.log);
    let descriptors = descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("cannot start the threads that serve")?;
    let result = runtime.block_on(serve(settings, descriptors));
    runtime.shutdown_timeout(PATIENCE);
    drop(log);
    result
}

/// Serves until a signal, or the end of the kernel side, ends it.
async fn serve(settings: &Settings, descriptors: u64) -> Result<()> {
    let mut signals = Signals::new()?;
    let (kernel, ends) = KernelHandle::new();
    // Both sockets are bound before anything is attached, so that a wrong address changes nothing on the host.
    let listeners = web::bind(&settings.web.listen).await?;
    let (api_listener, api_file) = ApiSocket::bind(&settings.api.socket)?.into_parts();
    let addresses: Vec<_> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let metrics = Metrics::new(kernel.clone());
    let mut servers = Servers::new(descriptors::connections_per_listener(descriptors, listeners.len() + 1));
    for listener in listeners {
        servers.start(listener, web::router(kernel.clone(), metrics.clone(), &settings.web.telemetry_path));
    }
    servers.start(api_listener, api::router(kernel.clone()));
    let mut thread = KernelThread::start(&settings.kernel, ends)?;
    let result = tokio::select! {
        error = run_until_end(&mut thread, &kernel, || announce(settings, &addresses)) => Err(error),
        name = signals.stop() => {
            tracing::info!("stopping on {name}");
            Ok(())
        }
    };
    limit_stop();
    notify(sd_notify::NotifyState::Stopping);
    servers.stop().await;
    drop(api_file);
    if result.is_ok() {
        thread.stop();
        if let Ok(ended) = tokio::time::timeout(DETACH_LIMIT, thread.ended()).await {
            ended?;
        } else {
            tracing::warn!(
                "detaching takes long; the kernel does the rest when the process ends, but before Linux 6.6 programs \
                 on clsact stay until the next start"
            );
        }
    }
    result
}

/// Says when the kernel side is ready, and why it has ended.
async fn run_until_end(thread: &mut KernelThread, kernel: &KernelHandle, ready: impl FnOnce()) -> anyhow::Error {
    let announced = async {
        if kernel.started().await {
            ready();
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = thread.ended() => ended,
        () = announced => Ok(()),
    };
    // It got no signal to end.
    ended.map_or_else(anyhow::Error::from, |()| anyhow!("the kernel thread ended by itself"))
}

/// Ends the process after a time, whatever hangs then: a reader of standard error that stopped, or the kernel.
fn limit_stop() {
    let end = || {
        std::thread::sleep(STOP_LIMIT);
        std::process::exit(1);
    };
    // Without the thread there is no limit, which is no reason not to stop.
    let _ = std::thread::Builder::new().name("stop-limit".into()).spawn(end);
}

fn announce(settings: &Settings, addresses: &[SocketAddr]) {
    for address in addresses {
        tracing::info!("metrics on http://{address}{}", settings.web.telemetry_path);
    }
    tracing::info!("commands on {}", settings.api.socket.display());
    notify(sd_notify::NotifyState::Ready);
}

/// Notifies systemd, where it runs the daemon.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("cannot notify the service manager: {error}");
    }
}

/// The signals that the daemon listens for.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// The next one on which the daemon stops; one that came earlier counts.
    async fn stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.quit.recv() => return "SIGQUIT",
                _ = self.hang_up.recv() => {
                    tracing::warn!("SIGHUP changes nothing: settings are read at start alone; restart to change them");
                }
            }
        }
    }
}

/// The servers that run.
struct Servers {
    tasks: JoinSet<()>,
    stopping: watch::Sender<bool>,
    /// Most connections of each.
    connections: usize,
}

impl Servers {
    fn new(connections: usize) -> Self {
        Self { tasks: JoinSet::new(), stopping: watch::Sender::new(false), connections }
    }

    fn start(&mut self, listener: impl Listen, router: Router) {
        self.tasks.spawn(serve::serve(listener, router, self.connections, self.stopping.subscribe()));
    }

    /// Takes no more connections, and lets answers under way be finished.
    async fn stop(mut self) {
        self.stopping.send_replace(true);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("an answer was cut short: its reader took longer than {} s", PATIENCE.as_secs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kernel_thread_that_panics_ends_the_daemon_with_its_text() {
        let (kernel, ends) = KernelHandle::new();
        let mut thread = KernelThread::spawn(move |_stop| {
            let _ends = ends;
            panic!("the table is gone")
        })
        .unwrap();
        let error = run_until_end(&mut thread, &kernel, || ()).await;
        assert_eq!(error.to_string(), "the kernel thread panicked: the table is gone");
    }
}
