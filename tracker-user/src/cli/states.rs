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
    use super::*;

    #[test]
    fn the_order_holds_every_named_state_once() {
        let all: std::collections::BTreeSet<_> = ORDER.into_iter().collect();
        assert_eq!(all, TcpState::ALL.into_iter().filter(|state| *state != TcpState::Bound).collect());
    }
}
