//! `tracker states` as tables.

use std::{collections::BTreeMap, fmt::Write as _};

use tracker_common::{SOCKET_FAMILY_NAMES, counters::CloseKind, state::TcpState};
use tracker_model::api::{ByName, Connects, States};

use super::{
    format::{UNKNOWN, ago, count},
    output::View,
    table::{self, Column},
};

type ByFamily = ByName<ByName<u64>>;

/// States in the order in which a connection goes through them.
const ORDER: [TcpState; 12] = [
    TcpState::Listen,
    TcpState::HalfOpen,
    TcpState::SynSent,
    TcpState::SynRecv,
    TcpState::Established,
    TcpState::FinWait1,
    TcpState::FinWait2,
    TcpState::Closing,
    TcpState::TimeWait,
    TcpState::CloseWait,
    TcpState::LastAck,
    TcpState::Close,
];

/// The answer as tables.
pub(super) fn render(answer: &States, view: View) -> String {
    let mut text = String::new();
    for (netns, counts) in answer.states.iter().flatten() {
        let _ = writeln!(text, "{}", states(*netns, counts));
    }
    let census = answer.census_at.map_or_else(|| UNKNOWN.to_owned(), |time| ago(time, view.now));
    let _ = writeln!(text, "States of {census}. What follows is since the daemon started.\n");
    text += &closes(&answer.closes);
    let _ = writeln!(text, "\nHandshakes completed as a server: {}", count(answer.handshakes_completed));
    let _ = writeln!(text, "Connects: {}", connects(&answer.connects));
    if view.wide {
        for (netns, counts) in &answer.transitions {
            let _ = write!(text, "\n{}", transitions(*netns, counts));
        }
    }
    text
}

fn states(netns: u32, counts: &ByFamily) -> String {
    let names = ORDER.map(TcpState::name);
    let title = Column::Text("STATE");
    let table =
        by_family(title, names.into_iter().map(str::to_owned), |name, family| counts.get(family)?.get(name).copied());
    format!("Network namespace {netns}\n{table}")
}

fn closes(counts: &ByFamily) -> String {
    let kinds = CloseKind::ALL.map(CloseKind::name).into_iter().map(str::to_owned);
    by_family(Column::Text("ENDED BY"), kinds, |kind, family| counts.get(family)?.get(kind).copied())
}

fn transitions(netns: u32, counts: &ByFamily) -> String {
    let names: std::collections::BTreeSet<String> = counts.values().flat_map(BTreeMap::keys).cloned().collect();
    let known = |name: &str, family: &str| Some(counts.get(family)?.get(name).copied().unwrap_or(0));
    let table = by_family(Column::Text("TRANSITION"), names.into_iter(), known);
    format!("Network namespace {netns}\n{table}")
}

/// A table with a column for each family.
fn by_family(title: Column, names: impl Iterator<Item = String>, of: impl Fn(&str, &str) -> Option<u64>) -> String {
    let rows = names.map(|name| {
        let counts = SOCKET_FAMILY_NAMES.map(|family| of(&name, family).map_or_else(|| UNKNOWN.to_owned(), count));
        [name].into_iter().chain(counts).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    table::render(&[title, Column::Number("IPV4"), Column::Number("IPV6")], rows, None)
}

fn connects(connects: &Connects) -> String {
    let failed: u64 = connects.failed.values().sum();
    let mut text = format!(
        "{} attempted, {} established, {} failed",
        count(connects.attempted),
        count(connects.established),
        count(failed)
    );
    let mut reasons: Vec<_> = connects.failed.iter().collect();
    reasons.sort_by_key(|(_, failures)| std::cmp::Reverse(**failures));
    if !reasons.is_empty() {
        let reasons: Vec<_> =
            reasons.into_iter().map(|(name, failures)| format!("{name} {}", count(*failures))).collect();
        let _ = write!(text, " ({})", reasons.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::view as views;
    use tracker_fixtures as sample;
    use tracker_model::Snapshot;

    use super::*;

    fn shown(snapshot: &Snapshot, wide: bool) -> String {
        render(&views::states(snapshot), View { wide, now: snapshot.taken_at, columns: None })
    }

    #[test]
    fn every_state_has_a_line_also_at_zero() {
        let text = shown(&sample::snapshot(), false);
        let expected = "\
Network namespace 4026531840
STATE        IPV4 IPV6
listen          3    0
half_open       5    0
syn_sent        0    0
syn_recv        0    0
established    40    0
fin_wait1       0    0
fin_wait2       0    0
closing         0    0
time_wait       0    7
close_wait      0    0
last_ack        0    0
close           0    0

States of 1s ago. What follows is since the daemon started.

ENDED BY       IPV4 IPV6
local            60    0
peer              0    0
reset_by_peer     0    0
reset_locally     0    0
timed_out         0    0
error             0    0

Handshakes completed as a server: 133
Connects: 25 attempted, 20 established, 5 failed (ECANCELED 2, ECONNREFUSED 2, EADDRNOTAVAIL 1)
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_order_holds_every_named_state_once() {
        let all: std::collections::BTreeSet<_> = ORDER.into_iter().collect();
        assert_eq!(all, TcpState::ALL.into_iter().filter(|state| *state != TcpState::Bound).collect());
    }

    #[test]
    fn wide_adds_the_transitions_that_were_seen() {
        let text = shown(&sample::snapshot(), true);
        assert!(text.contains("TRANSITION              IPV4 IPV6\n"), "{text}");
        assert!(text.contains("syn_recv->established    133    0\n"), "{text}");
    }

    #[test]
    fn before_the_first_census_there_is_no_table_of_states() {
        let mut snapshot = sample::snapshot();
        snapshot.census = None;
        assert!(shown(&snapshot, false).starts_with("States of -. What follows"));
    }
}
