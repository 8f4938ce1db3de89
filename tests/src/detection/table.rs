//! The table of results: what was measured, and which bounds were missed.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use super::{
    attack::{ATTACKS, Attack, Expect},
    benign::{LOADS, Watched},
    evaluate::{Bounds, Outcome},
    many::Many,
};

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    /// Runs of attacks.
    pub attacks: Vec<Outcome>,
    /// Loads that are none.
    pub loads: Vec<Watched>,
    /// Ten million sources.
    pub many: Vec<Many>,
    /// What could not be measured at all.
    pub broken: Vec<String>,
}

impl Results {
    /// Whether nothing missed its bound, and something was measured.
    #[must_use]
    pub fn hold(&self) -> bool {
        let measured = !(self.attacks.is_empty() && self.loads.is_empty() && self.many.is_empty());
        measured
            && self.broken.is_empty()
            && self.by_attack().into_iter().all(|(_, runs)| Row::of(&runs).holds())
            && self.loads.iter().all(|load| load.failures.is_empty())
            && self.many.iter().all(Many::holds)
    }

    fn by_attack(&self) -> Vec<(Attack, Vec<&Outcome>)> {
        let of = |attack: &Attack| self.attacks.iter().filter(|run| run.name == attack.name).collect::<Vec<_>>();
        ATTACKS.into_iter().map(|attack| (attack, of(&attack))).filter(|(_, runs)| !runs.is_empty()).collect()
    }

    /// All of it, in Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        [self.attack_table(), self.load_table(), self.many_table(), self.missed()].concat()
    }

    fn attack_table(&self) -> String {
        let attacks = self.by_attack();
        if attacks.is_empty() {
            return String::new();
        }
        let mut text =
            "| attack | runs | alert after, median | worst | class | listener | rate off by | sources off by \
                        | end after | incidents | counts | clients served | API, p99 | slowest | |\n"
                .to_owned();
        text += &rule(15);
        for (attack, runs) in attacks {
            let row = Row::of(&runs);
            let is_flood = matches!(attack.expect, Expect::Flood(_));
            let only = |text: String| if is_flood { text } else { "-".to_owned() };
            let _infallible = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                attack.what,
                runs.len(),
                only(seconds(row.median)),
                only(seconds(row.worst)),
                of_runs(row.class_right, runs.len()),
                of_runs(row.listener_right, runs.len()),
                only(percent(row.rate)),
                only(percent(row.sources)),
                only(seconds(row.end)),
                row.incidents,
                row.counts(runs.len()),
                row.served(),
                milliseconds(row.api_usual),
                milliseconds(row.api),
                verdict(row.holds()),
            );
        }
        text + "\n"
    }

    fn load_table(&self) -> String {
        if self.loads.is_empty() {
            return String::new();
        }
        let mut text = "| load | minutes | connections | failed | alerts | API, slowest | |\n".to_owned();
        text += &rule(7);
        for load in &self.loads {
            let what = LOADS.iter().find(|known| known.name == load.name).map_or("", |known| known.what);
            let failed: u64 = load.seen.failed.values().sum();
            let _infallible = writeln!(
                text,
                "| {} | {:.1} | {} | {failed} | {} | {} | {} |",
                what,
                load.minutes,
                load.seen.established,
                counted(&load.alerts),
                milliseconds(load.slowest),
                verdict(load.failures.is_empty())
            );
        }
        text + "\n"
    }

    fn many_table(&self) -> String {
        if self.many.is_empty() {
            return String::new();
        }
        let mut text =
            "| distinct sources | a second | SYNs counted | lost on the way | named | maps: at start, before, after \
                        | resident: at start, before, after | |\n"
                .to_owned();
        text += &rule(8);
        for many in &self.many {
            #[expect(clippy::cast_precision_loss, reason = "ten million")]
            let rate = many.frames as f64 / many.seconds;
            let _infallible = writeln!(
                text,
                "| {} {} | {rate:.0} | {} | {} | {} | {}, {}, {} KiB | {}, {}, {} KiB | {} |",
                many.frames,
                many.family.name(),
                many.syns,
                many.dropped,
                many.distinct.map_or("-".to_owned(), |distinct| format!("{distinct:.0}")),
                many.start.maps >> 10,
                many.before.maps >> 10,
                many.after.maps >> 10,
                many.start.resident >> 10,
                many.before.resident >> 10,
                many.after.resident >> 10,
                verdict(many.holds())
            );
        }
        text + "\n"
    }

    fn missed(&self) -> String {
        let runs = self.attacks.iter().filter(|run| !run.failures.is_empty());
        let runs = runs.map(|run| format!("{} {}: {}", run.name, run.setting, run.failures.join("; ")));
        let loads = self.loads.iter().filter(|load| !load.failures.is_empty());
        let loads = loads.map(|load| format!("{}: {}", load.name, load.failures.join("; ")));
        let lines: Vec<_> = runs.chain(loads).chain(self.broken.iter().cloned()).collect();
        if lines.is_empty() { String::new() } else { format!("Missed:\n\n- {}\n", lines.join("\n- ")) }
    }
}

