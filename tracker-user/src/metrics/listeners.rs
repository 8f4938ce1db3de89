//! Listeners: at most 256 have series of their own, the rest is summed.

use prometheus::proto::MetricFamily;
use tracker_model::listener;

use super::{
    family::{self, Fill as _, Metric, Samples, Table},
    series::Split,
};

/// Address and port of the listeners that have no series of their own.
const OTHER: &str = "other";

static INFO: Metric = Metric::gauge(
    "tracker_listener_info",
    &["address", "port", "process", "dual_stack"],
    "Listeners, the name of the thread that called listen(), empty when it may not be read, and whether an IPv6 listener \
     takes IPv4 too; always 1.",
);

/// The metrics of this file.
pub(super) fn metrics() -> impl Iterator<Item = &'static Metric> {
    [&INFO].into_iter().chain(family::metrics(listener::FIELDS))
}

/// The families of this file.
pub(super) fn families(split: &Split<'_>) -> Vec<MetricFamily> {
    let (mut info, mut table) = (INFO.samples(), Table::new(listener::FIELDS));
    for listener in &split.own {
        let [address, port] = [listener.address.to_string(), listener.port.to_string()];
        let process = listener.process.as_ref().map_or("", |process| process.comm.as_str());
        info.add(&[&address, &port, process, if listener.dual_stack { "true" } else { "false" }], 1.0);
        table.add(&[&address, &port], listener);
    }
    if let Some(other) = &split.other {
        table.add_sums(&[OTHER; 2], other);
    }
    [info].into_iter().map(Samples::family).chain(table.families()).collect()
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
        assert_eq!((of("half_open"), of("dropped_requests_total"), of("sockets")), (Some(5.0), Some(2.0), Some(2.0)));
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
