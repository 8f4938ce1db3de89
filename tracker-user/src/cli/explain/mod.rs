//! `tracker explain`: asks the daemon whether a call would fail now, and shows why. The rules of the kernel and the
//! sentences about them belong to tracker-detect.

pub(super) mod bind;
pub(super) mod connect;

use std::{fmt::Write as _, path::Path, process::ExitCode};

use anyhow::Result;
use serde::{Serialize, de::DeserializeOwned};
use tracker_model::{
    api::paths,
    explain::{BindAnswer, BindQuery, ConnectAnswer, ConnectQuery, Protocol},
};

use super::{
    args::{BindArgs, ConnectArgs, Explain},
    errors::{self, UsageError},
    format::printable,
    get,
    output::{self, Output, View},
};

/// Exit code with `--check`: the call would fail.
const WOULD_FAIL: u8 = 1;
/// Exit code with `--check`: not known, the daemon did not answer.
const NOT_KNOWN: u8 = 2;

/// Asks about the call, and prints.
pub(super) fn run(call: &Explain, socket: &Path, output: Output) -> Result<ExitCode> {
    match call {
        Explain::Connect(args) => {
            let verdict = |answer: &ConnectAnswer| (answer.would_fail, answer.summary.clone());
            show(connect_path(args), args.check, socket, output, verdict, connect::render)
        }
        Explain::Bind(args) => {
            let verdict = |answer: &BindAnswer| (!answer.succeeds, answer.summary.clone());
            show(bind_path(args), args.check, socket, output, verdict, bind::render)
        }
    }
}

/// What is asked: a path, and a line that says which address a name has.
type Question = (String, Option<String>);

/// Prints the answer, or the line for a monitoring system.
fn show<T: DeserializeOwned + Serialize>(
    question: Result<Question>,
    is_check: bool,
    socket: &Path,
    output: Output,
    verdict: fn(&T) -> (bool, String),
    render: fn(&T, View) -> String,
) -> Result<ExitCode> {
    let answer = question.and_then(|(path, note)| Ok((get::<T>(socket, &path)?, note)));
    if is_check {
        return Ok(check(answer.map(|(answer, _)| verdict(&answer))));
    }
    let (answer, note) = answer?;
    let note = note.map_or_else(String::new, |line| line + "\n");
    super::print_answer(&answer, output, |answer, view| note + &render(answer, view))
}

/// Prints one line: whether the call would fail, and how, or why that is not known.
fn check(verdict: Result<(bool, String)>) -> ExitCode {
    let (code, line) = match verdict {
        Ok((false, summary)) => (0, format!("TRACKER OK: {}", printable(&summary))),
        Ok((true, summary)) => (WOULD_FAIL, format!("TRACKER WARNING: {}", printable(&summary))),
        Err(error) => (NOT_KNOWN, format!("TRACKER CRITICAL: {}", errors::chain(&error))),
    };
    let _ = output::print(&(line + "\n"));
    ExitCode::from(code)
}

fn connect_path(args: &ConnectArgs) -> Result<Question> {
    let (address, note) = args.target.resolve(args.source)?;
    let query = ConnectQuery { address, port: args.target.port, source: args.source };
    Ok((path(paths::EXPLAIN_CONNECT, &query)?, note))
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
    Ok((path(paths::EXPLAIN_BIND, &query)?, note))
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
