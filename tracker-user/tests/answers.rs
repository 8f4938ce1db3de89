//! The commands against an API that answers: what they print and how they exit.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use serde_json::Value;
use tracker_model::{Snapshot, sample};
use tracker_user::{
    api::{self, ApiSocket, SocketFile},
    source::{Refresh, Source},
};

struct Always(Arc<Snapshot>);

impl Source for Always {
    fn snapshot(&self) -> Option<Arc<Snapshot>> {
        Some(self.0.clone())
    }

    fn refresh(&self) -> Refresh<'_> {
        Box::pin(async { Some(self.0.clone()) })
    }
}

/// An API that answers as long as this lives.
struct Api {
    _runtime: tokio::runtime::Runtime,
    _file: SocketFile,
    directory: tempfile::TempDir,
}

impl Api {
    fn serve(snapshot: Snapshot) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let guard = runtime.enter();
        let (listener, file) = ApiSocket::bind(&socket(directory.path())).unwrap().into_parts();
        runtime.spawn(axum::serve(listener, api::router(Arc::new(Always(Arc::new(snapshot))))).into_future());
        drop(guard);
        Self { _runtime: runtime, _file: file, directory }
    }

    /// Exit code and standard output.
    fn run(&self, words: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tracker"));
        let output = command.args(words).env("TRACKER_API_SOCKET", socket(self.directory.path())).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    fn json(&self, words: &[&str]) -> Value {
        let (code, text) = self.run(words);
        assert_eq!((code, text.lines().count()), (0, 1), "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("tracker.sock")
}

#[test]
fn alerts_are_told_to_people_and_to_programs() {
    let api = Api::serve(sample::under_flood());
    let (code, text) = api.run(&["alerts"]);
    assert!(code == 0 && text.contains("critical  firing") && text.contains("warning   resolved"), "{text}");
    let (_, firing) = api.run(&["alerts", "--firing", "-o", "wide"]);
    assert!(!firing.contains("resolved") && firing.contains("    advice "), "{firing}");
    let ids = |words: &[&str]| -> Vec<u64> {
        let answer = api.json(words);
        answer["alerts"].as_array().unwrap().iter().map(|alert| alert["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&["alerts", "-o", "json"]), [3, 4, 1]);
    assert_eq!(ids(&["alerts", "-o", "json", "--firing"]), [3, 4]);
}

#[test]
fn without_alerts_it_is_fine() {
    let api = Api::serve(sample::snapshot());
    assert_eq!(api.run(&["alerts"]), (0, "no alerts\n".to_owned()));
    assert_eq!(api.json(&["alerts", "-o", "json"])["alerts"], Value::Array(Vec::new()));
}

#[test]
fn a_check_under_flood_is_critical() {
    let api = Api::serve(sample::under_flood());
    let (code, text) = api.run(&["status", "--check"]);
    assert!(code == 2 && text.lines().count() == 1, "{text}");
    assert!(text.starts_with("TRACKER CRITICAL: SYN flood of [::]:443: "), "{text}");
    let status = api.json(&["status", "-o", "json"]);
    assert_eq!((&status["alerts"]["firing"], &status["tcp_counters"]["ListenDrops"]), (&2.into(), &57_000.into()));
    let listeners = api.json(&["listeners", "-o", "json"]);
    assert_eq!(
        (&listeners["listeners"][1]["verdict"], &listeners["no_listener"]["verdict"]),
        (&"spoofed".into(), &"scan".into())
    );
}
