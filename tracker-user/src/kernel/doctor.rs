//! What this kernel and these rights allow: each check is made, not guessed.

use std::{collections::BTreeMap, fs, path::Path};

use aya::util::KernelVersion;
use caps::{CapSet, Capability};
use serde::{Deserialize, Serialize};
use tracker_common::names;

use super::{KernelError, Settings, SocketEvents, btf, drops, object};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It cannot be told from here.
    Unknown,
    /// Something is missing; the daemon runs without it.
    Limited,
    /// The daemon cannot run.
    Failed,
}

/// One check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What follows for the user: what it allows, or what is lost and the way out.
    pub consequence: String,
}

/// Everything that was checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The worst of all verdicts.
    pub verdict: Verdict,
    /// In the order of importance.
    pub checks: Vec<Check>,
}

fn check(name: &str, verdict: Verdict, found: impl Into<String>, consequence: impl Into<String>) -> Check {
    Check { name: name.into(), verdict, found: found.into(), consequence: consequence.into() }
}

/// Checks the running kernel and the rights of this process. `btf_file`: type information to use in place of the
/// kernel's own.
#[must_use]
pub fn report(btf_file: Option<&Path>) -> Report {
    let mut checks = vec![kernel(), type_information(btf_file)];
    checks.extend(rights());
    checks.extend(programs(btf_file));
    checks.extend([tcx(), jit(), lockdown()]);
    let verdict = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
    Report { verdict, checks }
}

fn kernel() -> Check {
    let name = "kernel";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = format!("Linux {}", release.trim());
    match KernelVersion::current() {
        Ok(version) if version >= KernelVersion::new(6, 1, 0) => {
            check(name, Verdict::Ok, release, "Linux 6.1 and later are supported")
        }
        _ => {
            check(name, Verdict::Limited, release, "tracker is made for Linux 6.1 and later; older ones are not tried")
        }
    }
}

fn type_information(file: Option<&Path>) -> Check {
    let name = "type information (BTF)";
    let path = file.unwrap_or(Path::new(btf::KERNEL_BTF));
    match btf::offsets(path) {
        Ok(offsets) => {
            let found = format!("{}: all {} fields that tracker reads", path.display(), offsets.len());
            check(name, Verdict::Ok, found, "kernel structures are read where this very kernel has them")
        }
        Err(error) => check(name, Verdict::Failed, error.to_string(), "the daemon does not start"),
    }
}

/// Each right that the daemon needs: what it allows, and what is lost without it.
const NEEDED: [(Capability, &str, &str); 3] = [
    (Capability::CAP_BPF, "programs can be loaded", "no program can be loaded"),
    (Capability::CAP_PERFMON, "programs may read sockets", "no program that reads sockets can be loaded"),
    (Capability::CAP_NET_ADMIN, "interfaces can be watched", "no program can be attached to an interface"),
];

/// The same of rights that the daemon can do without.
const USEFUL: [(&[Capability], &str, &str); 3] = [
    (
        &[Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH],
        "listeners older than the daemon are shown with their process",
        "listeners older than the daemon are shown without their process",
    ),
    (
        &[Capability::CAP_SYS_ADMIN],
        "--all-netns and --trace-bind can be used",
        "--all-netns and --trace-bind are refused",
    ),
    (
        &[Capability::CAP_SYS_NICE],
        "the detector runs before other work",
        "the detector may be late when the CPUs are busy, as in a flood",
    ),
];

fn rights() -> Vec<Check> {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    // The older right covers the three newer ones for bpf(2).
    let admin = has(Capability::CAP_SYS_ADMIN);
    let mut checks: Vec<_> = NEEDED
        .into_iter()
        .map(|(capability, allows, lost)| match (has(capability), admin) {
            (true, _) => check(&capability.to_string(), Verdict::Ok, "held", allows),
            (false, true) => check(&capability.to_string(), Verdict::Ok, "covered by CAP_SYS_ADMIN", allows),
            (false, false) => {
                let consequence = format!("{lost}; run as root, or give the process {capability}");
                check(&capability.to_string(), Verdict::Failed, "not held", consequence)
            }
        })
        .collect();
    checks.extend(USEFUL.into_iter().map(|(capabilities, allows, lost)| {
        let name = capabilities.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if capabilities.iter().all(|capability| has(*capability)) {
            check(&name, Verdict::Ok, "held", allows)
        } else {
            check(&name, Verdict::Limited, "not held", lost)
        }
    }));
    checks
}

/// Each program: what it allows, and what is lost without it.
const PROGRAMS: [(&str, &str, &str); 9] = [
    (
        names::PROGRAM_XDP,
        "packets of physical and virtio interfaces are seen by XDP where the driver runs it",
        "packets are seen by tc on every interface",
    ),
    (names::PROGRAM_TC, "packets of all other interfaces are seen", "packets of most interfaces cannot be seen"),
    (
        names::PROGRAM_SK_LOOKUP,
        "SYNs that rules translate, or drop before TCP, are told from those that reach a listener",
        "SYNs that rules translate, or drop before TCP, count as unanswered: published ports of containers may raise \
         syn_flood",
    ),
    (
        names::PROGRAM_SOCK_BTF,
        "socket events are seen at the least cost",
        "raw_tp takes its place, at more cost for each event",
    ),
    (names::PROGRAM_SOCK_RAW, "there is a fallback for socket events", "there is no fallback when tp_btf fails"),
    (
        names::PROGRAM_CENSUS,
        "sockets are counted by state, TIME_WAIT and half-open ones too; queues of listeners are read",
        "sockets are not counted by state, queues are not shown, listeners older than the daemon are not known",
    ),
    (
        names::PROGRAM_HOLDERS,
        "who holds a port or leaks a socket is named, and `tracker explain` answers",
        "there is no census, and who holds a port is not known",
    ),
    (
        names::PROGRAM_DROPS,
        "`tracker explain listen` names the reason for which the kernel drops SYNs",
        "`tracker explain listen` does not know which SYNs the kernel drops, and why",
    ),
    (
        names::PROGRAM_BIND,
        "refused bind() calls are seen by fexit, and raise bind_conflict alerts",
        "refused bind() calls are not seen, and bind_conflict alerts are not raised, without --trace-bind",
    ),
];

