//! Bounded sets of time series: which subjects have a series of their own, and the sum of the others. A counter here
//! never goes back and does not come and go, while the lists of a snapshot are unbounded and change from moment to
//! moment.

mod failures;
mod listeners;
mod ports;
mod tuples;

pub use failures::FailureSeries;
pub use listeners::ListenerSeries;
pub use ports::PortSeries;
pub use tuples::TupleSeries;
