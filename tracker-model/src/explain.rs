//! What `tracker explain` answers, and what it knows of a socket that holds a port.

mod answer;
mod socket;

pub use answer::{BindAnswer, BindError, Cause, ConnectAnswer, ConnectRule, Holder, Overlap, Rule, Variants};
pub use socket::{Bucket, Protocol, SocketObservation, TcpState};
