//! Priority of the calling thread. A thread inherits that of the one that starts it.

/// Niceness of the kernel thread: in a flood the kernel's own work takes all CPUs, and the detector must not go blind
/// then. It uses about 1 % of one.
const NICE: libc::c_int = -10;

/// Lets the calling thread run before others. Without `CAP_SYS_NICE` it stays as it is.
pub fn raise() {
    set(NICE);
}

/// Gives the calling thread the priority of any other: its work may wait.
pub fn restore() {
    set(0);
}

fn set(nice: libc::c_int) {
    // SAFETY: a call without arguments that refer to memory; for Linux 0 is the calling thread.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } != 0 {
        tracing::debug!("a thread keeps its priority: {}", std::io::Error::last_os_error());
    }
}
