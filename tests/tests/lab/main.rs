//! tracker in the lab: on real namespaces, with real peers and real traffic. Needs root.

mod itself;
mod support;
mod ten_thousand;
