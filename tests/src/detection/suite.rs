//! All cases, light ones side by side.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{
    attack::{ATTACKS, Attack, Expect, Run},
    benign::{LOADS, Load, Watched},
    evaluate::{self, Outcome},
    lab::{self, Lab},
    many::Many,
    record::{Expectation, Recording},
    table::Results,
};
use crate::{Family, namespace};

/// Name of the case with ten million sources.
pub const MANY: &str = "ten_million";
/// Its frames.
const MANY_FRAMES: u64 = 10_000_000;
/// Settings of `net.ipv4.tcp_syncookies`.
const COOKIES: [u8; 3] = [0, 1, 2];
/// Loads that run side by side.
const LOAD_LANES: usize = 5;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Runs of each attack, at least.
    pub runs: usize,
    /// How long each load is watched.
    pub lasting: Duration,
    /// Only cases of these names; all when there are none.
    pub only: Vec<String>,
    /// Attacks that run side by side.
    pub lanes: usize,
    /// Where to put recordings: each attack then runs once.
    pub record: Option<PathBuf>,
}

/// Runs of one attack against one daemon.
struct Batch {
    attack: Attack,
    cookies: u8,
    families: Vec<Family>,
}

/// The names of all cases.
#[must_use]
pub fn names() -> Vec<&'static str> {
    ATTACKS.iter().map(|attack| attack.name).chain(LOADS.iter().map(|load| load.name)).chain([MANY]).collect()
}

impl Plan {
    /// Measures everything that is planned. What fails is in the results.
    pub fn run(&self) -> Result<Results> {
        let unknown: Vec<_> = self.only.iter().filter(|name| !names().contains(&name.as_str())).collect();
        ensure!(unknown.is_empty(), "there are no cases {unknown:?}; there are {}", names().join(", "));
        lab::raise_limits()?;
        let progress = Progress { start: Instant::now() };
        let results = Mutex::new(Results::default());
        let keep = |put: &dyn Fn(&mut Results)| put(&mut results.lock().unwrap_or_else(PoisonError::into_inner));

        let (heavy, light): (Vec<_>, Vec<_>) = self.batches().into_iter().partition(|batch| batch.attack.heavy);
        for (batches, lanes) in [(light, self.lanes), (heavy, 1)] {
            in_lanes(batches, lanes, |batch| {
                let outcomes = self.run_batch(&batch, &progress);
                keep(&|results| results.attacks.extend(outcomes.iter().cloned()));
            });
        }
        let wanted = LOADS.into_iter().filter(|load| self.wants(load.name));
        let (heavy, light): (Vec<_>, Vec<_>) = wanted.partition(|load| load.heavy);
        for (loads, lanes) in [(light, LOAD_LANES), (heavy, 1)] {
            in_lanes(loads, lanes, |load| {
                progress.say(&format!("{} for {:?}", load.name, self.lasting));
                let watched = self.run_load(&load).unwrap_or_else(|error| Watched::broken(load.name, &error));
                progress.say(&format!("{} {}", load.name, said(&watched.failures)));
                keep(&|results| results.loads.push(watched.clone()));
            });
        }
        if self.wants(MANY) && self.record.is_none() {
            for family in Family::BOTH {
                let many = Many::run(family, MANY_FRAMES);
                progress.say(&format!("{MANY} {} {many:?}", family.name()));
                keep(&|results| match &many {
                    Ok(many) => results.many.push(many.clone()),
                    Err(error) => results.broken.push(format!("{MANY} {}: {error:#}", family.name())),
                });
            }
        }
        Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// The runs: as many of each setting, and together at least as many as planned.
    fn batches(&self) -> Vec<Batch> {
        let mut batches = Vec::new();
        for attack in ATTACKS.into_iter().filter(|attack| self.wants(attack.name)) {
            if self.record.is_some() {
                batches.push(Batch { attack, cookies: 1, families: vec![attack.families[0]] });
                continue;
            }
            let rounds = self.runs.div_ceil(attack.families.len() * COOKIES.len());
            for cookies in COOKIES {
                batches.push(Batch { attack, cookies, families: attack.families.repeat(rounds) });
            }
        }
        batches
    }

    fn run_batch(&self, batch: &Batch, progress: &Progress) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let name = batch.attack.name;
        if let Err(error) = self.try_batch(batch, progress, &mut outcomes) {
            progress.say(&format!("{name}: {error:#}"));
            let setting = format!("cookies {}", batch.cookies);
            outcomes.push(Outcome::broken(name, &setting, &error));
        }
        outcomes
    }

