//! What becomes of censuses, looks at processes and readings of the host: the rows of `GET /v1/ports`, and alerts from
//! onset to end. Each series is shown to the model and to all detectors, as the daemon does.

mod advice;
mod calls;
mod capacity;
mod daemon;
mod forecast;
mod leaks;
mod pools;
mod ports;
mod support;
