//! Recordings of what the detector saw, cut down to be kept as files that a test replays without root.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

/// Longest recording.
const BYTES: u64 = 300_000;
/// What is kept before the onset, and after the end, seconds.
const BEFORE: f64 = 3.0;
const AFTER: f64 = 12.0;
/// What is kept of a load without onset.
const LOAD: f64 = 60.0;

/// What a replay has to find.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Expectation {
    /// Class of the SYN flood.
    pub class: Option<String>,
    /// `syn_flood`, or none.
    pub kind: Option<String>,
    /// Seconds on the clock of the observations.
    pub onset: Option<f64>,
    /// End of the flood on that clock.
    pub end: Option<f64>,
    /// How many alerts of that kind for each port.
    pub incidents: u32,
    /// Port that it is about.
    pub port: u16,
    /// All the ports concerned.
    pub ports: Vec<u16>,
    /// Alerts of other kinds that may be seen.
    pub may: Vec<String>,
    /// Alerts of other kinds that must be seen.
    pub must: Vec<String>,
}

/// A recording to be made.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Name of the case.
    pub case: String,
    /// What a replay has to find; its times are filled in.
    pub expect: Expectation,
    /// Time of day of the first and the last frame.
    pub flood: Option<(Timestamp, Timestamp)>,
}

impl Recording {
    /// Cuts the daemon's own recording, and writes it to `directory`.
    pub fn write(mut self, recorded: &Path, directory: &Path) -> Result<PathBuf> {
        let text = fs::read_to_string(recorded).with_context(|| format!("read {}", recorded.display()))?;
        // The daemon may have been stopped within a line.
        let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        ensure!(!lines.is_empty(), "nothing was recorded in {}", recorded.display());
        let (from, to) = match self.flood {
            Some((start, end)) => {
                let (onset, end) = (at_of(&lines, start)?, at_of(&lines, end)?);
                (self.expect.onset, self.expect.end) = (Some(onset), Some(end));
                (onset - BEFORE, end + AFTER)
            }
            None => (at(&lines[0])?, at(&lines[0])? + LOAD),
        };
        fs::create_dir_all(directory)?;
        let path = directory.join(format!("{}.jsonl", self.case));
        let header = json!({ "case": self.case, "expect": self.expect }).to_string();
        let mut kept = Vec::new();
        for line in lines {
            if (from..=to).contains(&at(&line)?) {
                kept.push(line);
            }
        }
        // Shorter samples where the whole would be too long.
        for sample in [16, 8, 4] {
            for line in &mut kept {
                trim(line, &self.expect.ports, sample);
            }
            let lines: Vec<String> = [header.clone()].into_iter().chain(kept.iter().map(Value::to_string)).collect();
            fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("write {}", path.display()))?;
            if fs::metadata(&path)?.len() <= BYTES {
                break;
            }
        }
        Ok(path)
    }
}

/// Seconds on the clock of the observations.
fn at(line: &Value) -> Result<f64> {
    let part = |name: &str| line["at"][name].as_f64().with_context(|| format!("no at.{name}"));
    Ok(part("secs")? + part("nanos")? / 1e9)
}

/// A time of day on that clock, by the line that is nearest.
fn at_of(lines: &[Value], moment: Timestamp) -> Result<f64> {
    let mut nearest: Option<(f64, f64)> = None;
    for line in lines {
        let wall: Timestamp = line["wall"].as_str().context("no wall")?.parse()?;
        let off = moment.duration_since(wall).as_secs_f64();
        if nearest.is_none_or(|(best, _)| off.abs() < best.abs()) {
            nearest = Some((off, at(line)?));
        }
    }
    let (off, at) = nearest.context("no line")?;
    Ok(at + off)
}

/// Leaves out listeners of other cases, and most of each sample.
fn trim(line: &mut Value, ports: &[u16], sample: usize) {
    if let Some(listeners) = line["listeners"].as_array_mut() {
        let is_ours =
            |listener: &Value| ports.iter().any(|port| listener["id"]["port"].as_u64() == Some((*port).into()));
        listeners.retain(is_ours);
        for listener in listeners {
            shorten(&mut listener["sources"], sample);
        }
    }
    shorten(&mut line["refused"]["sources"], sample);
}

fn shorten(sources: &mut Value, length: usize) {
    if let Some(sample) = sources.get_mut("sample").and_then(Value::as_array_mut) {
        sample.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_cut() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let recorded = directory.path().join("recorded");
        let second = |at: i64| {
            let sources = json!({ "syns": 1, "sample": vec!["10.0.0.1"; 200] });
            let listener = |port| json!({ "id": { "port": port }, "sources": sources });
            let wall = Timestamp::from_second(1_000_000 + at).unwrap().to_string();
            json!({ "at": { "secs": at, "nanos": 0 }, "wall": wall, "listeners": [listener(80), listener(81)],
                    "refused": { "sources": null } })
        };
        let lines: Vec<String> = (0..100).map(|at| second(at).to_string()).collect();
        fs::write(&recorded, lines.join("\n"))?;
        let expect = Expectation { port: 80, ports: vec![80], ..Expectation::default() };
        let moment = |at: i64| Timestamp::from_millisecond((1_000_000 + at) * 1_000 + 250).unwrap();
        let recording = Recording { case: "one".to_owned(), expect, flood: Some((moment(20), moment(30))) };
        let text = fs::read_to_string(recording.write(&recorded, directory.path())?)?;
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["expect"]["onset"], json!(20.25));
        assert_eq!((at(&lines[1])?, at(&lines[lines.len() - 1])?), (18.0, 42.0));
        assert_eq!(lines[1]["listeners"].as_array().map(Vec::len), Some(1));
        assert_eq!(lines[1]["listeners"][0]["sources"]["sample"].as_array().map(Vec::len), Some(16));
        Ok(())
    }
}