    fn try_batch(&self, batch: &Batch, progress: &Progress, outcomes: &mut Vec<Outcome>) -> Result<()> {
        let Batch { attack, cookies, families } = batch;
        let ports = u16::try_from(families.len())? * attack.ports;
        let lab = Lab::new(*cookies, ports)?;
        let recorder = self.recorder()?;
        let daemon = lab.daemon(recorder.as_ref().map(|(_, file)| file))?;
        for (index, &family) in families.iter().enumerate() {
            let port = u16::try_from(index)? * attack.ports;
            let run = Run { lab: &lab, daemon: &daemon, attack: *attack, family, cookies: *cookies, port };
            let setting = evaluate::setting(family, *cookies);
            let outcome = run.run().unwrap_or_else(|error| Outcome::broken(attack.name, &setting, &error));
            progress.say(&line(&outcome));
            if let (Some((_, file)), Some(directory)) = (&recorder, &self.record) {
                attack_recording(&run, &outcome).write(file, directory)?;
            }
            outcomes.push(outcome);
        }
        daemon.stop(Signal::SIGTERM).context("stop the daemon")
    }

    fn run_load(&self, load: &Load) -> Result<Watched> {
        let recorder = self.recorder()?;
        let watched = load.run(self.lasting, recorder.as_ref().map(|(_, file)| file))?;
        if let (Some((_, file)), Some(directory)) = (&recorder, &self.record) {
            load_recording(load).write(file, directory)?;
        }
        Ok(watched)
    }

    /// A file for the daemon to record to.
    fn recorder(&self) -> Result<Option<(TempDir, PathBuf)>> {
        let Some(_) = &self.record else { return Ok(None) };
        let directory = namespace::scratch("record")?;
        let file = Path::join(directory.path(), "observations.jsonl");
        Ok(Some((directory, file)))
    }
}

fn attack_recording(run: &Run<'_>, outcome: &Outcome) -> Recording {
    let (class, kind) = match run.attack.expect {
        Expect::Flood(class) => (Some(class.name().to_owned()), Some("syn_flood".to_owned())),
        Expect::Visible(_) => (None, None),
    };
    let incidents = u32::from(kind.is_some());
    let ports = [run.ports(), run.served_ports()].concat();
    let expect = Expectation { class, kind, incidents, port: ports[0], ports, ..Expectation::default() };
    let flood = outcome.span.map(|(start, end)| (start + run.attack.onset(), end));
    Recording { case: run.attack.name.to_owned(), expect, flood }
}

fn load_recording(load: &Load) -> Recording {
    let must: Vec<_> = load.alert.iter().map(|(kind, _)| kind.name().to_owned()).collect();
    let ports = vec![Lab::port(0), Lab::port(1)];
    let expect = Expectation { port: ports[0], ports, may: must.clone(), must, ..Expectation::default() };
    Recording { case: load.name.to_owned(), expect, flood: None }
}

/// Does all the work, `lanes` at a time.
fn in_lanes<T: Send>(work: Vec<T>, lanes: usize, act: impl Fn(T) + Sync) {
    let queue = Mutex::new(VecDeque::from(work));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(item) = next() {
                    act(item);
                }
            });
        }
    });
}

/// Lines that show that it lives.
struct Progress {
    start: Instant,
}

impl Progress {
    fn say(&self, line: &str) {
        eprintln!("{:>7.1} s  {line}", self.start.elapsed().as_secs_f64());
    }
}

fn line(outcome: &Outcome) -> String {
    let Outcome { name, setting, frames, alert_after, end_after, class, .. } = outcome;
    let class = class.map_or("-", tracker_model::api::Class::name);
    let time = |value: &Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2} s"));
    let (alert, end) = (time(alert_after), time(end_after));
    let failures = said(&outcome.failures);
    format!("{name} {setting}: {frames} frames, {class} after {alert}, over after {end}, {failures}")
}

fn said(failures: &[String]) -> String {
    if failures.is_empty() { "ok".to_owned() } else { format!("FAIL: {}", failures.join("; ")) }
}
