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
