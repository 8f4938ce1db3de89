//! The lints' programs, each at the version that the lints are clean with.

use anyhow::Result;
use xshell::cmd;

use super::Step;
use crate::host::Host;

pub(super) struct LintTool {
    brings: &'static str,
    purpose: &'static str,
    krate: &'static str,
    program: &'static str,
    version: &'static str,
}

pub(super) const DENY: LintTool = LintTool {
    brings: "dependency lint",
    purpose: "cargo-deny checks the licences and sources of dependencies; built from source, about a minute",
    krate: "cargo-deny",
    program: "cargo-deny",
    version: "0.20.2",
};

pub(super) const TYPOS: LintTool = LintTool {
    brings: "spelling lint",
    purpose: "typos finds misspelt words; built from source, about a minute",
    krate: "typos-cli",
    program: "typos",
    version: "1.52.0",
};

/// Optimised less than a release: these run for a second or two, and build in half the time.
const PROFILE: [&str; 3] =
    ["CARGO_PROFILE_RELEASE_LTO=off", "CARGO_PROFILE_RELEASE_OPT_LEVEL=1", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16"];

impl Step for LintTool {
    fn brings(&self) -> &'static str {
        self.brings
    }

    fn purpose(&self) -> &'static str {
        self.purpose
    }

    fn found(&self, host: &Host) -> Option<String> {
        let program = self.program;
        let answer = Host::ask(cmd!(host.sh, "{program} --version"))?;
        // "typos-cli 1.52.0", "cargo-deny 0.20.2"
        (answer.split_whitespace().last() == Some(self.version)).then_some(answer)
    }

    fn install(&self, host: &Host) -> Result<()> {
        let Self { krate, version, .. } = self;
        let install = cmd!(host.sh, "env {PROFILE...} cargo install {krate} --version {version} --locked --force");
        Host::run(&install)
    }
}
