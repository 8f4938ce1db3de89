//! Local ports: how many there are for a destination, how many are taken, when they will be gone.

mod advice;
mod exhaustion;
pub mod explain;
mod failing;
mod leaks;
mod seen;
pub mod settings;
mod target;
#[cfg(test)]
mod testing;
mod trend;
mod usage;
mod watch;
mod words;

pub use leaks::{LeakSeen, LeakWatch, LeaksSeen, SILENT};
pub use seen::{ConflictSeen, FailureSeen, PortsSeen, RestSeen, SourceSeen, TupleSeen, UdpSeen};
pub use settings::{PortListError, PortSet, PortSettings, TwReuse};
pub use trend::{RECENT, TIME_WAIT};
pub use usage::{Room, Usage, may_reuse};
pub use watch::PortWatch;
