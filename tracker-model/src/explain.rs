//! What `tracker explain` answers, and what is known of a socket that holds a port. The rules belong to tracker-detect.

mod answer;
mod socket;

pub use answer::{BindAnswer, BindError, Cause, ConnectAnswer, ConnectRule, Holder, Overlap, Rule, Variants};
pub use socket::{Bucket, Protocol, SocketObservation, TcpState};
