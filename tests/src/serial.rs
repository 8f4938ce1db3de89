//! One case at a time: the lab measures, and cases share the CPUs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::unistd::Uid;

use crate::namespace;

/// Waits until no other case of this process runs, and clears what labs that were killed left behind.
///
/// # Panics
/// When the lab cannot work here: it needs root, for namespaces and packet sockets.
pub fn alone() -> MutexGuard<'static, ()> {
    static CASE: Mutex<()> = Mutex::new(());
    assert!(Uid::effective().is_root(), "the lab needs root, for namespaces and raw frames: run `cargo xtask test`");
    // A case that failed has undone itself all the same: its lock serves on.
    let guard = CASE.lock().unwrap_or_else(PoisonError::into_inner);
    namespace::sweep().expect("sweep what dead labs left behind");
    guard
}
