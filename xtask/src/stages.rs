//! Stages of a long command: each announced, timed, and listed at the end.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

enum Outcome {
    Passed(Duration),
    Failed(Duration),
    NotRun,
}

/// The stages so far. A failed one does not stop those that do not need it.
#[derive(Default)]
pub(crate) struct Stages(Vec<(&'static str, Outcome)>);

impl Stages {
    /// Runs a stage and says whether it passed.
    pub(crate) fn run(&mut self, name: &'static str, stage: impl FnOnce() -> Result<()>) -> bool {
        println!("\n==> {name}");
        let start = Instant::now();
        let result = stage();
        let took = start.elapsed();
        let passed = result.is_ok();
        if let Err(error) = result {
            eprintln!("{name} failed: {error:#}");
        }
        self.0.push((name, if passed { Outcome::Passed(took) } else { Outcome::Failed(took) }));
        passed
    }

    /// Notes a stage that could not run, because one that it needs failed.
    pub(crate) fn not_run(&mut self, name: &'static str) {
        self.0.push((name, Outcome::NotRun));
    }

    /// Lists the stages; fails when one did.
    pub(crate) fn close(self) -> Result<()> {
        println!("\n==> summary");
        for (name, outcome) in &self.0 {
            match outcome {
                Outcome::Passed(took) => println!("  passed  {name:<14} {:>7.1} s", took.as_secs_f64()),
                Outcome::Failed(took) => println!("  FAILED  {name:<14} {:>7.1} s", took.as_secs_f64()),
                Outcome::NotRun => println!("  not run {name:<14}"),
            }
        }
        let failed: Vec<_> = self
            .0
            .iter()
            .filter(|(_, outcome)| !matches!(outcome, Outcome::Passed(_)))
            .map(|(name, _)| *name)
            .collect();
        if !failed.is_empty() {
            bail!("not passed: {}", failed.join(", "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::Stages;

    #[test]
    fn a_failed_stage_fails_the_whole() {
        let mut stages = Stages::default();
        assert!(stages.run("one", || Ok(())));
        assert!(!stages.run("two", || bail!("on purpose")));
        stages.not_run("three");
        assert_eq!(stages.close().unwrap_err().to_string(), "not passed: two, three");
    }

    #[test]
    fn stages_that_pass_pass() {
        let mut stages = Stages::default();
        assert!(stages.run("one", || Ok(())));
        assert!(stages.close().is_ok());
    }
}
