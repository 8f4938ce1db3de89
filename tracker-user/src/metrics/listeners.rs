//! Listeners: at most 256 have series of their own, the rest is summed.

use prometheus::proto::MetricFamily;
use tracker_model::listener_fields;

use super::{
    Scrape,
    family::{Metric, Row, Table, rows},
};

/// The metrics of this file, beside those of [`listener_fields::FIELDS`].
pub(super) static METRICS: &[Row<Scrape>] = rows! { Scrape;
    gauge "tracker_listener_info" ["address", "port", "process", "dual_stack"]
        "Listeners, the name of the thread that called listen(), empty when it may not be read, and whether an IPv6 \
         listener takes IPv4 too; always 1."
        => |scrape, samples| for listener in scrape.listeners() {
            let process = listener.process.as_ref().map_or("", |process| process.comm.as_str());
            samples.add(&[&listener.at(), &listener.port, &process, &listener.dual_stack], 1.0);
        };
};

/// The families of [`listener_fields::FIELDS`].
pub(super) fn table(scrape: &Scrape) -> impl Iterator<Item = MetricFamily> + use<> {
    let mut table = Table::new(listener_fields::FIELDS);
    for listener in scrape.listeners() {
        table.add(&[&listener.at(), &listener.port], listener);
    }
    if let Some(other) = scrape.series.listeners.other() {
        table.add_sums(&[&"other", &"other"], other);
    }
    table.families()
}
