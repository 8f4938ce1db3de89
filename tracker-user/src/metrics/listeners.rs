//! Listeners: at most 256 have series of their own, the rest is summed.

use crate::metrics::series::{ListenerCounters, Split};
use prometheus::proto::MetricFamily;
use tracker_common::histogram::HANDSHAKE_SHIFT;
use tracker_model::{counters::ListenerQueues, snapshot::Listener};

use super::family::{Metric, Samples};

const LABELS: &[&str] = &["address", "port"];
/// Address and port of the listeners that have no series of their own.
const OTHER: &str = "other";

static INFO: Metric = Metric::gauge(
    "tracker_listener_info",
    &["address", "port", "process", "dual_stack"],
    "Listeners and the name of the thread that called listen(), empty when it may not be read; always 1.",
);
static SOCKETS: Metric = Metric::gauge(
    "tracker_listener_sockets",
    LABELS,
    "Listening sockets at this address and port; more than one is an SO_REUSEPORT group.",
);
static SYNS: Metric = Metric::counter(
    "tracker_listener_syns_total",
    &["address", "port", "family"],
    "SYNs to this listener received by watched interfaces, repeats included.",
);
static REPEATED: Metric = Metric::counter(
    "tracker_listener_repeated_syns_total",
    LABELS,
    "SYNs to this listener that repeat an earlier one, an estimate from a sample.",
);
static HANDSHAKES: Metric = Metric::counter(
    "tracker_listener_handshakes_total",
    &["address", "port", "family", "interface"],
    "Handshakes completed, by whether the last packet came by a watched interface or by another such as loopback.",
);
static HANDSHAKE_TIME: Metric = Metric::histogram(
    "tracker_listener_handshake_seconds",
    LABELS,
    "Time from the first SYN-ACK to the ACK that completes the handshake, repeats included.",
);
static HALF_OPEN: Metric =
    Metric::gauge("tracker_listener_half_open", LABELS, "Half-open request sockets at the last census.");
static SYN_QUEUE: Metric =
    Metric::gauge("tracker_listener_syn_queue", LABELS, "Requests in the SYN queue at the last census.");
static SYN_QUEUE_YOUNG: Metric = Metric::gauge(
    "tracker_listener_syn_queue_young",
    LABELS,
    "Requests in the SYN queue whose SYN-ACK was not yet repeated, at the last census.",
);
static SYN_QUEUE_LIMIT: Metric = Metric::gauge(
    "tracker_listener_syn_queue_limit",
    LABELS,
    "Limit of the SYN queue, beyond which the kernel answers with cookies or drops.",
);
static ACCEPT_QUEUE: Metric =
    Metric::gauge("tracker_listener_accept_queue", LABELS, "Connections that wait for accept() at the last census.");
static ACCEPT_QUEUE_LIMIT: Metric =
    Metric::gauge("tracker_listener_accept_queue_limit", LABELS, "Limit of the accept queue.");
static CONNECTED: Metric =
    Metric::gauge("tracker_listener_connected", LABELS, "Established sockets of this listener at the last census.");
static DROPS: Metric = Metric::counter(
    "tracker_listener_dropped_requests_total",
    LABELS,
    "Requests that the listening sockets turned away, by the last census; not those of other listeners.",
);

/// The metrics of this file.
pub(super) static METRICS: [&Metric; 14] = [
    &INFO,
    &SOCKETS,
    &SYNS,
    &REPEATED,
    &HANDSHAKES,
    &HANDSHAKE_TIME,
    &HALF_OPEN,
    &SYN_QUEUE,
    &SYN_QUEUE_YOUNG,
    &SYN_QUEUE_LIMIT,
    &ACCEPT_QUEUE,
    &ACCEPT_QUEUE_LIMIT,
    &CONNECTED,
    &DROPS,
];

/// The families of this file.
pub(super) fn families(split: &Split<'_>) -> Vec<MetricFamily> {
    let mut all = Listeners::new();
    for listener in &split.own {
        let [address, port] = [listener.address.to_string(), listener.port.to_string()];
        all.info(&address, &port, listener);
        all.row(&address, &port, u64::from(listener.sockets), &ListenerCounters::from(*listener), listener.census);
    }
    if let Some(other) = &split.other {
        all.row(OTHER, OTHER, other.sockets, &other.counters, Some(other.queues));
    }
    all.0.into_iter().map(Samples::family).collect()
}

