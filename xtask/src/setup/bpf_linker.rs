//! The linker of the kernel programs. It reads the compiler's bitcode, so it needs the LLVM of that compiler.

use std::{env, path::Path};

use anyhow::{Context as _, Result, bail};
use xshell::cmd;

use super::{Step, apt, bpf_compiler::TOOLCHAIN};
use crate::host::Host;

const VERSION: &str = "0.13.0";

pub(super) struct BpfLinker;

impl Step for BpfLinker {
    fn brings(&self) -> &'static str {
        "BPF linker"
    }

    fn purpose(&self) -> &'static str {
        "bpf-linker makes one BPF object of the kernel programs; built from source, about a minute and a half"
    }

    fn found(&self, host: &Host) -> Option<String> {
        let version = Host::ask(cmd!(host.sh, "bpf-linker --version"))?;
        let path = host.find("bpf-linker")?;
        (version == format!("bpf-linker {VERSION}")).then(|| format!("{version}, {}", path.display()))
    }

    fn install(&self, host: &Host) -> Result<()> {
        let llvm = llvm_major(host)?;
        let prefix = llvm_prefix(host, llvm)?;
        let feature = format!("llvm-{llvm}");
        let install = cmd!(
            host.sh,
            "env LLVM_PREFIX={prefix} cargo install bpf-linker --version {VERSION} --no-default-features
                --features {feature} --locked --force"
        );
        Host::run(&install)
    }
}

/// The LLVM that the compiler of the kernel programs is built on.
fn llvm_major(host: &Host) -> Result<u32> {
    let ask = cmd!(host.sh, "rustup run {TOOLCHAIN} rustc --version --verbose");
    let answer = ask.quiet().read()?;
    let version = answer.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    version
        .and_then(|version| version.split('.').next()?.parse().ok())
        .with_context(|| format!("rustc does not say which LLVM it is built on:\n{answer}"))
}

/// Where that LLVM's libraries and `bin/llvm-config` are.
fn llvm_prefix(host: &Host, llvm: u32) -> Result<String> {
    if let Ok(prefix) = env::var("LLVM_PREFIX") {
        return Ok(prefix);
    }
    let prefix = format!("/usr/lib/llvm-{llvm}");
    if Path::new(&prefix).join("bin/llvm-config").exists() && Path::new("/usr/include/zlib.h").exists() {
        return Ok(prefix);
    }
    if !apt::present(host) {
        bail!("install LLVM {llvm} and zlib with their headers, then: LLVM_PREFIX=WHERE-LLVM-IS cargo xtask setup");
    }
    apt::install(host, &[&format!("llvm-{llvm}-dev"), "zlib1g-dev"], &[])?;
    Ok(prefix)
}
