//! Loads that are no floods, each watched for minutes.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_model::api::{AlertKind, Class};

use super::{
    lab::{self, Lab},
    loads,
    watch::Watch,
};
use crate::{load_clients::Seen, pair::Pair};

/// How often the daemon is asked.
const LOOK: Duration = Duration::from_millis(500);

/// A load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Its name.
    pub name: &'static str,
    /// What it is, for the table.
    pub what: &'static str,
    /// The alert that it must raise, with its class; no other may be seen, and never a SYN flood.
    pub alert: Option<(AlertKind, Option<Class>)>,
    /// Whether it needs the machine for itself.
    pub heavy: bool,
    /// Its link loses and delays.
    slow: bool,
    /// Whether nginx serves it; otherwise it brings its own server.
    nginx: bool,
    drive: fn(&Lab, Instant) -> Result<Seen>,
}

const LIGHT: Load =
    Load { name: "", what: "", alert: None, heavy: false, slow: false, nginx: true, drive: loads::surge };

/// All of them.
pub const LOADS: [Load; 7] = [
    Load {
        name: "surge",
        what: "from 0 to the machine's limit and back, 20,000 sources",
        heavy: true,
        drive: loads::surge,
        ..LIGHT
    },
    Load {
        name: "restart",
        what: "500/s, nginx restarted every 20 s",
        heavy: true,
        nginx: false,
        drive: loads::restart,
        ..LIGHT
    },
    Load {
        name: "client_pool",
        what: "2,000 connections at once every 15 s, backlog 511 and 4,096",
        nginx: false,
        drive: loads::client_pool,
        ..LIGHT
    },
    Load {
        name: "slow_network",
        what: "300 ms, 2 % loss each way, 200/s",
        slow: true,
        drive: loads::slow_network,
        ..LIGHT
    },
    Load {
        name: "health_checks",
        what: "connect and reset 100/s, half-open and reset 10/s",
        drive: loads::health_checks,
        ..LIGHT
    },
    Load {
        name: "port_scan",
        what: "ports 1 to 7,999, 300/s, beside 100/s of clients",
        alert: Some((AlertKind::PortScan, None)),
        drive: loads::port_scan,
        ..LIGHT
    },
    Load {
        name: "slow_accept",
        what: "accept() stops for 20 s of each minute, 100/s of clients",
        alert: Some((AlertKind::AcceptOverflow, Some(Class::SlowAccept))),
        nginx: false,
        drive: loads::slow_accept,
        ..LIGHT
    },
];

/// A load, watched.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Which.
    pub name: String,
    /// For how long.
    pub minutes: f64,
    /// What became of its connections.
    pub seen: Seen,
    /// SYNs that arrived.
    pub alerts: Vec<String>,
    /// The slowest answer of the API.
    pub slowest: Duration,
    /// What should not have been.
    pub failures: Vec<String>,
}

impl Watched {
    /// A load that could not be run.
    #[must_use]
    pub fn broken(name: &str, error: &anyhow::Error) -> Self {
        Self { name: name.to_owned(), failures: vec![format!("{error:#}")], ..Self::default() }
    }
}

impl Load {
    /// The load of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        LOADS.into_iter().find(|load| load.name == name)
    }

    /// Runs it for this long, on a daemon of its own.
    pub fn run(&self, lasting: Duration, record: Option<&PathBuf>) -> Result<Watched> {
        let pair = if self.slow { loads::slow_pair()? } else { Pair::plain()? };
        let lab = Lab::on(pair, 1, if self.nginx { 2 } else { 0 })?;
        let daemon = lab.daemon(record)?;
        let mut watch = Watch::new(lab::api(&daemon), &lab.client)?;
        let driven = AtomicBool::new(false);
        let start = Instant::now();
        let (seen, watched) = thread::scope(|scope| {
            let watched = scope.spawn(|| {
                let watched = watch.until(LOOK, lasting + Duration::from_mins(1), |_| driven.load(Ordering::Relaxed));
                (watch, watched)
            });
            let seen = (self.drive)(&lab, start + lasting);
            driven.store(true, Ordering::Relaxed);
            (seen, watched.join().expect("the watcher does not panic"))
        });
        let (watch, watched_all) = watched;
        let mut result = self.evaluate(&watch, seen?);
        result.minutes = start.elapsed().as_secs_f64() / 60.0;
        if let Err(error) = watched_all {
            result.failures.push(format!("the daemon stopped answering: {error:#}"));
        }
        daemon.stop(Signal::SIGTERM).context("stop the daemon")?;
        Ok(result)
    }

    fn evaluate(&self, watch: &Watch<'_>, seen: Seen) -> Watched {
        let mut failures = Vec::new();
        let mut alerts = Vec::new();
        for kind in [AlertKind::SynFlood, AlertKind::AcceptOverflow, AlertKind::PortScan] {
            let of_kind = watch.seen(kind);
            for alert in &of_kind {
                let port = alert.subject.port.map_or("-".to_owned(), |port| port.to_string());
                alerts.push(format!("{} {} port {port}", kind.name(), alert.class.map_or("-", Class::name)));
            }
            if kind == AlertKind::SynFlood && !of_kind.is_empty() {
                let first = of_kind[0];
                failures.push(format!("called a flood {} times: {}", of_kind.len(), first.summary));
            }
            match self.alert {
                Some((wanted, class)) if wanted == kind => {
                    let right = |alert: &&&tracker_model::api::Alert| class.is_none() || alert.class == class;
                    if !of_kind.iter().any(|alert| right(&alert)) {
                        failures.push(format!("no {} was called", kind.name()));
                    }
                    let lacks_queue = |alert: &&tracker_model::api::Alert| {
                        alert.evidence.flood().expect("of a flood").accept_queue.is_none()
                    };
                    if wanted == AlertKind::AcceptOverflow && of_kind.iter().any(lacks_queue) {
                        failures.push("an alert without the accept queue".to_owned());
                    }
                }
                _ if !of_kind.is_empty() => failures.push(format!("{} was called", kind.name())),
                _ => {}
            }
        }
        let (slowest, _) = watch.slowest();
        if seen.done == 0 {
            failures.push(format!("no client was served: {seen:?}"));
        }
        Watched { name: self.name.to_owned(), minutes: 0.0, seen, alerts, slowest, failures }
    }
}
