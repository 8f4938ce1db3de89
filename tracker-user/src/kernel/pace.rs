//! How often the kernel thread repeats what takes time: the detector shares the thread.

use std::time::{Duration, Instant};

/// A task may take this share of one CPU: the pause after it is this many times its length.
pub const SHARE: u32 = 100;
/// The same when somebody waits for the answer.
const SHARE_ASKED: u32 = 10;

/// Whether a task that ended at `last` and took `took` may be done again: not before `shortest` has passed.
pub fn is_due(last: Option<Instant>, took: Duration, shortest: Duration, asked: bool) -> bool {
    let share = if asked { SHARE_ASKED } else { SHARE };
    last.is_none_or(|last| last.elapsed() >= shortest.max(took * share))
}
