//! What the flood detector ([`crate::syn_flood`]) is made of: what it is shown, its estimators, and its incidents.
//!
//! Here belongs what reasons about SYNs and handshakes. How alerts are kept is [`crate::alert`]'s; what is read when is
//! the collector's.

mod baseline;
pub(crate) mod closed_ports;
mod counters;
mod cusum;
mod evidence;
mod facts;
mod history;
mod incident;
pub(crate) mod listener;
mod observation;
mod queues;
mod record;
mod scan;
pub(crate) mod settings;
mod sources;
pub(crate) mod subject;
mod surge;
pub(crate) mod tcp_ext;
mod text;
mod usual_sources;

pub use facts::facts;
pub use observation::{
    ClosedPortsObservation, ListenerId, ListenerObservation, QueuesObservation, SourcesObservation, SynObservation,
};
pub use settings::Sensitivity;
pub use subject::SubjectStatus;
