//! The daemon: the one place where settings, kernel side, API and web server meet.

use std::{future::IntoFuture as _, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use axum::Router;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    api::{self, ApiSocket},
    config::Settings,
    kernel::{self, Kernel},
    logging,
    metrics::Metrics,
    source::KernelSource,
    web,
};

/// Answers that are under way when the daemon stops get this long.
const PATIENCE: Duration = Duration::from_secs(2);
/// Serving takes little: a scrape now and then and a command.
const WORKERS: usize = 2;

/// Runs the daemon until it is told to stop.
pub fn run(settings: &Settings) -> Result<()> {
    logging::start(settings.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .on_thread_start(kernel::prefer)
        .enable_all()
        .build()
        .context("cannot start the threads that serve")?;
    let result = runtime.block_on(serve(settings));
    runtime.shutdown_timeout(PATIENCE);
    result
}

/// Both sockets are bound before anything is attached, so that a wrong address changes nothing on the host.
async fn serve(settings: &Settings) -> Result<()> {
    let mut stop = StopSignals::new()?;
    let listeners = web::bind(&settings.web.listen).await?;
    let (api_listener, api_file) = ApiSocket::bind(&settings.api.socket)?.into_parts();

    let source = Arc::new(KernelSource::default());
    let metrics = Metrics::new(source.clone())?;
    let mut servers = Servers::default();
    for listener in listeners {
        let router = web::router(source.clone(), metrics.clone(), &settings.web.telemetry_path);
        servers.start(listener, router);
    }
    servers.start(api_listener, api::router(source.clone()));

    let kernel_settings = settings.kernel.clone();
    let started = tokio::task::spawn_blocking(move || Kernel::start(&kernel_settings)).await;
    let result = match started.context("the kernel side panicked")? {
        Ok(kernel) => {
            source.put(kernel);
            announce(settings);
            let name = stop.next().await;
            tracing::info!("stopping on {name}");
            notify(sd_notify::NotifyState::Stopping);
            Ok(())
        }
        Err(error) => Err(error.into()),
    };
    servers.stop().await;
    drop(api_file);
    detach(&source).await;
    result
}

fn announce(settings: &Settings) {
    for address in &settings.web.listen {
        tracing::info!("metrics on http://{address}{}", settings.web.telemetry_path);
    }
    tracing::info!("commands on {}", settings.api.socket.display());
    notify(sd_notify::NotifyState::Ready);
}

/// Tells systemd, where it wants to be told.
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("cannot notify the service manager: {error}");
    }
}

/// Takes the programs off the kernel. A refresh that is under way is waited for.
async fn detach(source: &KernelSource) {
    let Some(mut kernel) = source.take() else { return };
    loop {
        match Arc::try_unwrap(kernel) {
            Ok(kernel) => {
                if tokio::task::spawn_blocking(|| kernel.stop()).await.is_err() {
                    tracing::error!("the kernel side panicked while it stopped");
                }
                return;
            }
            Err(held) => kernel = held,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The signals on which the daemon stops.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// The next of them; one that came earlier counts.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The servers that run.
struct Servers {
    tasks: JoinSet<std::io::Result<()>>,
    stopping: watch::Sender<bool>,
}

impl Default for Servers {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), stopping: watch::Sender::new(false) }
    }
}

impl Servers {
    fn start<L>(&mut self, listener: L, router: Router)
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let stopped = wait_until_set(self.stopping.subscribe());
        self.tasks.spawn(axum::serve(listener, router).with_graceful_shutdown(stopped).into_future());
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

async fn wait_until_set(mut flag: watch::Receiver<bool>) {
    // An error says that the sender is gone, which is a stop too.
    let _ = flag.wait_for(|set| *set).await;
}
