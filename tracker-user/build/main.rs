//! Builds the kernel programs and leaves the object where `kernel::OBJECT` includes it.
//!
//! How a crate is built for the BPF target is in `bpf`; `cargo xtask setup` installs the compiler and the linker.

mod bpf;

use anyhow::Result;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=../tracker-common/src");
    bpf::build("tracker-ebpf", "../tracker-ebpf", "tracker")
}
