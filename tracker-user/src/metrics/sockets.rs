//! Sockets: states, transitions, connects, times and ends.

use std::collections::BTreeMap;

use crate::view;
use prometheus::proto::MetricFamily;
use tracker_common::{
    SOCKET_FAMILY_NAMES,
    counters::{CloseKind, SocketCounters},
    histogram::{HANDSHAKE_SHIFT, LIFETIME_SHIFT},
    state::{
        self, CLOSE, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT,
    },
};
use tracker_model::{Snapshot, errno};

use super::family::{Fill as _, Metric, float};

static STATES: Metric = Metric::gauge(
    "tracker_sockets",
    &["family", "state"],
    "TCP sockets by state at the last census, half-open and TIME_WAIT minisockets included.",
);
static TRANSITIONS: Metric = Metric::counter(
    "tracker_socket_transitions_total",
    &["family", "from", "to"],
    "State transitions of TCP sockets; the kernel reports none into or out of time_wait and half_open.",
);
static CONNECTS_STARTED: Metric = Metric::counter(
    "tracker_connects_started_total",
    &["family"],
    "Calls of connect() for which a SYN was to be sent; one without a route is none.",
);
static CONNECTS: Metric = Metric::counter(
    "tracker_connects_total",
    &["family", "result"],
    "Calls of connect() that ended, by whether the connection was established.",
);
static CONNECT_FAILURES: Metric = Metric::counter(
    "tracker_connect_failures_total",
    &["family", "errno"],
    "Calls of connect() that failed, by error; ECANCELED is one that the process gave up.",
);
static CLOSES: Metric = Metric::counter(
    "tracker_connections_closed_total",
    &["family", "kind"],
    "Ends of established connections, by who closed first or what broke them.",
);
static CONNECT_TIME: Metric = Metric::histogram(
    "tracker_connect_seconds",
    &[],
    "Time from connect() to the established connection, repeats of the SYN included.",
);
static HANDSHAKE_TIME: Metric = Metric::histogram(
    "tracker_handshake_seconds",
    &[],
    "Time from the first SYN-ACK to the ACK that completes the handshake as a server, repeats included.",
);
static LIFETIME: Metric = Metric::histogram(
    "tracker_connection_lifetime_seconds",
    &[],
    "Time from established to closed, of a random sample of the connections; tracker_connection_lifetime_sample_ratio \
     tells how many are sampled.",
);
static LIFETIME_SAMPLE: Metric = Metric::gauge(
    "tracker_connection_lifetime_sample_ratio",
    &[],
    "Share of the connections whose lifetime is measured.",
);

/// The metrics of this file.
pub(super) static METRICS: [&Metric; 10] = [
    &STATES,
    &TRANSITIONS,
    &CONNECTS_STARTED,
    &CONNECTS,
    &CONNECT_FAILURES,
    &CLOSES,
    &CONNECT_TIME,
    &HANDSHAKE_TIME,
    &LIFETIME,
    &LIFETIME_SAMPLE,
];

/// Errors that are exported also at zero: what a `connect()` commonly ends with.
const COMMON_ERRORS: [&str; 7] =
    ["ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EADDRNOTAVAIL", "ECONNRESET", errno::GIVEN_UP];

/// Transitions that are exported also at zero: those of RFC 9293 as the kernel reports them.
const COMMON_TRANSITIONS: [(u8, u8); 18] = [
    (CLOSE, LISTEN),
    (LISTEN, CLOSE),
    (LISTEN, SYN_RECV),
    (SYN_RECV, ESTABLISHED),
    (SYN_RECV, CLOSE),
    (CLOSE, SYN_SENT),
    (SYN_SENT, ESTABLISHED),
    (SYN_SENT, CLOSE),
    (ESTABLISHED, FIN_WAIT1),
    (ESTABLISHED, CLOSE_WAIT),
    (ESTABLISHED, CLOSE),
    (FIN_WAIT1, FIN_WAIT2),
    (FIN_WAIT1, CLOSING),
    (FIN_WAIT1, CLOSE),
    (FIN_WAIT2, CLOSE),
    (CLOSING, CLOSE),
    (CLOSE_WAIT, LAST_ACK),
    (LAST_ACK, CLOSE),
];

/// The families of this file.
pub(super) fn families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let sockets = &snapshot.sockets;
    vec![
        states(snapshot),
        transitions(sockets),
        connects_started(sockets),
        connects(sockets),
        connect_failures(sockets),
        closes(sockets),
        time(&CONNECT_TIME, &sockets.connect_time, HANDSHAKE_SHIFT),
        time(&HANDSHAKE_TIME, &sockets.handshake_time, HANDSHAKE_SHIFT),
        time(&LIFETIME, &sockets.lifetime, LIFETIME_SHIFT),
        LIFETIME_SAMPLE.single(1.0 / f64::from(snapshot.lifetime_sample)),
    ]
}

fn time(metric: &'static Metric, histogram: &tracker_common::histogram::Histogram, shift: u32) -> MetricFamily {
    let mut samples = metric.samples();
    samples.histogram(&[], histogram, shift);
    samples.family()
}

fn states(snapshot: &Snapshot) -> MetricFamily {
    let mut samples = STATES.samples();
    if let Some(census) = snapshot.census {
        for (family, counts) in SOCKET_FAMILY_NAMES.into_iter().zip(census.counts.states) {
            // Number 0 is no state.
            for (state, count) in state::NAMES.into_iter().zip(counts).skip(1) {
                samples.count(&[family, state], count);
            }
        }
    }
    samples.family()
}

