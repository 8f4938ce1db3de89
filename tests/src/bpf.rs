//! What tracker has left in the kernel.

use std::{collections::BTreeSet, fs, thread, time::Duration, time::Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{command, namespace::Namespace};

/// How many programs called `tracker_…` are in the kernel.
pub fn loaded() -> Result<usize> {
    Ok(programs()?.len())
}

/// Programs called `tracker_…` that no process holds: they are pinned, or attached beyond the life of their daemon.
/// Those of a daemon that runs, here or elsewhere on the machine, are not among them.
pub fn orphans() -> Result<BTreeSet<u64>> {
    let programs = programs()?;
    if programs.is_empty() {
        return Ok(programs);
    }
    Ok(programs.difference(&held()).copied().collect())
}

fn programs() -> Result<BTreeSet<u64>> {
    let listed = command::output("bpftool", ["-j", "prog", "show"]).context("bpftool, of the package bpftool")?;
    let listed: Value = serde_json::from_str(&listed)?;
    let ours = |program: &&Value| program["name"].as_str().is_some_and(|name| name.starts_with("tracker_"));
    let ids = listed.as_array().context("no list")?.iter().filter(ours).filter_map(|program| program["id"].as_u64());
    Ok(ids.collect())
}

/// The programs that processes hold, themselves or by a link.
fn held() -> BTreeSet<u64> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let descriptors = processes.filter_map(|process| fs::read_dir(process.path().join("fdinfo")).ok()).flatten();
    // A process or descriptor that is gone meanwhile holds nothing.
    let infos = descriptors.flatten().filter_map(|descriptor| fs::read_to_string(descriptor.path()).ok());
    infos.flat_map(|info| prog_ids(&info)).collect()
}

fn prog_ids(info: &str) -> Vec<u64> {
    info.lines().filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()).collect()
}

/// Checks that nothing of tracker is left: no program that nobody holds, none on the devices of `namespace`, nothing
/// pinned. The kernel takes programs down a moment after their last user has gone, so this waits for up to 5 s.
pub fn ensure_nothing_left(namespace: &Namespace) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = nothing_left(namespace) {
        if Instant::now() >= deadline {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn nothing_left(namespace: &Namespace) -> Result<()> {
    let orphans = orphans()?;
    ensure!(orphans.is_empty(), "programs {orphans:?} are left in the kernel");
    let links = command::output("ip", ["-n", namespace.name(), "-details", "link"])?;
    ensure!(!links.contains("prog/xdp"), "an XDP program is left on a device:\n{links}");
    let attached = command::stdout_of(namespace.command("bpftool").arg("net"))?;
    ensure!(!attached.contains("tracker_"), "a program is left on a device:\n{attached}");
    ensure!(!fs::exists("/sys/fs/bpf/tracker")?, "/sys/fs/bpf/tracker is left");
    Ok(())
}
