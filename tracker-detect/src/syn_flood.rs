//! The flood detector: from counts of SYNs and completed handshakes to a verdict that an operator can act on.
//!
//! For each listener a statistic (`syn/cusum`) of SYNs that are known to be unanswered (`history`) and more than usual
//! (`baseline`). When it is large and lasts, queues (`queues`) and sources (`sources`) say what it is, and an incident
//! (`incident`) carries it from onset to end as one alert. SYNs to no listener: `closed_ports`, and `scan`. The method
//! and its limits: docs/detection.md.

use std::{collections::BTreeMap, time::Duration};

use tracker_model::{
    api::{Alert, SourceShare},
    counters::HandshakeStats,
};

use crate::{
    alert::AlertStore,
    detector::{Detector, Observation},
    syn::{
        ListenerId, ListenerObservation, Sensitivity, SubjectStatus, SynObservation,
        closed_ports::ClosedPorts,
        listener::Listener,
        settings::{AGAIN, Settings},
        subject::ObservationContext,
        tcp_ext::NamespaceHistory,
    },
};

/// Listeners that are remembered after they closed: a service that restarts has the usual rates it had.
const CLOSED: usize = 256;

/// Watches all listeners of a host, and its ports without one.
#[derive(Debug)]
pub struct SynFlood {
    sensitivity: Sensitivity,
    first: Option<Duration>,
    at: Option<Duration>,
    listeners: BTreeMap<ListenerId, Listener>,
    closed_ports: Option<ClosedPorts>,
    namespace: NamespaceHistory,
    alerts: AlertStore,
}

/// The detector, whose alerts go into `alerts`.
pub(crate) fn detector(sensitivity: Sensitivity, alerts: AlertStore) -> Box<dyn Detector> {
    Box::new(SynFlood::new(sensitivity, alerts))
}

impl Detector for SynFlood {
    fn observe(&mut self, observation: &Observation) {
        if let Observation::Syns(observation) = observation {
            self.step(observation);
        }
    }
}

impl SynFlood {
    /// A detector that has seen nothing, whose alerts go into `alerts`.
    #[must_use]
    pub fn new(sensitivity: Sensitivity, alerts: AlertStore) -> Self {
        Self {
            sensitivity,
            first: None,
            at: None,
            listeners: BTreeMap::new(),
            closed_ports: None,
            namespace: NamespaceHistory::default(),
            alerts,
        }
    }

    /// Adds an observation. One that is not later than the last is ignored.
    pub fn step(&mut self, observation: &SynObservation) {
        if self.at.is_some_and(|at| at >= observation.at) {
            return;
        }
        self.at = Some(observation.at);
        let (mut namespace, alerts) = (std::mem::take(&mut self.namespace), self.alerts.clone());
        namespace.push(observation.at, observation.namespace);
        let context = ObservationContext {
            at: observation.at,
            first: *self.first.get_or_insert(observation.at),
            wall: observation.wall,
            namespace: &namespace,
            census_error: observation.census_error.as_deref(),
            alerts: &alerts,
        };
        for seen in &observation.listeners {
            self.step_listener(seen, &context);
        }
        let followed = self.step_closed(observation, &context);
        let netns = Some(observation.netns).filter(|netns| *netns != 0);
        if let Some(closed_ports) = &mut self.closed_ports {
            closed_ports.step(&observation.closed_ports, &followed, netns, &context);
        } else {
            let settings = Settings::port(self.sensitivity);
            self.closed_ports = Some(ClosedPorts::new(settings, &observation.closed_ports, observation.at));
        }
        self.namespace = namespace;
    }

    fn step_listener(&mut self, seen: &ListenerObservation, context: &ObservationContext) {
        match self.listeners.get_mut(&seen.id) {
            // Named twice in one observation.
            Some(listener) if listener.seen == context.at => {}
            Some(listener) => listener.step(seen, true, context),
            None => {
                let settings = Settings::listener(self.sensitivity);
                self.listeners.insert(seen.id, Listener::new(settings, seen, context.at));
            }
        }
    }

    /// Follows the ports of listeners that have closed during a flood, and returns them.
    fn step_closed(&mut self, observation: &SynObservation, context: &ObservationContext) -> Vec<u16> {
        let mut followed = Vec::new();
        for (id, listener) in self.listeners.iter_mut().filter(|(_, listener)| listener.seen < context.at) {
            // SYNs to a port without a listener are counted by port alone. When two listeners of one port close during
            // a flood, such as 0.0.0.0:80 and [::]:80, the first follows the port and the alert of the other ends.
            if listener.flooded() && !followed.contains(&id.port) {
                let counted = observation.closed_ports.ports.iter().find(|(port, _)| *port == id.port);
                let seen = ListenerObservation {
                    id: *id,
                    syns: counted.map_or(0, |(_, syns)| *syns),
                    undelivered: 0,
                    drop_reasons: Vec::new(),
                    completed: 0,
                    aborted: 0,
                    handshake_p95_us: None,
                    sample: HandshakeStats::default(),
                    queues: None,
                    device: None,
                    worst_socket: None,
                    sources: observation.closed_ports.sources.clone(),
                };
                listener.step(&seen, false, context);
                followed.push(id.port);
            } else {
                listener.close(context);
            }
        }
        self.listeners.retain(|_, listener| context.at.saturating_sub(listener.seen) <= AGAIN);
        while self.listeners.len() > observation.listeners.len() + CLOSED {
            let closed = self.listeners.iter().min_by_key(|(_, listener)| listener.seen).map(|(id, _)| *id);
            closed.map(|id| self.listeners.remove(&id));
        }
        followed
    }

    /// What there is to say of a listener.
    #[must_use]
    pub fn listener(&self, id: &ListenerId) -> SubjectStatus {
        self.listeners.get(id).map(Listener::status).unwrap_or_default()
    }

    /// What there is to say of the SYNs that meet no listener.
    #[must_use]
    pub fn no_listener(&self) -> SubjectStatus {
        self.closed_ports.as_ref().map(ClosedPorts::status).unwrap_or_default()
    }

    /// Sources of the SYNs that meet no listener, with the largest shares, at most ten.
    #[must_use]
    pub fn no_listener_sources(&self) -> Vec<SourceShare> {
        self.closed_ports.as_ref().map(ClosedPorts::sources).unwrap_or_default()
    }

    /// The statistic of a listener: seconds of its usual completions (taken as 100/s at least) that went unanswered
    /// beyond what is usual. For tests and for tuning.
    #[must_use]
    pub fn statistic(&self, listener: &ListenerId) -> Option<f64> {
        self.listeners.get(listener).map(|listener| listener.cusum.statistic)
    }

    /// All alerts of the store that it writes to: firing ones first, then resolved ones, each newest first.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.alerts()
    }

    /// Whether a census now would help: a listener is under suspicion, or an alarm needs to be followed.
    #[must_use]
    pub fn wants_census(&self) -> bool {
        self.at.is_some_and(|at| self.listeners.values().any(|listener| listener.wants_queues(at)))
    }
}
