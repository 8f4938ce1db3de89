//! tracker in the lab: on real namespaces, with real peers and real traffic. Needs root.

mod bad_input;
mod churn;
mod closes;
mod commands;
mod connects;
mod environment;
mod existing;
mod floods;
mod floods_counted;
mod half_open;
mod interfaces;
mod itself;
mod listeners;
mod load;
mod no_listener;
mod scrape;
mod senders;
mod stop;
mod support;
mod ten_thousand;
mod times;
