//! File descriptors: how many the daemon may have, how many of them clients get, and what helps when none is left.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Most connections of one listener: many more than scrapers and people, few enough to cost little.
const MAX_PER_LISTENER: u64 = 64;
/// Most connections of all listeners together.
const MAX_CONNECTIONS: u64 = 128;
/// Clients get one descriptor in this many; the others are for the kernel side, which opens one for each interface.
const CLIENT_SHARE: u64 = 8;

/// Raises the soft limit of open files, which is 1,024 under systemd, to the hard one. Returns what holds then.
#[must_use]
pub fn raise_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!("cannot raise the limit of open files from {soft} to {hard}: {error}");
            soft
        }
    }
}

/// How many connections clients may hold in all when the process may open `limit` files. Programs on interfaces leave
/// them that many descriptors.
#[must_use]
pub fn connections(limit: u64) -> u64 {
    MAX_CONNECTIONS.min(limit / CLIENT_SHARE)
}

/// How many of these connections each of `listeners` may hold.
#[must_use]
pub fn connections_per_listener(limit: u64, listeners: usize) -> usize {
    let share = connections(limit) / (listeners as u64).max(1);
    usize::try_from(share.clamp(1, MAX_PER_LISTENER)).unwrap_or(1)
}

/// What to do when an error says that no descriptor is left.
#[must_use]
pub fn hint(error: &io::Error) -> Option<&'static str> {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
        .then_some("raise the limit of open files (LimitNOFILE= of systemd, ulimit -n)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(512), hard).unwrap();
        assert_eq!(raise_limit(), hard);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }

    #[test]
    fn clients_get_an_eighth_of_the_descriptors_at_most() {
        assert_eq!([1_024, 20_000].map(|limit| connections_per_listener(limit, 2)), [64, 64]);
        assert_eq!((connections_per_listener(128, 2), connections_per_listener(1_024, 8)), (8, 16));
        assert_eq!(connections_per_listener(0, 2), 1, "somebody must be able to ask");
    }
}
