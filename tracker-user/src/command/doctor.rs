//! `tracker doctor`: what this kernel and these rights allow, without a daemon.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use anyhow::Result;

use crate::{
    cli::{self, Output},
    kernel::doctor::{self, Check, Report, Verdict},
};

/// Checks and prints. The exit code says whether the daemon could run here.
pub(super) fn run(btf: Option<&Path>, output: Output) -> Result<ExitCode> {
    let report = doctor::report(btf);
    let text = match output {
        Output::Json => cli::json(&report)?,
        Output::Table | Output::Wide => render(&report),
    };
    cli::print(&text)?;
    Ok(if report.verdict == Verdict::Failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn render(report: &Report) -> String {
    let width = report.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for Check { name, verdict, found, consequence } in &report.checks {
        let _ = writeln!(text, "{:<8} {name:<width$}  {found}", word(*verdict));
        let _ = writeln!(text, "{:<8} {:<width$}  -> {consequence}", "", "");
    }
    let summary = match report.verdict {
        Verdict::Ok => "tracker can run here, with everything.",
        Verdict::Unknown => "tracker can run here, with everything as far as it can be told.",
        Verdict::Limited => "tracker can run here, with the limits named above.",
        Verdict::Failed => "tracker cannot run here as it is.",
    };
    let _ = writeln!(text, "\n{summary}");
    text
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Unknown => "unknown",
        Verdict::Limited => "limited",
        Verdict::Failed => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consequence_stands_below_what_was_found() {
        let check = |name: &str, verdict, consequence: &str| Check {
            name: name.to_owned(),
            verdict,
            found: "seen".to_owned(),
            consequence: consequence.to_owned(),
        };
        let checks =
            vec![check("kernel", Verdict::Ok, "all works"), check("a right", Verdict::Failed, "nothing works")];
        let text = render(&Report { verdict: Verdict::Failed, checks });
        let expected = "\
ok       kernel   seen
                  -> all works
FAILED   a right  seen
                  -> nothing works

tracker cannot run here as it is.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_limited_or_not_known_is_not_everything() {
        for (verdict, word, summary) in [
            (Verdict::Ok, "ok ", "tracker can run here, with everything.\n"),
            (Verdict::Unknown, "unknown ", "tracker can run here, with everything as far as it can be told.\n"),
            (Verdict::Limited, "limited ", "tracker can run here, with the limits named above.\n"),
        ] {
            let (name, found, consequence) = ("a check".to_owned(), "seen".to_owned(), "so".to_owned());
            let text = render(&Report { verdict, checks: vec![Check { name, verdict, found, consequence }] });
            assert!(text.starts_with(word) && text.ends_with(summary), "{text}");
        }
    }
}
