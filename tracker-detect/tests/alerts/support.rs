//! What the tests see: plain values with everything filled in, and connections that come and go.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tracker_common::state;

use tracker_detect::{
    alert::AlertStore,
    detector::Observation,
    ports::{
        PortModel, PortSet, PortSettings, PortsObservation, RECENT, TIME_WAIT, TupleObservation, TwReuse,
        UdpObservation,
    },
    registry::Detectors,
    syn::Sensitivity,
};
use tracker_model::{
    api::{Alert, PortConflict, PortEvidence, PortFailure, PortRest, PortUse, Ports},
    process::Process,
};

/// A network namespace.
pub const NETNS: u32 = 4_026_531_840;

/// The model of ports with all detectors.
pub struct Watch {
    pub model: PortModel,
    store: AlertStore,
    detectors: Detectors,
}

impl Default for Watch {
    fn default() -> Self {
        let store = AlertStore::default();
        Self { model: PortModel::default(), detectors: Detectors::new(Sensitivity::Medium, &store), store }
    }
}

impl Watch {
    /// Shows a census of ports, and returns the alerts.
    pub fn step(&mut self, seen: &PortsObservation) -> Vec<Alert> {
        if let Some(reading) = self.model.update(seen) {
            self.detectors.observe(&Observation::Ports(reading));
        }
        self.store.alerts()
    }

    /// Shows another observation, and returns the alerts.
    pub fn show(&mut self, observation: &Observation) -> Vec<Alert> {
        self.detectors.observe(observation);
        self.store.alerts()
    }

    /// A network namespace is gone.
    pub fn forget(&mut self, netns: u32, wall: Timestamp) -> Vec<Alert> {
        self.model.forget(netns);
        self.show(&Observation::NetnsGone { netns, wall })
    }

    pub fn ports(&self) -> Arc<Ports> {
        self.model.ports()
    }

    /// The row of the worst destination.
    pub fn row(&self) -> PortUse {
        self.ports().ports[0].clone()
    }
}

/// The figures of an alert on ports.
pub fn evidence(alert: &Alert) -> &PortEvidence {
    alert.evidence.ports().unwrap()
}

/// The time of day `at` seconds after the first look.
pub fn wall(at: f64) -> Timestamp {
    let start = Timestamp::from_second(1_800_000_000).unwrap();
    start + SignedDuration::from_secs_f64((at * 1e6).round() / 1e6)
}

/// A tuple with established connections and others in `TIME_WAIT`.
pub fn tuple(open: u16, time_wait: u16) -> TupleObservation {
    let mut states = [0; state::COUNT];
    states[usize::from(state::ESTABLISHED)] = open;
    states[usize::from(state::TIME_WAIT)] = time_wait;
    TupleObservation {
        source: "10.0.0.5".parse().unwrap(),
        destination: "192.0.2.7".parse().unwrap(),
        destination_port: 443,
        states,
        bound: 0,
        recyclable: 0,
        recent: 0,
        next_free: None,
        processes: Vec::new(),
        made_by: Vec::new(),
        ranges: Vec::new(),
        all_ranged: false,
    }
}

/// A look at these tuples, with a range of 1,000 ports.
pub fn seen(at: f64, tuples: Vec<TupleObservation>) -> PortsObservation {
    PortsObservation {
        at: Duration::from_secs_f64(at),
        wall: wall(at),
        netns: NETNS,
        name: None,
        settings: PortSettings { low: 40_000, high: 40_999, tw_reuse: TwReuse::Off, ..PortSettings::default() },
        bound: PortSet::default(),
        udp: UdpObservation::default(),
        tuples,
        rest: PortRest::default(),
        sources: Vec::new(),
        sources_lost: 0,
        ranges_lost: 0,
        failures: Vec::new(),
        conflicts: Vec::new(),
    }
}

/// Failures of the tuple of [`tuple`].
pub fn failure(count: u64, first: f64, last: f64) -> PortFailure {
    let of = tuple(0, 0);
    PortFailure {
        netns: NETNS,
        source: Some(of.source),
        source_port: None,
        local_port_range: None,
        destination: of.destination,
        destination_port: of.destination_port,
        process: Process { pid: 77, comm: "curl".to_owned() },
        cgroup: 4_711,
        uid: 1_000,
        count,
        first: wall(first),
        last: wall(last),
    }
}

/// Three refused calls of `bind()` by nginx.
pub fn conflict(protocol: &str, address: &str, port: u16, pid: u32) -> PortConflict {
    PortConflict {
        netns: NETNS,
        protocol: protocol.to_owned(),
        address: address.parse().unwrap(),
        port,
        process: Process { pid, comm: "nginx".to_owned() },
        cgroup: 1,
        uid: 0,
        count: 3,
        first: wall(8.0),
        last: wall(9.0),
        holders: Vec::new(),
    }
}

/// Random moments.
pub struct Chance(fastrand::Rng);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// From 0 to 1.
    pub fn share(&mut self) -> f64 {
        self.0.f64()
    }

    /// Moments of a Poisson process with `rate` events a second, in order.
    pub fn arrivals(&mut self, rate: f64, from: f64, to: f64) -> Vec<f64> {
        let mut at = from;
        let next = || {
            at -= (1.0 - self.share()).max(f64::MIN_POSITIVE).ln() / rate;
            Some(at)
        };
        std::iter::from_fn(next).take_while(|at| *at < to).collect()
    }

    /// Moments of looks: one every `interval` seconds, a tenth of that more or less.
    pub fn looks(&mut self, interval: f64, to: f64) -> Vec<f64> {
        let mut at = 0.1 * interval;
        let mut looks = Vec::new();
        while at < to {
            looks.push(at);
            at += interval * (0.9 + 0.2 * self.share());
        }
        looks
    }
}

/// Connections that stay open, and others that are closed at once.
pub struct Load {
    /// When the former were made.
    pub open: Vec<f64>,
    /// When the latter entered `TIME_WAIT`.
    pub closed: Vec<f64>,
}

impl Load {
    /// What is there at a moment.
    pub fn at(&self, at: f64) -> TupleObservation {
        let within = |times: &[f64], span: f64| -> u16 {
            times.iter().filter(|time| **time <= at && at - **time < span).count().try_into().unwrap()
        };
        let mut seen = tuple(within(&self.open, f64::INFINITY), within(&self.closed, TIME_WAIT.as_secs_f64()));
        seen.recent = within(&self.closed, RECENT.as_secs_f64());
        // With timestamps and older than a second.
        seen.recyclable = seen.states[usize::from(state::TIME_WAIT)] - within(&self.closed, 1.0);
        seen
    }

    /// When there are `capacity` of them for the first time.
    pub fn reaches(&self, capacity: usize) -> Option<f64> {
        let mut all: Vec<f64> = self.open.iter().chain(&self.closed).copied().collect();
        all.sort_by(f64::total_cmp);
        all.into_iter().find(|at| {
            let tuple = self.at(*at);
            tuple.states.iter().map(|count| usize::from(*count)).sum::<usize>() >= capacity
        })
    }
}