/// Loads each program, and attaches none but the tracepoints and fexit, which go again at once.
fn programs(btf_file: Option<&Path>) -> Vec<Check> {
    let settings = Settings { btf: btf_file.map(Path::to_path_buf), ..Settings::default() };
    let mut object = match object::open(&settings, 0) {
        Ok(object) => object,
        Err(error) => return vec![check("maps", Verdict::Failed, error.to_string(), "the daemon does not start")],
    };
    let text = |error: KernelError| match error {
        // Which one is said above.
        KernelError::NoRight => "the kernel refuses it: a right is missing, or lockdown forbids it".to_owned(),
        error => error.to_string(),
    };
    let packets = [names::PROGRAM_XDP, names::PROGRAM_TC]
        .map(|name| (name, object::load_packet_program(&mut object, name).map_err(text)));
    let events = [(names::PROGRAM_SOCK_BTF, SocketEvents::TpBtf), (names::PROGRAM_SOCK_RAW, SocketEvents::RawTp)]
        .map(|(name, how)| (name, object::attach_socket_events(&mut object, how).map(drop).map_err(text)));
    let has_fallback = events[1].1.is_ok();
    let is_needed = |name| name == names::PROGRAM_TC || (name == names::PROGRAM_SOCK_BTF && !has_fallback);
    let lookup = [(names::PROGRAM_SK_LOOKUP, object::load_sk_lookup(&mut object).map_err(text))];
    let drops = [(names::PROGRAM_DROPS, drops::load(&mut object).map(drop).map_err(text))];
    let passes = object::load_passes(&mut object).map_err(text);
    let passes = [names::PROGRAM_CENSUS, names::PROGRAM_HOLDERS].map(|name| (name, passes.clone()));
    let bind = [(names::PROGRAM_BIND, object::attach_fexit(&mut object).map_err(text))];
    let all = packets.into_iter().chain(events).chain(lookup).chain(drops).chain(passes).chain(bind);
    let mut results: BTreeMap<_, _> = all.collect();
    PROGRAMS
        .into_iter()
        .map(|(name, allows, lost)| match results.remove(name).unwrap_or_else(|| Err("it was not tried".into())) {
            Ok(()) => check(name, Verdict::Ok, "loads", allows),
            Err(error) if is_needed(name) => check(name, Verdict::Failed, error, lost),
            Err(error) => check(name, Verdict::Limited, error, lost),
        })
        .collect()
}

fn tcx() -> Check {
    let name = "tcx";
    if KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0)) {
        check(
            name,
            Verdict::Ok,
            "there since Linux 6.6",
            "no qdisc is added, and nothing stays when the daemon is killed",
        )
    } else {
        let consequence = "a clsact qdisc is added to watched interfaces in its place, and removed at the end";
        check(name, Verdict::Limited, "comes with Linux 6.6", consequence)
    }
}

fn jit() -> Check {
    let name = "BPF compiler (JIT)";
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").map(|value| value.trim().to_owned()) {
        Ok(value) if value == "0" => {
            let consequence = "programs are interpreted, several times slower; set net.core.bpf_jit_enable=1";
            check(name, Verdict::Limited, "off", consequence)
        }
        Ok(_) => check(name, Verdict::Ok, "on", "programs run as machine code"),
        // Absent in a namespace of its own; a kernel built with CONFIG_BPF_JIT_ALWAYS_ON has no choice.
        Err(_) => check(name, Verdict::Unknown, "not shown in this namespace", "most kernels have it always on"),
    }
}

fn lockdown() -> Check {
    let name = "lockdown";
    // The active mode stands in brackets: none [integrity] confidentiality
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let mode = modes.split('[').nth(1).and_then(|rest| rest.split(']').next());
    lockdown_mode(name, mode)
}

fn lockdown_mode(name: &str, mode: Option<&str>) -> Check {
    match mode {
        Some(mode @ "confidentiality") => {
            let lost = "kernel memory may not be read: no socket events, no census; boot with lockdown=integrity";
            check(name, Verdict::Failed, mode, lost)
        }
        Some(mode) => check(name, Verdict::Ok, mode, "kernel memory may be read by programs"),
        None => {
            let lost = "whether kernel memory may be read is not known from this; it may where the programs above load";
            check(name, Verdict::Unknown, "not shown (/sys/kernel/security is not mounted)", lost)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lockdown_that_is_not_shown_is_not_known_to_be_none() {
        let verdict = |mode| lockdown_mode("lockdown", mode).verdict;
        assert_eq!(verdict(None), Verdict::Unknown);
        assert_eq!([verdict(Some("none")), verdict(Some("integrity"))], [Verdict::Ok; 2]);
        assert_eq!(verdict(Some("confidentiality")), Verdict::Failed);
        assert!(
            Verdict::Ok < Verdict::Unknown && Verdict::Unknown < Verdict::Limited,
            "the worst is what is summed up"
        );
    }
}
