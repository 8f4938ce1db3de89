//! `tracker explain`: asks the daemon whether a call would fail now, or why nobody connects, and shows why. The rules
//! of the kernel and the sentences about them belong to tracker-detect.

pub(super) mod bind;
pub(super) mod connect;
pub(super) mod listen;

use std::{fmt::Write as _, path::Path, process::ExitCode, time::Duration};

use anyhow::Result;
use serde::{Serialize, de::DeserializeOwned};
use tracker_model::{
    api::paths,
    explain::{BindAnswer, BindQuery, ConnectAnswer, ConnectQuery, ListenAnswer, ListenQuery, Protocol},
};

use super::{
    args::{BindArgs, ConnectArgs, Explain, ListenArgs},
    errors::{self, UsageError},
    format::printable,
    get_after,
    output::{self, Output, View},
};

/// Exit code with `--check`: the call would fail, or nobody can connect.
const WOULD_FAIL: u8 = 1;
/// Exit code with `--check`: not known, or the daemon did not answer.
const NOT_KNOWN: u8 = 2;

/// Asks about the call, and prints.
pub(super) fn run(call: &Explain, socket: &Path, output: Output) -> Result<ExitCode> {
    match call {
        Explain::Connect(args) => {
            let verdict = |answer: &ConnectAnswer| (Some(answer.would_fail), answer.summary.clone());
            show(connect_path(args), args.check, socket, output, verdict, connect::render)
        }
        Explain::Bind(args) => {
            let verdict = |answer: &BindAnswer| (Some(!answer.succeeds), answer.summary.clone());
            show(bind_path(args), args.check, socket, output, verdict, bind::render)
        }
        Explain::Listen(args) => {
            let verdict =
                |answer: &ListenAnswer| (answer.cause.is_known().then_some(answer.blocked), answer.summary.clone());
            show(listen_path(args), args.check, socket, output, verdict, listen::render)
        }
    }
}

/// What is asked.
struct Question {
    path: String,
    /// A line that says which address a name has.
    note: Option<String>,
    /// How long the daemon takes for the answer at least.
    takes: Duration,
}

/// Prints the answer, or the line for a monitoring system.
fn show<T: DeserializeOwned + Serialize>(
    question: Result<Question>,
    is_check: bool,
    socket: &Path,
    output: Output,
    verdict: fn(&T) -> (Option<bool>, String),
    render: fn(&T, View) -> String,
) -> Result<ExitCode> {
    let answer = question.and_then(|asked| Ok((get_after::<T>(socket, &asked.path, asked.takes)?, asked.note)));
    if is_check {
        return Ok(check(answer.map(|(answer, _)| verdict(&answer))));
    }
    let (answer, note) = answer?;
    let note = note.map_or_else(String::new, |line| line + "\n");
    super::print_answer(&answer, output, |answer, view| note + &render(answer, view))
}

/// Prints one line: whether the call would fail, and how, or why that is not known.
fn check(verdict: Result<(Option<bool>, String)>) -> ExitCode {
    let (code, line) = match verdict {
        Ok((Some(false), summary)) => (0, format!("TRACKER OK: {}", printable(&summary))),
        Ok((Some(true), summary)) => (WOULD_FAIL, format!("TRACKER WARNING: {}", printable(&summary))),
        Ok((None, summary)) => (NOT_KNOWN, format!("TRACKER CRITICAL: {}", printable(&summary))),
        Err(error) => (NOT_KNOWN, format!("TRACKER CRITICAL: {}", errors::chain(&error))),
    };
    let _ = output::print(&(line + "\n"));
    ExitCode::from(code)
}

fn connect_path(args: &ConnectArgs) -> Result<Question> {
    let (address, note) = args.target.resolve(args.source)?;
    let query = ConnectQuery { address, port: args.target.port, source: args.source };
    Ok(Question { path: path(paths::EXPLAIN_CONNECT, &query)?, note, takes: Duration::ZERO })
}

fn bind_path(args: &BindArgs) -> Result<Question> {
    let (address, note) = args.target.resolve(None)?;
    if args.ipv6_only && address.is_ipv4() {
        let error = format!("--ipv6-only is an option of IPv6 sockets, and {address} is an IPv4 address");
        return Err(UsageError(error).into());
    }
    let query = BindQuery {
        address,
        port: args.target.port,
        protocol: if args.udp { Protocol::Udp } else { Protocol::Tcp },
        reuse_address: args.reuse_address,
        reuse_port: args.reuse_port,
        ipv6_only: args.ipv6_only.then_some(true),
        uid: args.user.unwrap_or_default(),
    };
    Ok(Question { path: path(paths::EXPLAIN_BIND, &query)?, note, takes: Duration::ZERO })
}

fn listen_path(args: &ListenArgs) -> Result<Question> {
    let (address, note) = args.target.resolve(None)?;
    let query = ListenQuery { address, port: args.target.port, seconds: args.seconds };
    let takes = Duration::from_secs(args.seconds.into());
    Ok(Question { path: path(paths::EXPLAIN_LISTEN, &query)?, note, takes })
}

fn path(path: &str, query: &impl Serialize) -> Result<String> {
    Ok(format!("{path}?{}", serde_urlencoded::to_string(query)?))
}

/// A paragraph of lines under a title; empty without lines.
fn paragraph(title: &str, lines: &[String]) -> String {
    let mut text = if lines.is_empty() { String::new() } else { format!("\n{title}\n") };
    for line in lines {
        let _ = writeln!(text, "  - {}", printable(line));
    }
    text
}

#[cfg(test)]
mod tests;
