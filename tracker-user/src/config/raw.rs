//! What one source says about the settings: flags and environment, or the file.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use tracing::level_filters::LevelFilter;
use tracker_detect::syn::Sensitivity;

use super::value::{self, LogFormat};
use crate::kernel::{Hook, SocketEvents};

/// The settings of one source; none where it says nothing.
///
/// The name of a flag is the key in the file; as a variable it begins with `TRACKER_`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RawSettings {
    /// Interfaces to watch, by name or glob; may be repeated [default: every up interface except loopback]
    #[arg(
        long,
        env = "TRACKER_INTERFACE",
        value_name = "NAME|GLOB",
        value_delimiter = ',',
        value_parser = value::interface,
        help_heading = "What is watched"
    )]
    pub interface: Option<Vec<String>>,

    /// Where packets are seen; `auto` is native XDP where the driver has it, tc elsewhere [default: auto]
    #[arg(
        long,
        env = "TRACKER_HOOK",
        value_name = "auto|xdp|tc",
        value_parser = value::hook,
        help_heading = "What is watched"
    )]
    pub hook: Option<Hook>,

    /// How socket events are seen; `auto` is `tp_btf`, or `raw_tp` where the kernel has no BTF [default: auto]
    #[arg(
        long,
        env = "TRACKER_SOCKET_EVENTS",
        value_name = "auto|tp_btf|raw_tp",
        value_parser = value::socket_events,
        help_heading = "What is watched"
    )]
    pub socket_events: Option<SocketEvents>,

    /// Type information of the running kernel [default: /sys/kernel/btf/vmlinux]
    #[arg(long, env = "TRACKER_BTF", value_name = "FILE", help_heading = "What is watched")]
    pub btf: Option<PathBuf>,

    /// Measure the lifetime of one in N connections; a power of two [default: 8]
    #[arg(
        long,
        env = "TRACKER_LIFETIME_SAMPLE",
        value_name = "N",
        value_parser = value::lifetime_sample,
        help_heading = "What is watched"
    )]
    pub lifetime_sample: Option<u32>,

    /// Shortest time between two counts of all sockets [default: 5s]
    #[arg(
        long,
        env = "TRACKER_CENSUS_INTERVAL",
        value_name = "TIME",
        value_parser = value::census_interval,
        help_heading = "What is watched"
    )]
    pub census_interval: Option<Duration>,

    /// Look at the ports of all network namespaces, not only of this one; needs `CAP_SYS_ADMIN` and `CAP_SYS_PTRACE` [default: off]
    #[arg(
        long,
        env = "TRACKER_ALL_NETNS",
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "What is watched"
    )]
    pub all_netns: Option<bool>,

    /// See refused `bind()` calls where the kernel has no fexit, by tracing the system call: slows all of them a little [default: off]
    #[arg(
        long,
        env = "TRACKER_TRACE_BIND",
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        help_heading = "What is watched"
    )]
    pub trace_bind: Option<bool>,

    /// How readily a flood is called: `low` later and only large ones, `high` sooner and small ones too [default: medium]
    #[arg(
        long,
        env = "TRACKER_SENSITIVITY",
        value_name = "low|medium|high",
        value_parser = value::sensitivity,
        help_heading = "Detection"
    )]
    pub sensitivity: Option<Sensitivity>,

    /// Write what the detector is told, one JSON object a line, to replay a false alarm. Grows without bound: for minutes
    #[arg(long = "detector.record", env = "TRACKER_DETECTOR_RECORD", value_name = "FILE", help_heading = "Detection")]
    pub detector_record: Option<PathBuf>,

    /// Address of metrics and health checks; may be repeated [default: 127.0.0.1:10046]
    #[arg(
        long = "web.listen-address",
        env = "TRACKER_WEB_LISTEN_ADDRESS",
        value_name = "ADDRESS:PORT",
        value_delimiter = ',',
        value_parser = value::listen_address,
        help_heading = "Metrics"
    )]
    pub web_listen_address: Option<Vec<SocketAddr>>,

    /// Path of the metrics [default: /metrics]
    #[arg(
        long = "web.telemetry-path",
        env = "TRACKER_WEB_TELEMETRY_PATH",
        value_name = "PATH",
        value_parser = value::telemetry_path,
        help_heading = "Metrics"
    )]
    pub web_telemetry_path: Option<String>,

    /// Least severity that is logged; debug and trace turn the kernel programs' log on [default: info]
    #[arg(
        long,
        env = "TRACKER_LOG_LEVEL",
        value_name = "error|warn|info|debug|trace",
        value_parser = value::log_level,
        help_heading = "Log, on standard error"
    )]
    pub log_level: Option<LevelFilter>,

    /// How log lines are written [default: text]
    #[arg(
        long,
        env = "TRACKER_LOG_FORMAT",
        value_name = "text|json",
        value_parser = value::log_format,
        help_heading = "Log, on standard error"
    )]
    pub log_format: Option<LogFormat>,

    /// Socket of the API. A flag of every command, so it is not among those of this one.
    #[arg(skip)]
    pub api_socket: Option<PathBuf>,
}

impl RawSettings {
    /// These settings, and those of `lower` where these say nothing.
    #[must_use]
    pub fn or(self, lower: Self) -> Self {
        Self {
            interface: self.interface.or(lower.interface),
            hook: self.hook.or(lower.hook),
            socket_events: self.socket_events.or(lower.socket_events),
            btf: self.btf.or(lower.btf),
            lifetime_sample: self.lifetime_sample.or(lower.lifetime_sample),
            census_interval: self.census_interval.or(lower.census_interval),
            all_netns: self.all_netns.or(lower.all_netns),
            trace_bind: self.trace_bind.or(lower.trace_bind),
            sensitivity: self.sensitivity.or(lower.sensitivity),
            detector_record: self.detector_record.or(lower.detector_record),
            web_listen_address: self.web_listen_address.or(lower.web_listen_address),
            web_telemetry_path: self.web_telemetry_path.or(lower.web_telemetry_path),
            log_level: self.log_level.or(lower.log_level),
            log_format: self.log_format.or(lower.log_format),
            api_socket: self.api_socket.or(lower.api_socket),
        }
    }
}
