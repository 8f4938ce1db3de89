//! Builds programs for the BPF target. Silent, unless they do not build.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use object::build::elf::{Builder, SectionData};

/// The toolchain that `cargo xtask setup` links: a rustc with a core for the BPF target.
const TOOLCHAIN: &str = "tracker-bpf";
const TARGET: &str = "bpfel-unknown-none";

/// Builds a binary of a package and leaves it in `OUT_DIR`.
pub fn build(package: &str, directory: &str, binary: &str) -> Result<()> {
    println!("cargo:rerun-if-changed={directory}");
    println!("cargo:rerun-if-changed=build");
    let out = PathBuf::from(env::var_os("OUT_DIR").context("no OUT_DIR: this is for cargo to run")?);
    let architecture = env::var("CARGO_CFG_TARGET_ARCH")?;
    // A directory of its own: cargo holds a lock on the other one.
    let target = out.join("bpf");
    let mut cargo = rustup("cargo");
    cargo.args(["build", "--release", "--target", TARGET, "--package", package, "--bin", binary, "--target-dir"]);
    cargo.arg(&target);
    let version = rustup("rustc").arg("--version").output().context("start rustup")?.stdout;
    if String::from_utf8_lossy(&version).contains("nightly") {
        // Others have a prebuilt core.
        cargo.args(["-Z", "build-std=core"]);
    }
    let flags = [&format!("--cfg=bpf_target_arch=\"{architecture}\""), "-Cdebuginfo=2", "-Clink-arg=--btf"];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // These two crates open one unstable feature, assembly for the BPF target; this lets them do so on a stable rustc.
    cargo.env("RUSTC_BOOTSTRAP", "aya_ebpf,tracker");
    // The compiler of the other toolchain, which cargo tells its build scripts.
    cargo.env_remove("RUSTC").env_remove("RUSTC_WORKSPACE_WRAPPER");
    let output = cargo.output().context("start rustup")?;
    ensure!(
        output.status.success(),
        "{package} does not build; `cargo xtask setup` brings its compiler and linker\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let built = target.join(TARGET).join("release").join(binary);
    let object = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    let small = without_debug(&object).with_context(|| format!("take debug information out of {}", built.display()))?;
    fs::write(out.join(binary), small).with_context(|| format!("write {binary}"))
}

/// The object without debug information, most of its size: the linker has made type information (BTF) of it, and nobody
/// reads it after that.
fn without_debug(object: &[u8]) -> Result<Vec<u8>> {
    let mut elf = Builder::read(object)?;
    for section in &mut elf.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    }
    elf.delete_orphans();
    // LLVM keeps the names of sections with those of symbols; the writer wants them apart.
    let names = elf.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut small = Vec::new();
    elf.write(&mut small)?;
    Ok(small)
}

/// A program of the toolchain.
fn rustup(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", TOOLCHAIN, program]);
    command
}