fn transitions(sockets: &SocketCounters) -> MetricFamily {
    let mut samples = TRANSITIONS.samples();
    for (family, rows) in SOCKET_FAMILY_NAMES.into_iter().zip(&sockets.transitions) {
        for (from, row) in (0..).zip(rows) {
            for (to, count) in (0..).zip(row) {
                if *count > 0 || COMMON_TRANSITIONS.contains(&(from, to)) {
                    let [from, to] = [from, to].map(|state: u8| state::NAMES[usize::from(state)]);
                    samples.count(&[family, from, to], *count);
                }
            }
        }
    }
    samples.family()
}

fn connects_started(sockets: &SocketCounters) -> MetricFamily {
    let mut samples = CONNECTS_STARTED.samples();
    for (index, family) in SOCKET_FAMILY_NAMES.into_iter().enumerate() {
        samples.count(&[family], view::connects_attempted(sockets, index));
    }
    samples.family()
}

fn connects(sockets: &SocketCounters) -> MetricFamily {
    let mut samples = CONNECTS.samples();
    for (index, family) in SOCKET_FAMILY_NAMES.into_iter().enumerate() {
        samples.count(&[family, "established"], view::connects_established(sockets, index));
        samples.count(&[family, "failed"], sockets.connect_failures[index].iter().sum());
    }
    samples.family()
}

fn connect_failures(sockets: &SocketCounters) -> MetricFamily {
    let mut samples = CONNECT_FAILURES.samples();
    for (family, counts) in SOCKET_FAMILY_NAMES.into_iter().zip(&sockets.connect_failures) {
        let mut by_name: BTreeMap<String, u64> = COMMON_ERRORS.map(|name| (name.to_owned(), 0)).into();
        for (number, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            *by_name.entry(errno::name(number)).or_default() += count;
        }
        for (name, count) in by_name {
            samples.add(&[family, &name], float(count));
        }
    }
    samples.family()
}

fn closes(sockets: &SocketCounters) -> MetricFamily {
    let mut samples = CLOSES.samples();
    for (family, counts) in SOCKET_FAMILY_NAMES.into_iter().zip(sockets.closes) {
        for kind in CloseKind::ALL {
            samples.count(&[family, kind.name()], counts[kind as usize]);
        }
    }
    samples.family()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::tests::{histogram, value};

    fn sample() -> Vec<MetricFamily> {
        families(&tracker_fixtures::snapshot())
    }

    #[test]
    fn every_state_is_exported_also_at_zero() {
        let families = sample();
        for family in ["ipv4", "ipv6"] {
            for state in state::NAMES.into_iter().skip(1) {
                assert!(value(&families, "tracker_sockets", &[family, state]).is_some(), "{family} {state}");
            }
        }
        assert_eq!(value(&families, "tracker_sockets", &["ipv4", "established"]), Some(40.0));
        assert_eq!(value(&families, "tracker_sockets", &["ipv4", "unknown"]), None);
    }

    #[test]
    fn states_are_left_out_before_the_first_census() {
        let mut snapshot = tracker_fixtures::snapshot();
        snapshot.census = None;
        assert_eq!(value(&families(&snapshot), "tracker_sockets", &["ipv4", "established"]), None);
    }

    #[test]
    fn transitions_are_exported_when_common_or_seen() {
        let mut snapshot = tracker_fixtures::snapshot();
        snapshot.sockets.transitions[1][usize::from(SYN_SENT)][usize::from(SYN_RECV)] = 3;
        let families = families(&snapshot);
        let of = |family, from, to| value(&families, "tracker_socket_transitions_total", &[family, from, to]);
        assert_eq!(of("ipv4", "syn_recv", "established"), Some(133.0));
        assert_eq!(of("ipv6", "last_ack", "close"), Some(0.0));
        assert_eq!(of("ipv6", "syn_sent", "syn_recv"), Some(3.0));
        assert_eq!(of("ipv4", "syn_sent", "syn_recv"), None);
    }

    #[test]
    fn connects_and_failures_are_exported_by_result_and_error() {
        let mut snapshot = tracker_fixtures::snapshot();
        snapshot.sockets.connect_failures[0][125] = 3;
        snapshot.sockets.connect_failures[0][1] = 1;
        let families = families(&snapshot);
        let failures = |family, errno| value(&families, "tracker_connect_failures_total", &[family, errno]);
        for errno in COMMON_ERRORS {
            assert!(failures("ipv6", errno) == Some(0.0) && failures("ipv4", errno).is_some(), "{errno}");
        }
        assert_eq!(failures("ipv4", "ECONNREFUSED"), Some(2.0));
        assert_eq!(failures("ipv4", "ECANCELED"), Some(5.0), "given up, and the errno of the same name");
        assert_eq!((failures("ipv4", "EPERM"), failures("ipv6", "EPERM")), (Some(1.0), None));
        assert_eq!(value(&families, "tracker_connects_total", &["ipv4", "established"]), Some(20.0));
        assert_eq!(value(&families, "tracker_connects_total", &["ipv4", "failed"]), Some(9.0));
        assert_eq!(value(&families, "tracker_connects_started_total", &["ipv4"]), Some(25.0));
    }

    #[test]
    fn times_are_histograms_and_the_sample_a_ratio() {
        let families = sample();
        assert_eq!(histogram(&families, "tracker_connect_seconds", &[]), (20, 0.009));
        assert_eq!(histogram(&families, "tracker_handshake_seconds", &[]), (133, 0.012_345));
        assert_eq!(histogram(&families, "tracker_connection_lifetime_seconds", &[]), (3, 40_000.0));
        assert_eq!(value(&families, "tracker_connection_lifetime_sample_ratio", &[]), Some(0.125));
        assert_eq!(value(&families, "tracker_connections_closed_total", &["ipv4", "local"]), Some(60.0));
        assert_eq!(value(&families, "tracker_connections_closed_total", &["ipv6", "timed_out"]), Some(0.0));
    }
}
