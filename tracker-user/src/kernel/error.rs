//! Errors from loading, attaching or reading, each with a remedy.

use aya::{EbpfError, maps::MapError, programs::ProgramError};

use super::btf::BtfError;

/// An error of the kernel side.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Other network namespaces may not be entered.
    #[error("--all-netns needs CAP_SYS_ADMIN, to enter other network namespaces; run as root, or leave it out")]
    NoRightForNetns,
    /// A tracepoint of a system call cannot be attached.
    #[error(
        "--trace-bind: tracepoint syscalls:{event}: {reason}; it needs tracefs (mount -t tracefs nodev \
         /sys/kernel/tracing) and CAP_SYS_ADMIN, or leave --trace-bind out"
    )]
    Tracepoint {
        /// Its name.
        event: &'static str,
        /// Why not.
        reason: String,
    },
    /// Type information of the kernel is missing.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The running kernel has no type information of its own, which some programs need whatever file is named.
    #[error(
        "{what} needs the running kernel's own type information (BTF) at {}, and it has none; {hint}",
        super::btf::KERNEL_BTF
    )]
    NoKernelBtf {
        /// What needs it.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The process may not load programs.
    #[error(
        "no right to load BPF programs; run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN \
         (`tracker doctor` says which is missing)"
    )]
    NoRight,
    /// The object does not load.
    #[error("load the kernel programs: {0}")]
    Load(#[source] EbpfError),
    /// One program does not load.
    #[error("load {name}: {}", summary(.source))]
    Program {
        /// Its name.
        name: &'static str,
        /// Why.
        source: ProgramError,
    },
    /// A program does not attach.
    #[error("attach {name} to {target}: {}", summary(.source))]
    Attach {
        /// Its name.
        name: &'static str,
        /// Interface or tracepoint.
        target: String,
        /// Why.
        source: ProgramError,
    },
    /// The object has no such program: it and this binary do not fit together.
    #[error("the object has no program {0}")]
    NoSuchProgram(&'static str),
    /// The object has no such map: it and this binary do not fit together.
    #[error("the object has no map {0}")]
    NoSuchMap(&'static str),
    /// A map cannot be read or written.
    #[error("map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// Why.
        source: MapError,
    },
    /// As many ports are being watched as can be.
    #[error("too many ports are being watched at once; try again")]
    TooManyWatches,
    /// The number of CPUs is not known.
    #[error("{path}: {source}")]
    Cpus {
        /// File that says it.
        path: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The named interface does not exist.
    #[error("no such interface: {name}; there are: {existing}")]
    NoSuchInterface {
        /// As asked for.
        name: String,
        /// Those that exist.
        existing: String,
    },
    /// The named interface is down.
    #[error("interface {name} is down; bring it up with `ip link set {name} up`, or name another with --interface")]
    InterfaceDown {
        /// As asked for.
        name: String,
    },
    /// The named interface has neither Ethernet nor IP packets.
    #[error("interface {name} cannot be watched: {reason}")]
    Unsupported {
        /// As asked for.
        name: String,
        /// Why.
        reason: String,
    },
    /// No more files may be open.
    #[error(
        "all but a reserve of the {limit} descriptors that the process may have are open; raise the limit \
         (LimitNOFILE= of the unit, `ulimit -n`) and restart"
    )]
    Descriptors {
        /// `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// The kernel did not list its interfaces or routes.
    #[error("netlink: {0}")]
    Netlink(String),
    /// The thread that owns the kernel side panicked.
    #[error("the kernel thread panicked: {0}")]
    Panic(String),
    /// A file of /proc or a thread failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why.
        source: std::io::Error,
    },
}

impl KernelError {
    /// Without the interface that a program was to be attached to: many may have the same reason.
    pub(super) fn without_target(&self) -> String {
        match self {
            Self::Attach { name, source, .. } => format!("attach {name}: {}", summary(source)),
            other => other.to_string(),
        }
    }

    /// The cause alone, where the program and what it is for are plain from the context.
    pub(super) fn cause(&self) -> String {
        match self {
            Self::Attach { source: ProgramError::SyscallError(error), .. } => error.io_error.to_string(),
            Self::Program { source, .. } | Self::Attach { source, .. } => summary(source),
            other => other.to_string(),
        }
    }
}

/// One line of a program error. The verifier's log, if there is one, is logged at debug level where the error arises.
fn summary(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let statistics = ["processed", "stack depth", "verification time", "peak_states"];
            let telling = |line: &&str| !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word));
            match log.lines().rev().find(telling) {
                Some(line) => format!("{io_error}: the verifier says: {line}"),
                None => io_error.to_string(),
            }
        }
        ProgramError::SyscallError(error) => format!("{}: {}", error.call, error.io_error),
        other => other.to_string(),
    }
}

impl KernelError {
    /// An error of loading, by its cause.
    pub(super) fn program(name: &'static str, source: ProgramError) -> Self {
        if let ProgramError::LoadError { verifier_log, .. } = &source {
            tracing::debug!(program = name, "verifier log:\n{verifier_log}");
        }
        if denied(&source) { Self::NoRight } else { Self::Program { name, source } }
    }
}

/// Whether a program was refused because a capability is missing: EPERM with nothing from the verifier.
fn denied(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, verifier_log }
        if io_error.raw_os_error() == Some(libc::EPERM) && verifier_log.to_string().trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_that_are_refused_alike_have_one_reason() {
        let refused = |target: &str| KernelError::Attach {
            name: "tracker_tc",
            target: target.into(),
            source: ProgramError::NotLoaded,
        };
        assert_eq!(refused("eth1").without_target(), refused("eth2").without_target());
        assert!(refused("eth1").to_string().contains("eth1"));
    }
}
