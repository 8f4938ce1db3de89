//! Bounded sets of time series.
//!
//! A counter that a monitoring system follows must never go back and must not come and go, while the lists that a
//! snapshot holds are unbounded or change from one moment to the next. What stands here remembers which of them have
//! a series of their own, and adds up the rest so that it never goes back.

mod failures;
mod listeners;
mod ports;
mod tuples;

pub use failures::FailureSeries;
pub use listeners::{ListenerSeries, Split};
pub use ports::PortSeries;
pub use tuples::{OtherTuples, TupleSeries};
