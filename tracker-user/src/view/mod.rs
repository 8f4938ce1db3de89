//! Views: the answers of the API, made of a [`tracker_model::Snapshot`] alone. No HTTP and no text for people.

mod alerts;
mod health;
mod listeners;
mod states;
mod status;

pub use alerts::alerts;
pub use health::stale;
pub use listeners::listeners;
pub use states::{connects_attempted, connects_established, states};
pub use status::{Daemon, status};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

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
