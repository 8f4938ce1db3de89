//! Builds the kernel programs for the BPF target and leaves the object where `kernel::OBJECT` includes it.

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

/// The toolchain that `cargo xtask setup` links: a rustc with a prebuilt core for the BPF target.
const TOOLCHAIN: &str = "tracker-bpf";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=../tracker-common/src");
    // aya-ebpf and the kernel programs (crate `tracker`) open one unstable feature, assembly for the BPF target; this
    // lets these two crates alone do so on a stable rustc.
    // SAFETY: the build script has a single thread.
    unsafe { std::env::set_var("RUSTC_BOOTSTRAP", "aya_ebpf,tracker") };
    aya_build::build_ebpf(
        [Package { name: "tracker-ebpf", root_dir: "../tracker-ebpf", ..Package::default() }],
        Toolchain::Custom(TOOLCHAIN),
    )
    .context("the kernel programs do not build; `cargo xtask setup` brings the compiler and the linker for them")
}
