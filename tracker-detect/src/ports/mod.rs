//! Local ports: how many there are for a destination, how many are taken, when they will be gone.

mod advice;
mod call_failures;
mod capacity;
mod exhaustion;
mod forecast;
mod model;
mod observation;
pub mod settings;
mod subject;
#[cfg(test)]
pub(crate) mod testing;
mod text;

pub use capacity::{Room, Usage, may_reuse};
pub use forecast::{RECENT, TIME_WAIT};
pub use model::PortWatch;
pub use observation::{ConflictSeen, FailureSeen, PortsSeen, RestSeen, SourceSeen, TupleSeen, UdpSeen};
pub use settings::{PortListError, PortSet, PortSettings, TwReuse};
pub use text::report;

use tracker_model::api::AlertKind;

/// The kinds of alert that the port model opens.
pub const KINDS: &[AlertKind] = &[AlertKind::PortExhaustion, AlertKind::PortAllocationFailed, AlertKind::BindConflict];
