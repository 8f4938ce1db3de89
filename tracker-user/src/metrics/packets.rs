//! Packets and SYNs by the interfaces that are watched.

use std::collections::{BTreeMap, BTreeSet};

use crate::metrics::series::PortSeries;
use prometheus::proto::MetricFamily;
use tracker_common::{
    classify::{Family, Outcome},
    counters::SynTarget,
    limits,
};
use tracker_model::{Snapshot, snapshot::Interface};

use super::family::{Fill as _, Metric, Row, Samples, rows};

/// The metrics of this file, but for one.
pub(super) static METRICS: &[Row<Snapshot>] = rows! { Snapshot;
    counter "tracker_interface_packets_total" ["interface", "outcome", "family"]
        "Packets received by watched interfaces, by what they are; every packet has exactly one outcome."
        => packets;
    gauge "tracker_interface_info" ["interface", "hook"]
        "Interfaces that are watched and the hook that sees their packets; always 1."
        => interfaces;
    counter "tracker_syns_total" ["target", "family"]
        "SYNs received by watched interfaces, repeats included, by what they were addressed to."
        => |snapshot, samples| for target in SynTarget::ALL {
            let syns = snapshot.syns(target);
            samples.count(&[target.name(), Family::Ipv4.name()], syns.ipv4);
            samples.count(&[target.name(), Family::Ipv6.name()], syns.ipv6);
        };
};

static NO_LISTENER: Metric = Metric::counter(
    "tracker_no_listener_syns_total",
    &["port"],
    "SYNs to local addresses at ports where nothing listens, translated ones included: the most active ports, and the \
     rest in port=\"other\".",
);

/// Counts by outcome and family.
type Packets = [[u64; Family::COUNT]; Outcome::COUNT];

/// Hook of an interface whose packets are counted on the one below it; it has no counters.
const SEEN_BELOW: &str = "lower";

/// The metrics of this file.
pub(super) fn metrics() -> impl Iterator<Item = &'static Metric> {
    METRICS.iter().map(|row| &row.metric).chain([&NO_LISTENER])
}

fn packets(snapshot: &Snapshot, samples: &mut Samples) {
    for (name, packets) in by_name(snapshot) {
        for outcome in Outcome::ALL {
            for family in Family::ALL {
                let packets = packets[outcome as usize][family as usize];
                if packets > 0 || is_possible(outcome, family) {
                    samples.count(&[name, outcome.name(), family.name()], packets);
                }
            }
        }
    }
}

/// Packets by name of the interface. Two have the same name for a moment when one takes over the name of another;
/// they are added up, for a series that occurs twice would make Prometheus refuse the whole scrape.
fn by_name(snapshot: &Snapshot) -> BTreeMap<&str, Packets> {
    let mut sums: BTreeMap<&str, Packets> = BTreeMap::new();
    for interface in snapshot.interfaces.iter().filter(|interface| interface.hook != SEEN_BELOW) {
        let sum = sums.entry(&interface.name).or_default();
        for (sum, packets) in sum.as_flattened_mut().iter_mut().zip(interface.counters.packets.as_flattened()) {
            *sum += packets;
        }
    }
    sums
}

/// Whether packets of this outcome can be of this family: only these are exported at zero.
fn is_possible(outcome: Outcome, family: Family) -> bool {
    match family {
        Family::None => matches!(outcome, Outcome::NonIp | Outcome::Truncated | Outcome::Unparsed),
        Family::Ipv4 | Family::Ipv6 => outcome != Outcome::NonIp,
    }
}

/// Those with counters of their own first, and `other`: they are no more than [`limits::INTERFACES`]; those that are
/// seen on one below fill up to that number.
fn interfaces(snapshot: &Snapshot, samples: &mut Samples) {
    let row = |interface: &Interface| (interface.hook == SEEN_BELOW, interface.name.clone(), interface.hook);
    let unique: BTreeSet<_> = snapshot.interfaces.iter().map(row).collect();
    for (_, name, hook) in unique.iter().take(limits::INTERFACES as usize) {
        samples.add(&[name, hook], 1.0);
    }
}

/// SYNs to no listener by port.
pub(super) fn no_listener(snapshot: &Snapshot, ports: &mut PortSeries) -> MetricFamily {
    ports.update(snapshot.uptime, snapshot.syns(SynTarget::NoListener).total(), &snapshot.no_listener);
    let mut samples = NO_LISTENER.samples();
    for (port, syns) in ports.own() {
        samples.count(&[&port.to_string()], syns);
    }
    samples.count(&["other"], ports.other());
    samples.family()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::family::{families, tests::value};

    fn of(snapshot: &Snapshot) -> Vec<MetricFamily> {
        families(METRICS, snapshot).collect()
    }

    #[test]
    fn an_interface_seen_on_another_has_no_counters() {
        let mut snapshot = tracker_fixtures::snapshot();
        snapshot.interfaces[0].hook = "lower";
        let families = of(&snapshot);
        assert_eq!(value(&families, "tracker_interface_packets_total", &["eth0", "udp", "ipv4"]), None);
        assert_eq!(value(&families, "tracker_interface_info", &["eth0", "lower"]), Some(1.0));
    }

    #[test]
    fn stacked_interfaces_do_not_grow_the_labels_without_bound() {
        let mut snapshot = tracker_fixtures::snapshot();
        let own = snapshot.interfaces[0].clone();
        for vlan in 0..500 {
            // By name they come first.
            snapshot.interfaces.push(Interface { name: format!("a{vlan}"), hook: SEEN_BELOW, ..own.clone() });
        }
        let families = of(&snapshot);
        let info = families.iter().find(|family| family.name() == "tracker_interface_info").unwrap();
        assert_eq!(info.get_metric().len(), 256);
        assert_eq!(value(&families, "tracker_interface_info", &[&own.name, own.hook]), Some(1.0));
    }

    #[test]
    fn interfaces_of_the_same_name_are_added_up() {
        let mut snapshot = tracker_fixtures::snapshot();
        let again = snapshot.interfaces[0].clone();
        snapshot.interfaces.push(again);
        let families = of(&snapshot);
        assert_eq!(value(&families, "tracker_interface_packets_total", &["eth0", "tcp_syn", "ipv4"]), Some(240.0));
    }
}
