//! The answer of `tracker listeners`.

use tracker_common::counters::SynTarget;
use tracker_model::{Snapshot, api::NoListener, listener::Listeners};

/// The answer of `GET /v1/listeners`.
#[must_use]
pub fn listeners(snapshot: &Snapshot) -> Listeners {
    let refused = snapshot.syns(SynTarget::NoListener);
    Listeners {
        taken_at: snapshot.taken_at,
        census_at: snapshot.census.map(|census| census.taken_at),
        listeners: snapshot.listeners.clone(),
        no_listener: NoListener {
            syns_received: refused.total(),
            syns_by_family: refused,
            ..snapshot.no_listener.clone()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_fixtures as sample;
    use tracker_model::counters::ByFamily;

    #[test]
    fn syns_to_no_listener_are_summed_over_the_interfaces() {
        let mut snapshot = sample::snapshot();
        snapshot.interfaces.push(snapshot.interfaces[0].clone());
        let answer = listeners(&snapshot).no_listener;
        assert_eq!(answer.syns_by_family, ByFamily { ipv4: 20, ipv6: 60 });
        assert_eq!((answer.syns_received, answer.ports, answer.top_ports.len()), (80, 2, 2));
    }

    #[test]
    fn an_interface_that_goes_leaves_its_count() {
        let mut snapshot = sample::snapshot();
        let before = listeners(&snapshot).no_listener.syns_received;
        snapshot.departed = snapshot.interfaces.remove(0).counters;
        assert_eq!(listeners(&snapshot).no_listener.syns_received, before);
    }
}
