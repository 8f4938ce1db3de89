//! Packets and SYNs by the interfaces that are watched.

use std::collections::BTreeSet;

use tracker_common::{
    classify::{Family, Outcome},
    counters::SynTarget,
    limits,
};
use tracker_model::{Snapshot, api::Interface};

use super::{
    Scrape,
    family::{Metric, Row, Samples, rows},
};

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
            samples.count(&[&target.name(), &Family::Ipv4.name()], syns.ipv4);
            samples.count(&[&target.name(), &Family::Ipv6.name()], syns.ipv6);
        };
};

/// That one.
pub(super) static NO_LISTENER: &[Row<Scrape>] = rows! { Scrape;
    counter "tracker_no_listener_syns_total" ["port"]
        "SYNs that reached TCP at a port where nothing listens: the most active ports, and the rest in port=\"other\"."
        => |scrape, samples| {
            let ports = &scrape.series.no_listener;
            ports.own().for_each(|(port, syns)| samples.count(&[&port], syns));
            samples.count(&[&"other"], ports.other());
        };
    counter "tracker_no_listener_undelivered_syns_total" []
        "SYNs to local addresses at ports where nothing listens that TCP did not look up there: translated, taken by a \
         transparent proxy, or dropped before TCP; absent where the kernel does not show that."
        => |scrape, samples| {
            let undelivered = scrape.snapshot.no_listener.undelivered.as_ref();
            if let Some(undelivered) = undelivered {
                samples.count(&[], undelivered.syns);
            }
        };
};

/// Hook of an interface whose packets are counted on the one below it; it has no counters.
const SEEN_BELOW: &str = "lower";

/// Two interfaces have the same name for a moment when one takes over the name of another.
fn packets(snapshot: &Snapshot, samples: &mut Samples) {
    for interface in snapshot.interfaces.iter().filter(|interface| interface.hook != SEEN_BELOW) {
        for outcome in Outcome::ALL {
            for family in Family::ALL {
                let packets = interface.counters.packets[outcome as usize][family as usize];
                if packets > 0 || is_possible(outcome, family) {
                    samples.count(&[&interface.name, &outcome.name(), &family.name()], packets);
                }
            }
        }
    }
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
    let row = |interface: &Interface| (interface.hook == SEEN_BELOW, interface.name.clone(), interface.hook.clone());
    let unique: BTreeSet<_> = snapshot.interfaces.iter().map(row).collect();
    for (_, name, hook) in unique.iter().take(limits::INTERFACES as usize) {
        samples.add(&[&name, &hook], 1.0);
    }
}
