//! The compiler of the kernel programs: a rustc with a core library for the BPF target, known to rustup as
//! `tracker-bpf`, the name under which the daemon's build script looks for it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use xshell::cmd;

use super::{Step, apt};
use crate::host::Host;

/// rustup's name for it; tracker-user/build/bpf.rs has the same.
pub(super) const TOOLCHAIN: &str = "tracker-bpf";

/// Debian's compiler and its prebuilt core for BPF.
const PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// The oldest compiler that builds the kernel programs, as in the workspace's `rust-version`.
const OLDEST_MINOR: u32 = 95;

/// Where there is no such package: a nightly, which builds its core from source. A dated one stays what it is.
const NIGHTLY: &str = "nightly-2026-05-20";

pub(super) struct BpfCompiler;

impl Step for BpfCompiler {
    fn brings(&self) -> &'static str {
        "BPF compiler"
    }

    fn purpose(&self) -> &'static str {
        "stable Rust has no core library for the BPF target, which the kernel programs are built for"
    }

    fn found(&self, host: &Host) -> Option<String> {
        let version = Host::ask(cmd!(host.sh, "rustup run {TOOLCHAIN} rustc --version"))?;
        let sysroot = Host::ask(cmd!(host.sh, "rustup run {TOOLCHAIN} rustc --print sysroot"))?;
        // A toolchain of compiler and libraries only borrows its cargo from another toolchain, if there is one.
        Host::ask(cmd!(host.sh, "rustup run {TOOLCHAIN} cargo --version"))?;
        let core = core_of(Path::new(&sysroot), &version)?;
        Some(format!("{version}, {}", core.display()))
    }

    fn install(&self, host: &Host) -> Result<()> {
        let new_enough = |version: &String| minor(version).is_some_and(|minor| minor >= OLDEST_MINOR);
        match apt::candidate(host, PACKAGES[0], new_enough)? {
            Some(_) => from_debian(host),
            None => from_nightly(host),
        }
    }
}

/// The core library for the BPF target: prebuilt, or the source that a nightly builds it from.
fn core_of(sysroot: &Path, version: &str) -> Option<PathBuf> {
    let rustlib = sysroot.join("lib/rustlib");
    let prebuilt = rustlib.join("bpfel-unknown-none/lib");
    let has_core = prebuilt.read_dir().is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    });
    if has_core {
        return Some(prebuilt);
    }
    let source = rustlib.join("src/rust/library/core");
    (version.contains("nightly") && source.is_dir()).then_some(source)
}

/// 96 of 1.96.0 or 1.96.0+dfsg1-1.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("1.")?.split('.').next()?.parse().ok()
}

fn from_debian(host: &Host) -> Result<()> {
    apt::install(host, &PACKAGES, &[])?;
    Host::run(&cmd!(host.sh, "rustup toolchain link {TOOLCHAIN} /usr"))?;
    if Host::ask(cmd!(host.sh, "rustup run {TOOLCHAIN} cargo --version")).is_none() {
        // rustup lends the cargo of nightly, beta or stable, never that of a numbered toolchain.
        Host::run(&cmd!(host.sh, "rustup toolchain install stable --profile minimal"))?;
    }
    Ok(())
}

fn from_nightly(host: &Host) -> Result<()> {
    let install = cmd!(host.sh, "rustup toolchain install {NIGHTLY} --profile minimal --component rust-src");
    Host::run(&install).with_context(|| {
        format!(
            "neither Debian's {} nor a nightly with rust-src could be had; any rustc from 1.{OLDEST_MINOR} on with a \
            core for bpfel-unknown-none does: rustup toolchain link {TOOLCHAIN} ITS-SYSROOT",
            PACKAGES.join(" and ")
        )
    })?;
    let Some(sysroot) = Host::ask(cmd!(host.sh, "rustup run {NIGHTLY} rustc --print sysroot")) else {
        bail!("{NIGHTLY} does not start: rustup run {NIGHTLY} rustc --print sysroot");
    };
    Host::run(&cmd!(host.sh, "rustup toolchain link {TOOLCHAIN} {sysroot}"))
}

#[cfg(test)]
mod tests {
    use super::minor;

    #[test]
    fn versions_are_read_from_packages() {
        assert_eq!(minor("1.96.0+dfsg1-1~deb12u2"), Some(96));
        assert_eq!(minor("1.85.0"), Some(85));
        assert_eq!(minor("2:0.1"), None);
    }
}
