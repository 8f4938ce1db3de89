//! tracker in the lab: on real namespaces, with real peers and real traffic. Needs root.

mod closes;
mod connects;
mod existing;
mod half_open;
mod itself;
mod listeners;
mod no_listener;
mod support;
mod ten_thousand;
mod times;
