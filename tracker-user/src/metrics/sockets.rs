//! Sockets: states, transitions, connects, times and ends.

use crate::view;
use tracker_common::{
    SOCKET_FAMILY_NAMES,
    counters::{CloseKind, SocketCounters},
    histogram::{HANDSHAKE_SHIFT, LIFETIME_SHIFT},
    state::{
        self, CLOSE, CLOSE_WAIT, CLOSING, ESTABLISHED, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, SYN_RECV, SYN_SENT,
    },
};
use tracker_model::{Snapshot, errno};

use super::family::{Metric, Row, Samples, rows};

/// The metrics of this file.
pub(super) static METRICS: &[Row<Snapshot>] = rows! { Snapshot;
    gauge "tracker_sockets" ["family", "state"]
        "TCP sockets by state at the last census, half-open and TIME_WAIT minisockets included."
        => |snapshot, samples| if let Some(census) = snapshot.census {
            for (family, counts) in SOCKET_FAMILY_NAMES.into_iter().zip(census.counts.states) {
                // Number 0 is no state.
                for (state, count) in state::NAMES.into_iter().zip(counts).skip(1) {
                    samples.count(&[&family, &state], count);
                }
            }
        };
    counter "tracker_socket_transitions_total" ["family", "from", "to"]
        "State transitions of TCP sockets; the kernel reports none into or out of time_wait and half_open."
        => |snapshot, samples| transitions(&snapshot.sockets, samples);
    counter "tracker_connects_started_total" ["family"]
        "Calls of connect() for which a SYN was to be sent; a call without a route is not counted."
        => |snapshot, samples| for (index, family) in SOCKET_FAMILY_NAMES.into_iter().enumerate() {
            samples.count(&[&family], view::connects_attempted(&snapshot.sockets, index));
        };
    counter "tracker_connects_total" ["family", "result"]
        "Calls of connect() that ended, by whether the connection was established."
        => |snapshot, samples| for (index, family) in SOCKET_FAMILY_NAMES.into_iter().enumerate() {
            let failed = snapshot.sockets.connect_failures[index].iter().sum();
            samples.count(&[&family, &"established"], view::connects_established(&snapshot.sockets, index));
            samples.count(&[&family, &"failed"], failed);
        };
    counter "tracker_connect_failures_total" ["family", "errno"]
        "Calls of connect() that failed, by error; ECANCELED is one that the process gave up."
        => |snapshot, samples| connect_failures(&snapshot.sockets, samples);
    counter "tracker_connections_closed_total" ["family", "kind"]
        "Ends of established connections, by who closed first or what broke them."
        => |snapshot, samples| for (family, counts) in SOCKET_FAMILY_NAMES.into_iter().zip(snapshot.sockets.closes) {
            for kind in CloseKind::ALL {
                samples.count(&[&family, &kind.name()], counts[kind as usize]);
            }
        };
    histogram "tracker_connect_seconds" []
        "Time from connect() to the established connection, repeats of the SYN included."
        => |snapshot, samples| samples.histogram(&[], &snapshot.sockets.connect_time, HANDSHAKE_SHIFT);
    histogram "tracker_handshake_seconds" []
        "Time from the first SYN-ACK to the ACK that completes the handshake as a server, repeats included."
        => |snapshot, samples| samples.histogram(&[], &snapshot.sockets.handshake_time, HANDSHAKE_SHIFT);
    histogram "tracker_connection_lifetime_seconds" []
        "Time from established to closed, of a random sample of the connections; \
         tracker_connection_lifetime_sample_ratio is the share that is sampled."
        => |snapshot, samples| samples.histogram(&[], &snapshot.sockets.lifetime, LIFETIME_SHIFT);
    gauge "tracker_connection_lifetime_sample_ratio" [] "Share of the connections whose lifetime is measured."
        => |snapshot, samples| samples.set(1.0 / f64::from(snapshot.lifetime_sample));
};

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

fn transitions(sockets: &SocketCounters, samples: &mut Samples) {
    for (family, rows) in SOCKET_FAMILY_NAMES.into_iter().zip(&sockets.transitions) {
        for (from, row) in (0..).zip(rows) {
            for (to, count) in (0..).zip(row) {
                if *count > 0 || COMMON_TRANSITIONS.contains(&(from, to)) {
                    let [from, to] = [from, to].map(|state: u8| state::NAMES[usize::from(state)]);
                    samples.count(&[&family, &from, &to], *count);
                }
            }
        }
    }
}

fn connect_failures(sockets: &SocketCounters, samples: &mut Samples) {
    for (family, counts) in SOCKET_FAMILY_NAMES.into_iter().zip(&sockets.connect_failures) {
        for name in COMMON_ERRORS {
            samples.count(&[&family, &name], 0);
        }
        for (number, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            samples.count(&[&family, &errno::name(number)], *count);
        }
    }
}
