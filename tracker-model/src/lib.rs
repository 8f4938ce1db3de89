//! What tracker knows: the snapshot, the answers of the API, the field tables, and the values that they are made of.
//! No kernel, no clock, no runtime. What the figures mean belongs to tracker-detect.
#![forbid(unsafe_code)]

pub mod api;
pub mod counters;
pub mod delivery;
pub mod errno;
pub mod explain;
pub mod field;
pub mod listener;
pub mod listener_fields;
mod nullable;
pub mod port_fields;
pub mod port_range;
pub mod process;
pub mod snapshot;
pub mod text;
pub mod worst_socket;

pub use snapshot::Snapshot;
pub use text::grouped;
