//! `cargo xtask test`

use anyhow::Result;
use xshell::cmd;

use crate::{
    build, docs,
    host::Host,
    setup::{self, Scope},
    stages::Stages,
};

/// Sets up what is missing and runs every test: lints, unit tests, and the lab as root.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                          everything, as CI does
  cargo xtask test --only lint              formatting, clippy, circles of modules, spelling, licences, documentation
  cargo xtask test --only unit              tests that need neither root nor a network
  cargo xtask test --only lab               the lab alone
  cargo xtask test --only lab frames        the cases of the lab with `frames` in their name")]
pub(crate) struct Arguments {
    /// Run one part
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Run only the cases of the lab with one of these in their name
    filters: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Part {
    Lint,
    Unit,
    Lab,
}

impl Arguments {
    pub(crate) fn act(&self, host: &Host) -> Result<()> {
        let mut stages = Stages::default();
        let scope = match self.only {
            None => Scope::Tests,
            Some(Part::Lint) => Scope::Lint,
            Some(Part::Unit) => Scope::Build,
            Some(Part::Lab) => Scope::Lab,
        };
        if !stages.run("set-up", || setup::set_up(host, scope)) {
            return stages.close();
        }
        if self.wants(Part::Lint) {
            lint(host, &mut stages);
        }
        if self.wants(Part::Unit) {
            stages.run("unit tests", || unit(host));
        }
        if self.wants(Part::Lab) {
            if stages.run("release build", || build::daemon(host)) {
                stages.run("lab", || self.lab(host));
            } else {
                stages.not_run("lab");
            }
        }
        stages.close()
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    fn lab(&self, host: &Host) -> Result<()> {
        let runner = host.root_runner(&host.lab_variables())?;
        let filters = &self.filters;
        let test = cmd!(host.sh, "cargo test --no-fail-fast {runner...} --package tracker-tests -- {filters...}");
        Host::run_as(test, format!("cargo xtask test --only lab {}", filters.join(" ")).trim_end())
    }
}

fn lint(host: &Host, stages: &mut Stages) {
    let sh = &host.sh;
    stages.run("format", || Host::run(&cmd!(sh, "cargo fmt --all --check")));
    // The kernel programs are linted as host code: clippy has no core for the BPF target.
    stages.run("clippy", || {
        Host::run(&cmd!(sh, "cargo clippy --keep-going --workspace --all-targets -- --deny warnings"))
    });
    stages.run("modules", || Host::run(&cmd!(sh, "cargo test --quiet --package xtask --test modules --test lines")));
    stages.run("spelling", || Host::run(&cmd!(sh, "typos")));
    stages
        .run("dependencies", || Host::run(&cmd!(sh, "cargo deny check --hide-inclusion-graph licenses bans sources")));
    // Two binaries are called tracker, the daemon and the kernel's object; the documentation has room for one.
    stages.run("documentation", || {
        let deny = "RUSTDOCFLAGS=--deny warnings";
        let options = ["--workspace", "--exclude", "tracker-ebpf", "--no-deps", "--document-private-items"];
        Host::run(&cmd!(sh, "env {deny} cargo doc {options...}"))
    });
    stages.run("generated docs", || docs::generate(host, true));
}

fn unit(host: &Host) -> Result<()> {
    let test = cmd!(host.sh, "cargo test --no-fail-fast --workspace --exclude tracker-ebpf --exclude tracker-tests");
    Host::run(&test)
}
