//! The daemon's log, on standard error. A thread of its own writes it, so that a reader who stops reading stops nothing
//! else.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, IsTerminal as _, Write},
    panic::{self, PanicHookInfo},
    sync::{Arc, OnceLock},
};

use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt as _, registry, util::SubscriberInitExt as _};

use crate::config::{LogFormat, LogSettings};

/// Lines that wait while nobody reads. Further ones are dropped and counted.
const WAITING_LINES: usize = 1_024;

/// Starts the log. Lines of libraries below a warning are left out. When the returned value is dropped, the lines that
/// wait are written, unless that takes longer than a second.
///
/// # Panics
///
/// When the process logs already.
pub fn start(settings: LogSettings) -> WorkerGuard {
    let (writer, guard) = background(io::stderr(), WAITING_LINES);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match settings.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    registry().with(lines.with_filter(filter(settings.level))).init();
    panic::set_hook(Box::new(log_panic));
    guard
}

/// Targets of the kernel programs' lines begin with `tracker` too.
fn filter(level: LevelFilter) -> Targets {
    // It writes each message of an interface whose name it cannot read byte by byte; tracker itself says which those
    // are.
    let netlink = ("netlink_proto::codecs", LevelFilter::OFF);
    Targets::new().with_default(level.min(LevelFilter::WARN)).with_targets([("tracker", level), netlink])
}

/// The default hook writes to standard error itself, and would wait for its reader.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    tracing::error!(place, thread, "panic: {text}");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!("backtrace:\n{backtrace}");
    }
}

/// A writer that never waits, and what flushes it when dropped.
fn background(output: impl Write + Send + 'static, waiting: usize) -> (NonBlocking, WorkerGuard) {
    let dropped = Arc::new(OnceLock::new());
    let output = CountingOutput { output, dropped: dropped.clone(), reported: 0 };
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(waiting).thread_name("log");
    let (writer, guard) = builder.finish(output);
    // It was not set before.
    let _ = dropped.set(writer.error_counter());
    (writer, guard)
}

/// Says how many lines were dropped once all that waited are written.
struct CountingOutput<W> {
    output: W,
    dropped: Arc<OnceLock<ErrorCounter>>,
    reported: usize,
}

impl<W: Write> Write for CountingOutput<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.output.write(line)
    }

    /// Called whenever no more lines wait, so that there is room for one of its own.
    fn flush(&mut self) -> io::Result<()> {
        let dropped = self.dropped.get().map_or(0, ErrorCounter::dropped_lines);
        let lines = dropped - self.reported;
        if lines > 0 {
            self.reported = dropped;
            tracing::warn!(lines, "lines of this log were dropped: nobody read them");
        }
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        time::{Duration, Instant},
    };

    use tracing::Level;

    use super::*;

    #[test]
    fn only_trackers_own_lines_go_below_warnings() {
        let filter = filter(LevelFilter::DEBUG);
        assert!(filter.would_enable("tracker_user::daemon", &Level::DEBUG));
        assert!(filter.would_enable("tracker", &Level::DEBUG));
        assert!(!filter.would_enable("hyper::proto", &Level::INFO));
        assert!(filter.would_enable("hyper::proto", &Level::WARN));
        assert!(!filter.would_enable("netlink_proto::codecs", &Level::ERROR));
    }

    #[test]
    fn errors_alone_are_errors_alone_for_libraries_too() {
        assert!(!filter(LevelFilter::ERROR).would_enable("hyper::proto", &Level::WARN));
    }

    #[test]
    fn a_log_that_nobody_reads_stops_nobody_and_says_how_many_lines_it_dropped() {
        let (reader, pipe) = io::pipe().unwrap();
        let (writer, _guard) = background(pipe, 16);
        let dropped = writer.error_counter();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        // The thread that writes reports through the subscriber of the process.
        tracing::subscriber::set_global_default(subscriber).unwrap();
        let begun = Instant::now();
        let line = "x".repeat(1_000);
        for _ in 0..1_000 {
            tracing::info!("{line}");
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        let dropped = dropped.dropped_lines();
        assert!((500..1_000).contains(&dropped), "{dropped}");
        let mut said = 0;
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            said += line.rsplit_once("lines=").map_or(0, |(_, lines)| lines.parse().unwrap());
            if said >= dropped {
                break;
            }
        }
        assert_eq!(said, dropped);
    }
}