/// Runs of one attack, together.
#[derive(Debug)]
struct Row {
    median: Option<f64>,
    worst: Option<f64>,
    class_right: usize,
    listener_right: usize,
    rate: Option<f64>,
    sources: Option<f64>,
    end: Option<f64>,
    incidents: usize,
    exact: usize,
    short: u64,
    done: u64,
    tried: u64,
    api: Duration,
    api_usual: Duration,
    failed: usize,
}

impl Row {
    fn of(runs: &[&Outcome]) -> Self {
        let worst = |value: fn(&Outcome) -> Option<f64>| runs.iter().filter_map(|run| value(run)).reduce(f64::max);
        let count = |value: fn(&Outcome) -> bool| runs.iter().filter(|run| value(run)).count();
        Self {
            median: median(runs.iter().filter_map(|run| run.alert_after).collect()),
            worst: worst(|run| run.alert_after),
            class_right: count(|run| run.class_right),
            listener_right: count(|run| run.listener_right),
            rate: worst(|run| run.rate_error),
            sources: worst(|run| run.sources_error),
            end: worst(|run| run.end_after),
            incidents: runs.iter().map(|run| run.incidents).max().unwrap_or(0),
            exact: count(|run| run.exact),
            short: runs.iter().map(|run| run.short).sum(),
            done: runs.iter().map(|run| run.served.0).sum(),
            tried: runs.iter().map(|run| run.served.1).sum(),
            api: runs.iter().map(|run| run.api.0).max().unwrap_or_default(),
            api_usual: runs.iter().map(|run| run.api.1).max().unwrap_or_default(),
            failed: count(|run| !run.failures.is_empty()),
        }
    }

    fn holds(&self) -> bool {
        self.failed == 0 && self.median.is_none_or(|median| median <= Bounds::ALERT_MEDIAN)
    }

    fn counts(&self, runs: usize) -> String {
        match self.short {
            0 if self.exact == runs => "exact".to_owned(),
            short if self.exact == runs => format!("{short} short, and said so"),
            _ => of_runs(self.exact, runs),
        }
    }

    fn served(&self) -> String {
        format!("{} of {}", self.done, self.tried)
    }
}

/// The middle of some values, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, values[middle])),
        _ => Some(values[middle]),
    }
}

fn seconds(value: Option<f64>) -> String {
    value.map_or("never".to_owned(), |value| format!("{value:.2} s"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{:.2} %", value * 100.0))
}

fn milliseconds(value: Duration) -> String {
    format!("{:.1} ms", value.as_secs_f64() * 1e3)
}

fn of_runs(right: usize, runs: usize) -> String {
    if right == runs { "right".to_owned() } else { format!("{right} of {runs}") }
}

fn verdict(holds: bool) -> &'static str {
    if holds { "ok" } else { "**FAIL**" }
}

/// The line below the heads of this many columns.
fn rule(columns: usize) -> String {
    format!("|{}\n", " --- |".repeat(columns))
}

/// Equal lines once, with how many they are.
fn counted(lines: &[String]) -> String {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line).or_insert(0) += 1;
    }
    let lines: Vec<_> = counts.into_iter().map(|(line, count)| format!("{count} {line}")).collect();
    if lines.is_empty() { "none".to_owned() } else { lines.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn counts_are_exact_or_said_to_be_short() {
        let run = |exact, short| Outcome { exact, short, ..Outcome::default() };
        let counts = |runs: &[Outcome]| Row::of(&runs.iter().collect::<Vec<_>>()).counts(runs.len());
        assert_eq!(counts(&[run(true, 0), run(true, 0)]), "exact");
        assert_eq!(counts(&[run(true, 3), run(true, 1)]), "4 short, and said so");
        assert_eq!(counts(&[run(false, 3), run(true, 0)]), "1 of 2");
    }

    #[test]
    fn a_missed_bound_shows() {
        let run = |alert_after| Outcome { name: "spoofed_500".to_owned(), alert_after, ..Outcome::default() };
        let mut results = Results { attacks: vec![run(Some(1.0)), run(Some(1.2))], ..Results::default() };
        assert!(results.hold(), "{}", results.markdown());
        results.attacks.push(run(Some(2.0)));
        results.attacks.push(run(Some(2.0)));
        assert!(!results.hold(), "the median is 1.6 s");
    }
}
