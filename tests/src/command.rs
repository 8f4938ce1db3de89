//! Short commands that must succeed.

use std::{
    ffi::OsStr,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};

/// Runs a program and fails with what it wrote when it failed.
pub fn run(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
    output(program, arguments).map(drop)
}

/// Runs a program and returns what it wrote to standard output.
pub fn output(program: &str, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    stdout_of(&mut command)
}

/// Runs a command and returns what it wrote to standard output; fails with its standard error when it failed.
pub fn stdout_of(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.output().with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}: {}", String::from_utf8_lossy(&stderr).trim());
    String::from_utf8(stdout).with_context(|| format!("{command:?} wrote no UTF-8"))
}
