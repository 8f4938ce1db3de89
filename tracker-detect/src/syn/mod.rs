//! The flood detector: from counts of SYNs and completed handshakes to a verdict an operator can act on.
//!
//! For each listener a statistic (`gauge`) of SYNs that are known to be unanswered (`history`) and more than usual
//! (`usual`); when it is large and lasts, queues (`queues`) and sources (`sources`) tell what it is, and an incident
//! (`incident`) carries it from onset to end as one alert (`alerts`). SYNs to no listener are `refused`. The method and
//! its limits: docs/detection.md.

mod baseline;
mod closed_ports;
mod cusum;
mod evidence;
mod history;
mod incident;
mod listener;
mod observation;
mod queues;
mod record;
mod scan;
mod settings;
mod sources;
mod subject;
mod surge;
mod tcp_ext;
mod text;

use std::{collections::BTreeMap, time::Duration};

pub use observation::{ListenerId, ListenerSeen, Observation, QueuesSeen, RefusedSeen, SourcesSeen};

use closed_ports::Refused;
use listener::{Input, Listener};
use settings::{AGAIN, Settings};
use subject::Moment;
use tcp_ext::NamespaceHistory;

use crate::alert::AlertStore;
use tracker_model::api::{Alert, AlertKind, SourceShare, Verdict};

/// How readily the detector calls a flood: the one thing an operator may tune.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sensitivity {
    /// Later, and only for large floods.
    Low,
    /// As tested.
    #[default]
    Medium,
    /// Sooner, and for small ones too.
    High,
}

/// The kinds of alert that it opens. They are one detector: each is decided against the others.
pub const KINDS: &[AlertKind] = &[AlertKind::SynFlood, AlertKind::AcceptOverflow, AlertKind::PortScan];

/// Listeners that are remembered after they closed: a service that restarts has the usual rates it had.
const CLOSED: usize = 256;

/// Watches all listeners of a host.
#[derive(Debug)]
pub struct Detector {
    sensitivity: Sensitivity,
    at: Option<Duration>,
    listeners: BTreeMap<ListenerId, Listener>,
    refused: Option<Refused>,
    namespace: NamespaceHistory,
    alerts: AlertStore,
}

impl Detector {
    /// A detector that has seen nothing, whose alerts go into `alerts`.
    #[must_use]
    pub fn new(sensitivity: Sensitivity, alerts: AlertStore) -> Self {
        Self {
            sensitivity,
            at: None,
            listeners: BTreeMap::new(),
            refused: None,
            namespace: NamespaceHistory::default(),
            alerts,
        }
    }

    /// Takes in one observation. Those that are not later than the last are left out.
    pub fn step(&mut self, observation: &Observation) {
        if self.at.is_some_and(|at| at >= observation.at) {
            return;
        }
        self.at = Some(observation.at);
        let mut namespace = std::mem::take(&mut self.namespace);
        namespace.push(observation.at, observation.namespace);
        let moment = Moment {
            at: observation.at,
            wall: observation.wall,
            namespace: &namespace,
            census_error: observation.census_error.as_deref(),
        };
        for seen in &observation.listeners {
            self.step_listener(seen, &moment);
        }
        let followed = self.step_closed(observation, &moment);
        let netns = Some(observation.netns).filter(|netns| *netns != 0);
        if let Some(refused) = &mut self.refused {
            refused.step(&observation.refused, &followed, netns, &moment, &self.alerts);
        } else {
            let settings = Settings::port(self.sensitivity);
            self.refused = Some(Refused::new(settings, &observation.refused, observation.at));
        }
        self.namespace = namespace;
    }

    fn step_listener(&mut self, seen: &ListenerSeen, moment: &Moment) {
        let input = Input {
            syns: seen.syns,
            completed: seen.completed,
            handshake_p95_us: seen.handshake_p95_us,
            flow: Some(seen.sample),
            queues: seen.queues,
            sources: seen.sources.as_ref(),
            open: true,
        };
        match self.listeners.get_mut(&seen.id) {
            // Named twice in one observation.
            Some(listener) if listener.seen == moment.at => {}
            Some(listener) => listener.step(&input, moment, &self.alerts),
            None => {
                let settings = Settings::listener(self.sensitivity);
                self.listeners.insert(seen.id, Listener::new(seen.id, settings, &input, moment.at));
            }
        }
    }

