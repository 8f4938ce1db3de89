//! Which ports `tracker ports` is asked about.

use tracker_model::{
    api::{PortConflict, PortFailure, PortUse, Ports},
    process::Process,
};

use crate::cli::{
    format::{address_port, printable},
    value::{Destination, Holder},
};

/// What is asked for; everything by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Filter {
    pub(in crate::cli) destination: Option<Destination>,
    pub(in crate::cli) process: Option<Holder>,
}

impl Filter {
    /// Whether anything is left out.
    pub(super) const fn is_set(&self) -> bool {
        self.destination.is_some() || self.process.is_some()
    }

    /// What is left of the answer: destinations, failures and the pools of their source addresses.
    pub(in crate::cli) fn apply(&self, mut answer: Ports) -> Ports {
        if !self.is_set() {
            return answer;
        }
        answer.ports.retain(|row| self.has_row(row));
        answer.failures.retain(|failure| self.has_failure(failure));
        answer.conflicts.retain(|conflict| self.has_conflict(conflict));
        let (ports, failures) = (&answer.ports, &answer.failures);
        answer.bind_pools.retain(|pool| {
            ports.iter().any(|row| (row.netns, row.source) == (pool.netns, pool.source))
                || failures.iter().any(|failure| (failure.netns, failure.source) == (pool.netns, Some(pool.source)))
        });
        answer
    }

    fn has_row(&self, row: &PortUse) -> bool {
        let holds = |process: &Holder| {
            let held = row.processes.iter().any(|of| process.matches(of.pid, &of.comm));
            held || row.made_by.iter().any(|of| process.matches(of.pid, &of.comm))
        };
        self.destination.is_none_or(|it| it.matches(row.destination, row.destination_port))
            && self.process.as_ref().is_none_or(holds)
    }

    fn has_failure(&self, failure: &PortFailure) -> bool {
        let Process { pid, comm } = &failure.process;
        self.destination.is_none_or(|it| it.matches(failure.destination, failure.destination_port))
            && self.process.as_ref().is_none_or(|it| it.matches(*pid, comm))
    }

    /// A conflict has no destination.
    fn has_conflict(&self, conflict: &PortConflict) -> bool {
        let Process { pid, comm } = &conflict.process;
        let callers = std::iter::once((*pid, comm));
        let mut all = callers.chain(conflict.holders.iter().map(|holder| (holder.pid, &holder.comm)));
        self.destination.is_none()
            && self.process.as_ref().is_none_or(|it| all.any(|(pid, comm)| it.matches(pid, comm)))
    }

    /// ` to 192.0.2.1:443 by nginx`; empty for everything.
    pub(super) fn words(&self) -> String {
        let destination = self.destination.map(|Destination { address, port }| match port {
            Some(port) => format!(" to {}", address_port(&address.to_string(), port)),
            None => format!(" to {address}"),
        });
        let process = self.process.as_ref().map(|Holder(text)| format!(" by {}", printable(text)));
        destination.into_iter().chain(process).collect()
    }
}

#[cfg(test)]
mod tests {
    use tracker_fixtures as sample;

    use super::*;
    use crate::cli::value;

    fn left(destination: Option<&str>, process: Option<&str>) -> (Vec<u16>, Vec<u32>, usize) {
        let filter = Filter {
            destination: destination.map(|text| value::destination(text).unwrap()),
            process: process.map(|text| value::process(text).unwrap()),
        };
        let answer = filter.apply(Ports::clone(&sample::under_shortage().ports));
        let ports = answer.ports.iter().map(|row| row.destination_port).collect();
        (ports, answer.failures.iter().map(|failure| failure.process.pid).collect(), answer.bind_pools.len())
    }

    #[test]
    fn a_destination_is_an_address_with_or_without_a_port() {
        let all = |text: &str| left(Some(text), None).0;
        assert_eq!(
            (all("198.51.100.7"), all("198.51.100.7:443"), all("::ffff:198.51.100.7")),
            (vec![443], vec![443], vec![443])
        );
        assert_eq!(
            (all("2001:db8::53"), all("[2001:db8::53]"), all("[2001:db8::53]:853")),
            (vec![853], vec![853], vec![853])
        );
        assert_eq!((all("198.51.100.7:80"), all("[2001:db8::53]:80")), (vec![], vec![]));
    }

    #[test]
    fn a_process_is_a_name_or_an_id_and_holds_or_made_the_connections_or_failed() {
        assert_eq!(left(None, Some("app")), (vec![443], vec![4_711], 1));
        assert_eq!(left(None, Some("99")), (vec![443], vec![99], 1));
        assert_eq!(left(None, Some("unbound")), (vec![853], vec![], 0));
        assert_eq!(left(None, Some("nobody")), (vec![], vec![], 0));
        assert_eq!(left(Some("203.0.113.20"), Some("app")).0, Vec::<u16>::new());
    }

    #[test]
    fn without_a_filter_nothing_is_left_out() {
        let answer = Ports::clone(&sample::under_shortage().ports);
        assert_eq!(Filter::default().apply(answer.clone()), answer);
        assert_eq!(Filter::default().words(), "");
    }
}
