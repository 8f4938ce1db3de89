//! What `tracker explain` asks and answers, and what is known of a socket that holds a port: plain values, a file for
//! each subject in `explain/`. The rules belong to tracker-detect, how sockets are read and answers printed to
//! tracker-user.

mod answer;
mod listen;
mod query;
mod socket;

pub use answer::{BindAnswer, BindError, Cause, ConnectAnswer, ConnectRule, Holder, Overlap, Rule, Variants};
pub use listen::{
    DropCount, InterfaceSyns, ListenAnswer, ListenCause, ListenFigures, ListeningSocket, Step, StepState, StepSubject,
};
pub use query::{BindQuery, ConnectQuery, ListenQuery};
pub use socket::{Bucket, Protocol, SocketObservation, SocketQueues, TcpState};
