//! Debian packages: the only part of set-up that needs root.

use anyhow::{Context as _, Result, bail};
use xshell::cmd;

use crate::host::Host;

/// Installs "$@" and starts nothing, now or at the next boot: the tests start their own nginx and prometheus, in
/// namespaces. The policy file is Debian's way to say so; it is taken away again, also after an interruption.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
if [ -e "$policy" ]; then policy=; fi
finish() {
    if [ -n "$policy" ]; then rm -f "$policy"; fi
    for service in $SERVICES; do
        if [ -e "/etc/init.d/$service" ]; then update-rc.d "$service" disable; fi
    done
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
if [ -n "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy"
fi
# An earlier run may have been interrupted half-way.
dpkg --configure -a
apt-get --option DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@"
"#;

/// Whether this system has packages of Debian's kind.
pub(super) fn present(host: &Host) -> bool {
    host.find("apt-get").is_some()
}

/// The version that apt would install, if it is one that `will_do`; asks the archive for its lists when those that are
/// there, which may be old, have none.
pub(super) fn candidate(host: &Host, package: &str, will_do: impl Fn(&String) -> bool) -> Result<Option<String>> {
    if !present(host) {
        return Ok(None);
    }
    if let Some(version) = listed(host, package).filter(&will_do) {
        return Ok(Some(version));
    }
    update(host)?;
    Ok(listed(host, package).filter(will_do))
}

fn listed(host: &Host, package: &str) -> Option<String> {
    let policy = Host::ask(cmd!(host.sh, "apt-cache policy {package}").env("LC_ALL", "C"))?;
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// Brings apt's lists up to date.
fn update(host: &Host) -> Result<()> {
    Host::run(&host.as_root(&[], "apt-get")?.arg("update"))
}

/// Installs packages. `services` are those that they would start at each boot.
pub(super) fn install(host: &Host, packages: &[&str], services: &[&str]) -> Result<()> {
    for package in packages {
        if candidate(host, package, |_| true)?.is_none() {
            bail!("apt has no package {package}; look for it under another name: apt-cache search {package}");
        }
    }
    let sudo = if host.root { "" } else { "sudo " };
    let by_hand = format!("{sudo}apt-get install --no-install-recommends {}", packages.join(" "));
    println!("$ {by_hand}");
    let variables =
        [("DEBIAN_FRONTEND".into(), "noninteractive".into()), ("SERVICES".into(), services.join(" ").into())];
    let command = host.as_root(&variables, "sh")?.arg("-c").arg(INSTALL).arg("sh").args(packages);
    command.quiet().run().with_context(|| format!("run it by hand: {sudo}apt-get update && {by_hand}"))
}
