//! `cargo xtask setup`: brings what tracker is built and tested with. One file a step.
//! A step says whether its part is there and installs it; building tracker itself does not belong here.

mod apt;
mod bpf_compiler;
mod bpf_linker;
mod lint_tools;
mod test_tools;

use anyhow::{Context as _, Result, bail};

use crate::host::Host;

/// Installs what is missing to build tracker; with --tests also what its tests need.
#[derive(clap::Args)]
#[command(after_help = "\
Every step says what it installs and why, and is skipped when that is there. An interrupted set-up can be run again.
Packages are installed with sudo when this is not run by root; services that they bring are not started.

Examples:
  cargo xtask setup             a compiler and a linker for the kernel programs
  cargo xtask setup --tests     also nginx, prometheus and so on, and the lints' programs")]
pub(crate) struct Arguments {
    /// Also what the tests need
    #[arg(long)]
    tests: bool,
}

impl Arguments {
    pub(crate) fn act(&self, host: &Host) -> Result<()> {
        set_up(host, if self.tests { Scope::Tests } else { Scope::Build })
    }
}

/// What a command needs.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    Build,
    Lint,
    Lab,
    Tests,
}

/// One thing to bring.
trait Step {
    /// What it is, in a few words.
    fn brings(&self) -> &'static str;
    /// What it is for.
    fn purpose(&self) -> &'static str;
    /// What is there already; `None` when something is missing. Asks the thing itself, no record of an earlier run.
    fn found(&self, host: &Host) -> Option<String>;
    /// Brings it. An error names the command to run by hand.
    fn install(&self, host: &Host) -> Result<()>;
}

/// Brings what is missing, step by step.
pub(crate) fn set_up(host: &Host, scope: Scope) -> Result<()> {
    for step in steps(scope) {
        ensure(host, *step).with_context(|| format!("set-up of the {}", step.brings()))?;
    }
    Ok(())
}

fn steps(scope: Scope) -> &'static [&'static dyn Step] {
    use bpf_compiler::BpfCompiler;
    use bpf_linker::BpfLinker;
    use lint_tools::{DENY, TYPOS};
    use test_tools::TestTools;
    match scope {
        Scope::Build => &[&BpfCompiler, &BpfLinker],
        Scope::Lint => &[&BpfCompiler, &BpfLinker, &DENY, &TYPOS],
        Scope::Lab => &[&BpfCompiler, &BpfLinker, &TestTools],
        Scope::Tests => &[&BpfCompiler, &BpfLinker, &TestTools, &DENY, &TYPOS],
    }
}

fn ensure(host: &Host, step: &dyn Step) -> Result<()> {
    let name = step.brings();
    if let Some(found) = step.found(host) {
        println!("found the {name}: {found}");
        return Ok(());
    }
    println!("installing the {name}: {}", step.purpose());
    step.install(host)?;
    let Some(found) = step.found(host) else {
        bail!("it was installed without an error, yet it is not found or does not work");
    };
    println!("installed the {name}: {found}");
    Ok(())
}
