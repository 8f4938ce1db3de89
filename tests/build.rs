//! Builds the kernel programs of the benchmark.

#[path = "../tracker-user/build/bpf.rs"]
mod bpf;

fn main() -> anyhow::Result<()> {
    bpf::build("tracker-tests-ebpf", "ebpf", "empty")
}
