//! Builds the kernel programs and leaves the object where `kernel::OBJECT` includes it.

mod bpf;

use anyhow::Result;

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=../tracker-common/src");
    bpf::build("tracker-ebpf", "../tracker-ebpf", "tracker")
}
