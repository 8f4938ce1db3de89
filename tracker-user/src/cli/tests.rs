//! What the commands print, against the texts in tracker-user/tests/golden/.

use std::path::Path;

use tracker_fixtures as sample;
use tracker_model::{Snapshot, api::Unwatched};

use super::*;
use crate::{golden, view};

/// A daemon that sees little: nothing listens, nothing was counted, an interface is seen on another.
fn blind() -> Snapshot {
    let mut snapshot = sample::snapshot();
    snapshot.listeners.clear();
    snapshot.census = None;
    snapshot.tcp_counters = None;
    snapshot.losses[3] = 1_234;
    snapshot.programs[1].run_count = 0;
    snapshot.missing = vec![Unwatched { name: "eth1".to_owned(), reason: "it is down".to_owned() }];
    snapshot.interfaces[0].hook = "lower";
    snapshot.interfaces[0].counters = tracker_common::counters::InterfaceCounters::default();
    snapshot
}

/// The answer as the command line has it: what is not in JSON is not there.
fn received<T: Serialize + DeserializeOwned>(answer: &T) -> T {
    serde_json::from_value(serde_json::to_value(answer).unwrap()).unwrap()
}

#[test]
fn answers_are_shown_as_in_the_goldens() {
    let snapshots = [
        ("fine", Box::new(sample::snapshot())),
        ("flood", Box::new(sample::under_flood())),
        ("blind", Box::new(blind())),
    ];
    for (name, snapshot) in snapshots {
        for (kind, wide) in [("table", false), ("wide", true)] {
            let view = View { wide, now: snapshot.taken_at, columns: Some(100) };
            let daemon = view::Daemon { version: "1.2.3", pid: 815 };
            let status = received(&view::status(&snapshot, daemon, snapshot.taken_at));
            let text = [
                status::render(&status, view),
                listeners::render(&received(&view::listeners(&snapshot)), view),
                states::render(&received(&view::states(&snapshot)), view),
            ];
            golden::compare(Path::new(&format!("{name}-{kind}.txt")), &text.join("\n"));
        }
    }
}
