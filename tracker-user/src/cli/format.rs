//! Numbers and times as people read them: those of [`tracker_model::text`].

pub(super) use tracker_model::text::{
    UNKNOWN, address_port, ago, grouped as count, holders, length, makers, printable, rate, short, states,
    until as span, used, whole,
};

/// A process, with its name made safe to print.
pub(super) fn process(pid: u32, comm: &str) -> String {
    printable(&tracker_model::text::process(pid, comm))
}
