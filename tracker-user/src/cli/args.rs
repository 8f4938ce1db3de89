//! The commands and their flags.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use super::{
    examples::{
        DOCTOR_EXAMPLES, EXAMPLES, EXPLAIN_BIND_EXAMPLES, EXPLAIN_CONNECT_EXAMPLES, EXPLAIN_EXAMPLES,
        EXPLAIN_LISTEN_EXAMPLES, LISTENERS_EXAMPLES, PORTS_EXAMPLES, RUN_EXAMPLES, STATES_EXAMPLES, STATUS_EXAMPLES,
        alerts_examples,
    },
    output::Output,
    value::{self, Destination, Holder, Target},
};
use crate::config::{ApiSettings, Flags, derive_names};

/// What this host's TCP does: SYNs, handshakes, listeners and socket states, seen in the kernel by eBPF.
#[derive(Parser, Debug)]
#[command(name = "tracker", version, about, after_help = EXAMPLES)]
#[command(max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// Where the daemon is asked.
    #[command(flatten)]
    pub api: ApiSettings,

    /// How the answer is shown [default: table]
    #[arg(short, long, value_enum, value_name = "table|wide|json", global = true, hide_possible_values = true)]
    pub output: Option<Output>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A command.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Start the daemon: count in the kernel, serve metrics and the API
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// What the daemon is asked.
    #[command(flatten)]
    Ask(Question),
    /// Check what this kernel and these rights allow; asks no daemon
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
}

/// A question to the daemon.
#[derive(Subcommand, Debug)]
pub enum Question {
    /// Show what the daemon watches, and how far its figures can be trusted
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Show floods, slow applications, ports that run out, leaks; those that are over too
    #[command(after_help = alerts_examples())]
    Alerts(AlertsArgs),
    /// Show the listeners with their SYNs, handshakes and queues
    #[command(after_help = LISTENERS_EXAMPLES)]
    Listeners,
    /// Show socket states, who closed first, connects and their failures
    #[command(after_help = STATES_EXAMPLES)]
    States,
    /// Show local ports by destination, the fullest first: how many are left, who has them
    #[command(after_help = PORTS_EXAMPLES)]
    Ports(PortsArgs),
    /// Tell why a call would fail now, or why nobody can connect here, and what would help
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain {
        /// What.
        #[command(subcommand)]
        call: Explain,
    },
}

/// Flags of `tracker run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Configuration file [default: /etc/tracker/tracker.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the settings, print them as a configuration file, and stop
    #[arg(long)]
    pub check_config: bool,

    /// Not a flag of this command: stands here so that its help leaves the global one out.
    #[arg(short, long, value_enum, hide = true, id = "output")]
    pub ignored_output: Option<Output>,

    /// Settings.
    #[command(flatten)]
    pub settings: Flags,
}

/// Flags of `tracker doctor`.
#[derive(Args, Debug)]
#[command(mut_args(derive_names))]
pub struct DoctorArgs {
    /// Type information of the running kernel [default: /sys/kernel/btf/vmlinux]
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
}

/// Flags of `tracker alerts`.
#[derive(Args, Debug)]
pub struct AlertsArgs {
    /// Only those that fire now
    #[arg(long)]
    pub firing: bool,
}

/// Flags of `tracker ports`.
#[derive(Args, Debug)]
pub struct PortsArgs {
    /// Only ports to this address, or to this port of it
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = value::destination)]
    pub destination: Option<Destination>,

    /// Only ports of this process, by name or id, held now or made by it
    #[arg(long, value_name = "NAME|PID", value_parser = value::process)]
    pub process: Option<Holder>,

    /// Everything, not only what matters
    #[arg(long)]
    pub all: bool,
}

/// What `tracker explain` is asked about.
#[derive(Subcommand, Debug)]
pub enum Explain {
    /// `connect()`.
    #[command(about = "Tell whether connect() would find a local port, and what holds them if not")]
    #[command(after_help = EXPLAIN_CONNECT_EXAMPLES)]
    Connect(ConnectArgs),
    /// `bind()`.
    #[command(about = "Tell whether bind() would succeed, and which sockets are in the way if not")]
    #[command(after_help = EXPLAIN_BIND_EXAMPLES)]
    Bind(BindArgs),
    /// Why nobody connects.
    #[command(about = "Tell why nobody can connect to a port of this host, by watching what becomes of SYNs")]
    #[command(after_help = EXPLAIN_LISTEN_EXAMPLES)]
    Listen(ListenArgs),
}

/// Flags of `tracker explain connect`.
#[derive(Args, Debug)]
pub struct ConnectArgs {
    /// Where to: address or host name, and port
    #[arg(value_name = "ADDR:PORT", value_parser = value::connect_target)]
    pub target: Target,

    /// Address of this side [default: the one that the kernel would choose]
    #[arg(long, value_name = "ADDR")]
    pub source: Option<IpAddr>,

    /// One line and an exit code for a monitoring system: 0 finds a port, 1 does not, 2 not known
    #[arg(long)]
    pub check: bool,
}

/// Flags of `tracker explain bind`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct BindArgs {
    /// Address or host name, and port; without an address all of them; port 0 for any port
    #[arg(value_name = "ADDR:PORT", value_parser = value::bind_target)]
    pub target: Target,

    /// A UDP socket, not a TCP one
    #[arg(long)]
    pub udp: bool,

    /// `SO_REUSEADDR`.
    #[arg(long, help = "The socket has SO_REUSEADDR")]
    pub reuse_address: bool,

    /// `SO_REUSEPORT`.
    #[arg(long, help = "The socket has SO_REUSEPORT")]
    pub reuse_port: bool,

    /// `IPV6_V6ONLY`.
    #[arg(long, help = "The socket has IPV6_V6ONLY [default: as net.ipv6.bindv6only]")]
    pub ipv6_only: bool,

    /// User, by number or name; 0 may bind any port [default: 0]
    #[arg(long, value_name = "UID|NAME", value_parser = value::user)]
    pub user: Option<u32>,

    /// One line and an exit code for a monitoring system: 0 succeeds, 1 fails, 2 not known
    #[arg(long)]
    pub check: bool,
}

/// Flags of `tracker explain listen`.
#[derive(Args, Debug)]
pub struct ListenArgs {
    /// Address or host name, and port; without an address all of them
    #[arg(value_name = "ADDR:PORT", value_parser = value::listen_target)]
    pub target: Target,

    /// How long to watch, 1s to 1m
    #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = value::watch_seconds)]
    pub seconds: u16,

    /// One line and an exit code for a monitoring system: 0 nothing is in the way, 1 something is, 2 not known
    #[arg(long)]
    pub check: bool,
}

/// Flags of `tracker status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// One line and an exit code for a monitoring system: 0 fine, 1 warning, 2 critical
    #[arg(long)]
    pub check: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// All of them, those of other commands too.
    fn commands() -> Vec<clap::Command> {
        let mut all = vec![Cli::command()];
        let mut next = 0;
        while let Some(command) = all.get(next) {
            let inner: Vec<_> = command.get_subcommands().cloned().collect();
            all.extend(inner);
            next += 1;
        }
        all
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_in_its_help() {
        for command in commands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{}", command.get_name());
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "clap would break this line again: {line}");
            }
        }
    }

    #[test]
    fn help_fits_into_100_columns() {
        for mut command in commands() {
            for line in command.render_help().to_string().lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for words in [["tracker", "-o", "json", "states"], ["tracker", "states", "-o", "json"]] {
            assert_eq!(Cli::try_parse_from(words).unwrap().output, Some(Output::Json));
        }
    }
}
