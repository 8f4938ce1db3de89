//! The settings that hold.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use jiff::SignedDuration;
use toml::Value;
use tracing::level_filters::LevelFilter;

use super::{
    DEFAULT_API_SOCKET,
    raw::RawSettings,
    value::{HOOKS, LOG_FORMATS, LOG_LEVELS, LogFormat, SENSITIVITIES, SOCKET_EVENTS, name_of},
};
use crate::kernel::{self, Hook, SocketEvents};

const DEFAULT_LIFETIME_SAMPLE: u32 = 8;
const DEFAULT_CENSUS_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_PORT: u16 = 10046;
const DEFAULT_TELEMETRY_PATH: &str = "/metrics";

/// The settings of a daemon.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the kernel side.
    pub kernel: kernel::Settings,
    /// Of the web server.
    pub web: WebSettings,
    /// The socket of the API.
    pub api_socket: PathBuf,
    /// Of the log.
    pub log: LogSettings,
}

/// Settings of the web server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSettings {
    /// The addresses it listens on.
    pub listen: Vec<SocketAddr>,
    /// The path of the metrics.
    pub telemetry_path: String,
}

/// Settings of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Least severity.
    pub level: LevelFilter,
    /// Format of a line.
    pub format: LogFormat,
}

impl Settings {
    /// Fills in the defaults.
    #[must_use]
    pub fn resolve(raw: RawSettings) -> Self {
        let level = raw.log_level.unwrap_or(LevelFilter::INFO);
        Self {
            kernel: kernel::Settings {
                interfaces: raw.interface.unwrap_or_default(),
                hook: raw.hook.unwrap_or(Hook::Auto),
                socket_events: raw.socket_events.unwrap_or(SocketEvents::Auto),
                btf: raw.btf,
                lifetime_sample: raw.lifetime_sample.unwrap_or(DEFAULT_LIFETIME_SAMPLE),
                census_interval: raw.census_interval.unwrap_or(DEFAULT_CENSUS_INTERVAL),
                all_netns: raw.all_netns.unwrap_or(false),
                trace_bind: raw.trace_bind.unwrap_or(false),
                sensitivity: raw.sensitivity.unwrap_or_default(),
                record: raw.detector_record,
                kernel_log: level >= LevelFilter::DEBUG,
            },
            web: WebSettings {
                listen: raw
                    .web_listen_address
                    .filter(|addresses| !addresses.is_empty())
                    .unwrap_or_else(|| vec![SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT))]),
                telemetry_path: raw.web_telemetry_path.unwrap_or_else(|| DEFAULT_TELEMETRY_PATH.to_owned()),
            },
            api_socket: raw.api_socket.unwrap_or_else(|| DEFAULT_API_SOCKET.into()),
            log: LogSettings { level, format: raw.log_format.unwrap_or(LogFormat::Text) },
        }
    }
}

/// The settings as a configuration file.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = &self.kernel;
        let interval = SignedDuration::try_from(kernel.census_interval).unwrap_or(SignedDuration::MAX);
        let listen: Vec<_> = self.web.listen.iter().map(ToString::to_string).collect();
        let mut line = |key: &str, value: Value| writeln!(f, "{key} = {value}");
        line("interface", kernel.interfaces.clone().into())?;
        line("hook", name_of(&HOOKS, &kernel.hook).into())?;
        line("socket-events", name_of(&SOCKET_EVENTS, &kernel.socket_events).into())?;
        if let Some(btf) = &kernel.btf {
            line("btf", btf.to_string_lossy().as_ref().into())?;
        }
        line("lifetime-sample", kernel.lifetime_sample.into())?;
        line("census-interval", format!("{interval:#}").into())?;
        line("all-netns", kernel.all_netns.into())?;
        line("trace-bind", kernel.trace_bind.into())?;
        line("sensitivity", name_of(&SENSITIVITIES, &kernel.sensitivity).into())?;
        if let Some(record) = &kernel.record {
            line("detector.record", record.to_string_lossy().as_ref().into())?;
        }
        line("web.listen-address", listen.into())?;
        line("web.telemetry-path", self.web.telemetry_path.as_str().into())?;
        line("api.socket", self.api_socket.to_string_lossy().as_ref().into())?;
        line("log-level", name_of(&LOG_LEVELS, &self.log.level).into())?;
        line("log-format", name_of(&LOG_FORMATS, &self.log.format).into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tracker_detect::syn::Sensitivity;

    use super::*;
    use crate::config::file;

    #[test]
    fn nothing_said_gives_the_defaults() {
        let settings = Settings::resolve(RawSettings::default());
        assert!(settings.kernel.interfaces.is_empty() && settings.kernel.btf.is_none());
        assert_eq!((settings.kernel.hook, settings.kernel.socket_events), (Hook::Auto, SocketEvents::Auto));
        assert_eq!((settings.kernel.lifetime_sample, settings.kernel.census_interval.as_secs()), (8, 5));
        assert_eq!((settings.kernel.sensitivity, settings.kernel.record), (Sensitivity::Medium, None));
        assert_eq!(settings.web.listen, ["127.0.0.1:10046".parse().unwrap()]);
        assert_eq!(settings.web.telemetry_path, "/metrics");
        assert_eq!(settings.api_socket, Path::new("/run/tracker/tracker.sock"));
    }

    #[test]
    fn the_kernel_programs_log_from_debug_on() {
        for (name, level) in LOG_LEVELS {
            let settings = Settings::resolve(RawSettings { log_level: Some(level), ..RawSettings::default() });
            assert_eq!(settings.kernel.kernel_log, ["debug", "trace"].contains(&name), "{name}");
        }
    }

    #[test]
    fn shown_settings_can_be_read_again() {
        let raw = RawSettings {
            interface: Some(vec!["eth0".to_owned(), "veth*".to_owned()]),
            btf: Some("/a b/\"btf\"".into()),
            census_interval: Some(Duration::from_millis(1_500)),
            lifetime_sample: Some(64),
            sensitivity: Some(Sensitivity::Low),
            detector_record: Some("/tmp/replay.jsonl".into()),
            ..RawSettings::default()
        };
        let settings = Settings::resolve(raw);
        let again = Settings::resolve(file::parse(&settings.to_string(), Path::new("t.toml")).unwrap());
        assert_eq!(again.to_string(), settings.to_string());
        assert_eq!(again.kernel.interfaces, ["eth0", "veth*"]);
        assert_eq!(again.kernel.sensitivity, Sensitivity::Low);
        assert_eq!(again.kernel.record.as_deref(), Some(Path::new("/tmp/replay.jsonl")));
        assert_eq!(again.kernel.census_interval, Duration::from_millis(1_500));
    }
}
