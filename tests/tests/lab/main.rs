//! tracker in the lab: on real namespaces, with real peers and real traffic. Needs root.
//! A file is a subject, a function a case; what cases share is in `support` and in the library of this crate.
#![expect(clippy::too_many_lines, reason = "a case is one story")]

mod backlogs;
mod bad_input;
mod churn;
mod closes;
mod commands;
mod connects;
mod devices;
mod environment;
mod existing;
mod floods;
mod floods_counted;
mod full_tables;
mod goldens;
mod half_open;
mod interfaces;
mod itself;
mod listeners;
mod load;
mod many_listeners;
mod no_listener;
mod places;
mod ports_accepted;
mod ports_bad_input;
mod ports_bind;
mod ports_elsewhere;
mod ports_exhaustion;
mod ports_failures;
mod ports_leaks;
mod ports_many;
mod ports_pools;
mod ports_ranges;
mod ports_refused;
mod ports_support;
mod ports_time_wait;
mod ports_udp;
mod scrape;
mod senders;
mod stop;
mod support;
mod ten_thousand;
mod times;
mod translated;
mod unanswered;
