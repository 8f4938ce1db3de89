//! The settings. Each is one field: its docstring is the help of its flag, and flag, variable and key have one name.

use std::{any::TypeId, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, Args, Command, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracker_detect::syn::Sensitivity;

use super::value;

/// The settings of a daemon.
#[derive(Args, Clone, Debug)]
#[command(mut_args(derive_names))]
pub struct Settings {
    /// Of the kernel side.
    #[command(flatten, next_help_heading = "What is watched")]
    pub kernel: KernelSettings,
    /// Of the web server.
    #[command(flatten, next_help_heading = "Metrics")]
    pub web: WebSettings,
    /// Of the API.
    #[command(flatten)]
    pub api: ApiSettings,
    /// Of the log.
    #[command(flatten, next_help_heading = "Log, on standard error")]
    pub log: LogSettings,
}

/// What the kernel side needs to know when it starts.
#[derive(Args, Clone, Debug)]
pub struct KernelSettings {
    /// Interfaces to watch, by name or glob; may be repeated [default: every up interface except loopback]
    #[arg(long = "interface", value_name = "NAME|GLOB", value_delimiter = ',', value_parser = value::interface)]
    pub interfaces: Vec<String>,

    /// Where packets are seen; `auto` is native XDP where the driver has it, tc elsewhere
    #[arg(long, value_enum, default_value = "auto")]
    pub hook: Hook,

    /// How socket events are seen; `auto` is `tp_btf`, or `raw_tp` where the kernel has no BTF
    #[arg(long, value_enum, default_value = "auto")]
    pub socket_events: SocketEvents,

    /// Type information of the running kernel [default: /sys/kernel/btf/vmlinux]
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,

    /// Measure the lifetime of one in N connections; a power of two
    #[arg(long, value_name = "N", default_value = "8", value_parser = value::lifetime_sample)]
    pub lifetime_sample: u32,

    /// Shortest time between two counts of all sockets
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = value::census_interval)]
    pub census_interval: Duration,

    /// Look at the ports of all network namespaces, not only of this one; needs `CAP_SYS_ADMIN` and `CAP_SYS_PTRACE`
    #[arg(long, action = ArgAction::Set, default_value = "false")]
    pub all_netns: bool,

    /// See refused `bind()` calls where the kernel has no fexit, by tracing the system call: slows all of them a little
    #[arg(long, action = ArgAction::Set, default_value = "false")]
    pub trace_bind: bool,

    /// How readily a flood is called: `low` later and only large ones, `high` sooner and small ones too
    #[arg(long, default_value = "medium", value_parser = value::sensitivity(), help_heading = "Detection")]
    pub sensitivity: Sensitivity,

    /// Write what the detector observes as JSON lines, to replay a false alarm. Grows without bound: for minutes
    #[arg(long = "detector.record", value_name = "FILE", help_heading = "Detection")]
    pub record: Option<PathBuf>,

    /// Whether the kernel programs log: they do when the daemon logs at `debug` or below.
    #[arg(skip)]
    pub kernel_log: bool,
}

impl Default for KernelSettings {
    fn default() -> Self {
        let none = Self::augment_args(Command::new("defaults").no_binary_name(true)).try_get_matches_from([""; 0]);
        none.and_then(|matches| clap::FromArgMatches::from_arg_matches(&matches)).expect("each setting has a default")
    }
}

/// Which hook sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hook {
    /// Native XDP on physical and virtio interfaces, tc elsewhere.
    Auto,
    /// XDP, native or generic, on all.
    Xdp,
    /// tcx, or clsact before Linux 6.6, on all.
    Tc,
}

/// Which tracepoint sees socket events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum SocketEvents {
    /// `tp_btf`, or `raw_tp` where the kernel has no BTF.
    Auto,
    /// The BTF-typed tracepoint.
    TpBtf,
    /// The raw tracepoint.
    RawTp,
}

/// Settings of the web server.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct WebSettings {
    /// Address of metrics and health checks; may be repeated
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS:PORT",
        value_delimiter = ',',
        default_value = "127.0.0.1:10046",
        value_parser = value::listen_address
    )]
    pub listen: Vec<SocketAddr>,

    /// Path of the metrics
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        default_value = "/metrics",
        value_parser = value::telemetry_path
    )]
    pub telemetry_path: String,
}

/// Settings of the API: those of every command, which asks the daemon by it.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(mut_args(derive_names))]
pub struct ApiSettings {
    /// Socket of the daemon's API
    #[arg(
        long = "api.socket",
        value_name = "PATH",
        default_value = "/run/tracker/tracker.sock",
        global = true,
        help_heading = None::<&str>
    )]
    pub socket: PathBuf,
}

/// Settings of the log.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Least severity that is logged; debug and trace turn the kernel programs' log on
    #[arg(long = "log-level", default_value = "info", value_parser = value::log_level())]
    pub level: LevelFilter,

    /// How log lines are written
    #[arg(long = "log-format", value_enum, default_value = "text")]
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Gives a flag with a value its variable, `TRACKER_` and its own name, and shows the values that it can have.
pub(crate) fn derive_names(arg: Arg) -> Arg {
    let takes_value = arg.get_action().takes_values() && !arg.is_hide_set();
    let Some(name) = arg.get_long().filter(|_| takes_value) else { return arg };
    let variable = format!("TRACKER_{}", name.replace(['.', '-'], "_").to_uppercase());
    let arg = if arg.get_value_parser().type_id() == TypeId::of::<bool>() {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg
    };
    let values: Vec<_> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    let arg = arg.env(variable);
    if values.is_empty() { arg } else { arg.value_name(values.join("|")).hide_possible_values(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_side_has_the_defaults_of_its_flags() {
        let settings = KernelSettings::default();
        assert!(settings.interfaces.is_empty() && settings.btf.is_none() && settings.record.is_none());
        assert_eq!((settings.hook, settings.socket_events), (Hook::Auto, SocketEvents::Auto));
        assert_eq!((settings.lifetime_sample, settings.census_interval.as_secs()), (8, 5));
        assert_eq!(settings.sensitivity, Sensitivity::Medium);
        assert!(!settings.all_netns && !settings.trace_bind && !settings.kernel_log);
    }
}
