//! The programs that the lab runs beside tracker. To add one, add a line to the table.

use anyhow::{Result, bail};

use super::{Step, apt};
use crate::host::Host;

struct Tool {
    program: &'static str,
    package: &'static str,
    /// What its package would start at each boot.
    service: Option<&'static str>,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package, service: None }
}

const TOOLS: [Tool; 13] = [
    // Namespaces, veth pairs, tc; and `ss`, which the socket counts must equal.
    tool("ip", "iproute2"),
    tool("ss", "iproute2"),
    // Firewall rules that drop, limit, reject and translate.
    tool("nft", "nftables"),
    // sysctl: the kernel's limits, inside a namespace.
    tool("sysctl", "procps"),
    // What the kernel has of programs, when a daemon has gone.
    tool("bpftool", "bpftool"),
    // Processes without rights, and without parts of /sys.
    tool("setpriv", "util-linux"),
    tool("unshare", "util-linux"),
    // The real server and the real clients.
    Tool { program: "nginx", package: "nginx-light", service: Some("nginx") },
    tool("wrk", "wrk"),
    tool("curl", "curl"),
    // Floods from forged sources.
    tool("hping3", "hping3"),
    // A real scrape; promtool, which checks the metrics, comes with it.
    Tool { program: "prometheus", package: "prometheus", service: Some("prometheus") },
    tool("promtool", "prometheus"),
];

pub(super) struct TestTools;

impl Step for TestTools {
    fn brings(&self) -> &'static str {
        "test programs"
    }

    fn purpose(&self) -> &'static str {
        "the lab needs real servers, clients, floods and a real Prometheus"
    }

    fn found(&self, host: &Host) -> Option<String> {
        missing(host).is_empty().then(|| TOOLS.map(|tool| tool.program).join(", "))
    }

    fn install(&self, host: &Host) -> Result<()> {
        let missing = missing(host);
        if !apt::present(host) {
            let programs: Vec<_> = missing.iter().map(|tool| tool.program).collect();
            bail!("there is no apt here; install these programs, then run this again: {}", programs.join(", "));
        }
        let mut packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
        packages.dedup();
        let mut services: Vec<_> = missing.iter().filter_map(|tool| tool.service).collect();
        services.dedup();
        apt::install(host, &packages, &services)
    }
}

fn missing(host: &Host) -> Vec<&'static Tool> {
    TOOLS.iter().filter(|tool| host.find(tool.program).is_none()).collect()
}

#[cfg(test)]
mod tests {
    use super::TOOLS;

    #[test]
    fn programs_of_one_package_stand_together() {
        let mut packages: Vec<_> = TOOLS.iter().map(|tool| tool.package).collect();
        packages.dedup();
        let runs = packages.len();
        packages.sort_unstable();
        packages.dedup();
        assert_eq!(runs, packages.len(), "or the list of packages to install has one twice");
    }
}
