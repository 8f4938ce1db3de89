//! Descriptors: each program on an interface takes one, and the API, metrics and the census need some too.

use std::{fs::File, os::fd::AsRawFd as _};

use nix::sys::resource::{Resource, getrlimit};

use crate::{descriptors::connections, kernel::error::KernelError};

/// Descriptors that programs on interfaces leave to the daemon itself, at most.
const OWN: u64 = 64;

/// Whether there is room for one more program on an interface.
///
/// # Errors
/// Names the limit when no descriptor is left.
pub fn check() -> Result<(), KernelError> {
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    // The kernel gives out the lowest number that is free, so all below it are taken.
    let taken = match File::open("/proc") {
        Ok(file) => u64::try_from(file.as_raw_fd()).unwrap_or_default(),
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => limit,
        Err(_) => return Ok(()),
    };
    if is_room(taken, limit) { Ok(()) } else { Err(KernelError::Descriptors { limit }) }
}

/// A small limit has a small reserve: the daemon itself takes about 70.
fn is_room(taken: u64, limit: u64) -> bool {
    taken < limit.saturating_sub(OWN.min(limit / 16) + connections(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_left() {
        assert!(is_room(831, 1024) && !is_room(832, 1024) && !is_room(1024, 1024));
        assert!(is_room(103, 128) && !is_room(104, 128));
    }
}
