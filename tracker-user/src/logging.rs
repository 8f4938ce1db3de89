//! The daemon's log, on standard error.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _};

use crate::config::{LogFormat, LogSettings};

/// Begins to log. Lines of libraries below a warning are left out.
///
/// # Panics
///
/// When the process logs already.
pub fn start(settings: LogSettings) {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match settings.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    registry().with(lines.with_filter(filter(settings.level))).init();
}

/// Targets of the kernel programs' lines begin with `tracker` too.
fn filter(level: LevelFilter) -> Targets {
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("tracker", level)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn only_trackers_own_lines_go_below_warnings() {
        let filter = filter(LevelFilter::DEBUG);
        assert!(filter.would_enable("tracker_user::daemon", &Level::DEBUG));
        assert!(filter.would_enable("tracker", &Level::DEBUG));
        assert!(!filter.would_enable("hyper::proto", &Level::INFO));
        assert!(filter.would_enable("hyper::proto", &Level::WARN));
    }

    #[test]
    fn errors_alone_are_errors_alone_for_libraries_too() {
        assert!(!filter(LevelFilter::ERROR).would_enable("hyper::proto", &Level::WARN));
    }
}
