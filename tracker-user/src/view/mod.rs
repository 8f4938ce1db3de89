//! Views: what the API answers, made of a [`tracker_model::Snapshot`] alone.

mod alerts;
mod health;
mod listeners;
mod states;
mod status;

pub use alerts::alerts;
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
        let snapshots = [("fine", tracker_fixtures::snapshot()), ("flood", tracker_fixtures::under_flood())];
        for (name, snapshot) in snapshots {
            let daemon = Daemon { version: "1.2.3", pid: 815 };
            let answers = json!({
                "status": status(&snapshot, daemon, snapshot.taken_at),
                "listeners": listeners(&snapshot),
                "states": states(&snapshot),
                "alerts": alerts(&snapshot),
            });
            let text = serde_json::to_string_pretty(&answers).unwrap();
            crate::golden::compare(Path::new(&format!("{name}.json")), &text);
        }
    }
}