    /// Listeners that have closed: the ports of those in mid-flood are followed, and the answer names them.
    fn step_closed(&mut self, observation: &Observation, moment: &Moment) -> Vec<u16> {
        let mut followed = Vec::new();
        for (id, listener) in self.listeners.iter_mut().filter(|(_, listener)| listener.seen < moment.at) {
            // SYNs to a port without a listener are counted by port alone. When two listeners of one port close in mid-flood,
            // such as 0.0.0.0:80 and [::]:80, the first follows the port and the alert of the other ends.
            if listener.flooded() && !followed.contains(&id.port) {
                let counted = observation.refused.ports.iter().find(|(port, _)| *port == id.port);
                let input = Input {
                    syns: counted.map_or(0, |(_, syns)| *syns),
                    completed: 0,
                    handshake_p95_us: None,
                    flow: None,
                    queues: None,
                    sources: observation.refused.sources.as_ref(),
                    open: false,
                };
                listener.step(&input, moment, &self.alerts);
                followed.push(id.port);
            } else {
                listener.close(moment, &self.alerts);
            }
        }
        self.listeners.retain(|_, listener| moment.at.saturating_sub(listener.seen) <= AGAIN);
        while self.listeners.len() > observation.listeners.len() + CLOSED {
            let closed = self.listeners.iter().min_by_key(|(_, listener)| listener.seen).map(|(id, _)| *id);
            closed.map(|id| self.listeners.remove(&id));
        }
        followed
    }

    /// The verdict on a listener; none before its second observation.
    #[must_use]
    pub fn verdict(&self, listener: &ListenerId) -> Option<Verdict> {
        self.listeners.get(listener)?.verdict
    }

    /// The verdict on SYNs that meet no listener; none before the second observation.
    #[must_use]
    pub fn no_listener(&self) -> Option<Verdict> {
        self.refused.as_ref()?.verdict
    }

    /// Sources of the SYNs that meet no listener, with the largest shares, at most ten.
    #[must_use]
    pub fn no_listener_sources(&self) -> Vec<SourceShare> {
        self.refused.as_ref().map(Refused::sources).unwrap_or_default()
    }

    /// The statistic of a listener: seconds of its usual completions (taken as 100/s at least) that went unanswered beyond what
    /// is usual. Shown to tests and to those who tune.
    #[must_use]
    pub fn statistic(&self, listener: &ListenerId) -> Option<f64> {
        self.listeners.get(listener).map(Listener::statistic)
    }

    /// Whether a listener is under suspicion or alarm, or was a minute ago: its sources are then to be read at every
    /// observation, and the distinct ones summed up from when this became true.
    #[must_use]
    pub fn watches(&self, listener: &ListenerId) -> bool {
        self.listeners.get(listener).is_some_and(Listener::watched)
    }

    /// The same of the SYNs that meet no listener.
    #[must_use]
    pub fn watches_no_listener(&self) -> bool {
        self.refused.as_ref().is_some_and(Refused::watched)
    }

    /// When that began for which a listener is watched, on the clock of [`Observation::at`], as far as it is known: distinct
    /// sources are to be summed up from then on.
    #[must_use]
    pub fn watched_from(&self, listener: &ListenerId) -> Option<Duration> {
        self.listeners.get(listener)?.onset()
    }

    /// The same of the SYNs that meet no listener.
    #[must_use]
    pub fn no_listener_watched_from(&self) -> Option<Duration> {
        self.refused.as_ref()?.onset()
    }

    /// Whether queues of this moment would help: some listener is under suspicion, or an alarm needs to be followed.
    #[must_use]
    pub fn wants_census(&self) -> bool {
        self.at.is_some_and(|at| self.listeners.values().any(|listener| listener.wants_queues(at)))
    }

    /// All alerts of the store that this detector writes to: firing ones first, then resolved ones, newest first.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.alerts()
    }
}
