//! Local ports: how many there are for a destination, how many are taken, when they will be gone.

mod advice;
mod exhaustion;
mod call_failures;
mod leaks;
mod observation;
pub mod settings;
mod subject;
#[cfg(test)]
mod testing;
mod forecast;
mod capacity;
mod model;
mod text;

pub use leaks::{LeakSeen, LeakWatch, LeaksSeen, SILENT};
pub use observation::{ConflictSeen, FailureSeen, PortsSeen, RestSeen, SourceSeen, TupleSeen, UdpSeen};
pub use settings::{PortListError, PortSet, PortSettings, TwReuse};
pub use forecast::{RECENT, TIME_WAIT};
pub use capacity::{Room, Usage, may_reuse};
pub use model::PortWatch;
