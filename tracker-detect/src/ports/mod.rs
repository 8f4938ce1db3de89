//! Local ports: how many there are for a destination, how many are taken, when they will run out, and the alerts on
//! them. Reading sockets and settings belongs to tracker-user.

mod advice;
mod capacity;
mod failed_calls;
mod forecast;
mod model;
mod observation;
mod pools;
mod reading;
mod rows;
pub mod settings;
mod subject;
mod text;

pub use capacity::{PortCapacity, may_reuse};
pub use forecast::{RECENT, TIME_WAIT};
pub use model::{PortModel, is_short};
pub use observation::{PortsObservation, RangeObservation, SourceObservation, TupleObservation, UdpObservation};
pub use reading::PortsReading;
pub use settings::{PortSet, PortSettings, TwReuse};
pub use text::report;

pub(crate) use self::{
    advice::MANY_FREE,
    capacity::ratio,
    subject::{Index, Target},
    text::{keep_peak, render},
};
