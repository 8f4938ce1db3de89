//! Views: the answers of the API, made of a [`tracker_model::Snapshot`] alone. No HTTP and no text for people.

mod alerts;
mod health;
mod listeners;
mod states;
mod status;

use jiff::Timestamp;
use tracker_model::Snapshot;

pub use alerts::alerts;
pub use health::stale;
pub use listeners::listeners;
pub use states::{connects_attempted, connects_established, states};
pub use status::{Daemon, status};

/// The present by the clock of `taken_at`, which may have been set since.
#[must_use]
pub fn now(snapshot: &Snapshot) -> Timestamp {
    snapshot.taken_at.checked_add(snapshot.read_at.elapsed()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        time::{Duration, Instant},
    };

    use serde_json::json;

    use super::*;

    #[test]
    fn figures_grow_old_by_the_monotonic_clock() {
        let mut snapshot = tracker_fixtures::snapshot();
        let Some(before) = Instant::now().checked_sub(Duration::from_secs(11)) else { return };
        snapshot.read_at = before;
        assert!(stale(&snapshot, now(&snapshot)).is_some_and(|text| text.contains("1 s old")));
    }

    #[test]
    fn answers_are_those_of_the_goldens() {
        let (fine, flood) = (Box::new(tracker_fixtures::snapshot()), Box::new(tracker_fixtures::under_flood()));
        for (name, snapshot) in [("fine", fine), ("flood", flood)] {
            let daemon = Daemon { version: "1.2.3", pid: 815 };
            let answers = json!({
                "status": status(&snapshot, daemon, snapshot.taken_at),
                "listeners": listeners(&snapshot),
                "states": states(&snapshot),
                "alerts": alerts(&snapshot),
            });
            let text = serde_json::to_string_pretty(&answers).unwrap();
            tracker_fixtures::golden::compare(Path::new(&format!("{name}.json")), &text);
        }
    }
}