/// The samples of each of [`METRICS`].
struct Listeners([Samples; 14]);

impl Listeners {
    fn new() -> Self {
        Self(METRICS.map(Metric::samples))
    }

    fn info(&mut self, address: &str, port: &str, listener: &Listener) {
        let process = listener.process.as_ref().map_or("", |process| process.comm.as_str());
        let dual_stack = if listener.dual_stack { "true" } else { "false" };
        self.0[0].add(&[address, port, process, dual_stack], 1.0);
    }

    fn row(
        &mut self,
        address: &str,
        port: &str,
        sockets: u64,
        counters: &ListenerCounters,
        queues: Option<ListenerQueues>,
    ) {
        let labels = [address, port];
        let [_, all_sockets, syns, repeated, handshakes, time, queues_of @ ..] = &mut self.0;
        all_sockets.count(&labels, sockets);
        repeated.count(&labels, counters.repeated);
        syns.count(&[address, port, "ipv4"], counters.syns.ipv4);
        syns.count(&[address, port, "ipv6"], counters.syns.ipv6);
        for (interface, by_family) in [("watched", counters.completed), ("unwatched", counters.completed_unwatched)] {
            handshakes.count(&[address, port, "ipv4", interface], by_family.ipv4);
            handshakes.count(&[address, port, "ipv6", interface], by_family.ipv6);
        }
        time.histogram(&labels, &counters.handshake_time, HANDSHAKE_SHIFT);
        if let Some(queues) = queues {
            let [half_open, syn_queue, young, syn_limit, accept_queue, limit, connected, drops] = queues_of;
            half_open.count(&labels, queues.half_open.into());
            syn_queue.count(&labels, queues.syn_queue.into());
            young.count(&labels, queues.syn_queue_young.into());
            syn_limit.count(&labels, queues.syn_queue_max.into());
            accept_queue.count(&labels, queues.accept_queue.into());
            limit.count(&labels, queues.accept_queue_max.into());
            connected.count(&labels, queues.connected.into());
            drops.count(&labels, counters.drops);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::series::ListenerSeries;

    use super::*;
    use crate::metrics::family::tests::{histogram, value};

    fn sample() -> Vec<MetricFamily> {
        families(&ListenerSeries::default().update(&tracker_fixtures::snapshot().listeners))
    }

    #[test]
    fn a_listener_has_counters_and_queues() {
        let families = sample();
        let of = |name: &str| value(&families, &format!("tracker_listener_{name}"), &["::", "443"]);
        assert_eq!((of("half_open"), of("syn_queue"), of("connected")), (Some(5.0), Some(4.0), Some(40.0)));
        assert_eq!((of("accept_queue"), of("accept_queue_limit")), (Some(1.0), Some(511.0)));
        assert_eq!((of("dropped_requests_total"), of("sockets")), (Some(2.0), Some(2.0)));
        assert_eq!((of("syn_queue_young"), of("syn_queue_limit")), (Some(3.0), Some(511.0)));
        assert_eq!(of("repeated_syns_total"), Some(0.0));
        let name = "tracker_listener_handshakes_total";
        assert_eq!(value(&families, name, &["::", "443", "ipv4", "watched"]), Some(90.0));
        assert_eq!(value(&families, name, &["::", "443", "ipv6", "unwatched"]), Some(1.0));
        assert_eq!(value(&families, "tracker_listener_syns_total", &["::", "443", "ipv4"]), Some(100.0));
        assert_eq!(histogram(&families, "tracker_listener_handshake_seconds", &["::", "443"]), (133, 0.012_345));
        assert_eq!(value(&families, "tracker_listener_info", &["::", "443", "nginx", "true"]), Some(1.0));
    }

    #[test]
    fn queues_that_no_census_saw_are_left_out_not_zero() {
        let families = sample();
        let of = |name: &str| value(&families, &format!("tracker_listener_{name}"), &["192.0.2.1", "22"]);
        assert_eq!((of("half_open"), of("accept_queue_limit"), of("dropped_requests_total")), (None, None, None));
        assert_eq!(of("sockets"), Some(1.0));
        assert_eq!(value(&families, "tracker_listener_syns_total", &["192.0.2.1", "22", "ipv4"]), Some(0.0));
    }
}
