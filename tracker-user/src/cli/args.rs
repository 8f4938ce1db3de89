//! The commands and their flags.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::output::Output;
use crate::config::RawSettings;

const EXAMPLES: &str = "\
Examples:
  tracker run                      start the daemon on the host's interfaces
  tracker status                   is it well, what does it watch
  tracker alerts                   which listener is flooded, from where, since when
  tracker listeners -o wide        SYNs, handshakes and queues of every listener
  tracker states -o json           socket states, for a script

Exit codes: 0 fine, 1 failed, 2 wrong usage.";

const RUN_EXAMPLES: &str = "\
Examples:
  tracker run
  tracker run --interface eth0 --interface 'veth*' --hook tc
  tracker run --web.listen-address :10046 --log-level debug
  tracker run --config ./tracker.toml --check-config

Settings come from flags, then from the environment, then from the file, then from the defaults.
The file is TOML; its keys are the names of the flags.
The daemon needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN.
The daemon stops on SIGTERM and SIGINT and leaves nothing attached.";

const STATUS_EXAMPLES: &str = "\
Examples:
  tracker status
  tracker status -o wide           with programs and their cost, and all TCP counters
  tracker status --check           one line for a monitoring system; exits 0, 1 or 2

--check takes the worse of the daemon's health and the alerts that fire: 0 fine or for information,
1 warning, 2 critical.
The TCP counters are those of the whole network namespace, all its listeners together.";

const ALERTS_EXAMPLES: &str = "\
Examples:
  tracker alerts
  tracker alerts --firing -o wide  with the evidence of each, and what to do
  tracker alerts -o json | jq -r '.alerts[] | select(.state == \"firing\") | .summary'

An attack is one alert from its onset to its end; pauses of less than a minute do not end it.
Classes: spoofed (a flood from sources all over), single_source, prefix, slow_accept (the
application does not accept), scan (many ports, no listener). A surge that is answered is no alert:
it shows in `tracker listeners`.
Shares and distinct sources are estimates and stand with their error; counts without one are exact.";

const LISTENERS_EXAMPLES: &str = "\
Examples:
  tracker listeners
  tracker listeners -o wide
  tracker listeners -o json | jq '.listeners[] | select(.verdict == \"spoofed\")'

PROCESS is the name of the thread that called listen().
VERDICT is that of the flood detector; see `tracker alerts`.
REFUSED are requests that this listener turned away; UNANSWERED are SYNs that neither completed a
handshake nor are half-open now; a repeated SYN counts again.
Figures by listener are those of watched interfaces, but for COMPLETED and CONNECTED, which are of
all. With ± stands the error of an estimate, with <= a bound; other counts are exact.
SYNs to no listener include those to services that the kernel translates (NodePort, published ports
of Docker, REDIRECT, IPVS): nothing listens at the port they are addressed to, but they are
answered. Their ports are named by activity in the last minute or so, with all SYNs and SYNs
per second.";

const STATES_EXAMPLES: &str = "\
Examples:
  tracker states
  tracker states -o wide           with transitions
  tracker states -o json | jq '.states[].ipv4.time_wait'";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  sudo tracker doctor
  tracker doctor -o json | jq '.checks[] | select(.verdict != \"ok\")'

It loads each program into the kernel and takes it out again; nothing stays.
Exits 1 when the daemon could not run.";

/// What this host's TCP does: SYNs, handshakes, listeners and socket states, seen in the kernel by eBPF.
#[derive(Parser, Debug)]
#[command(name = "tracker", version, about, after_help = EXAMPLES, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// Socket of the daemon's API [default: /run/tracker/tracker.sock]
    #[arg(long = "api.socket", env = "TRACKER_API_SOCKET", value_name = "PATH", global = true)]
    pub api_socket: Option<PathBuf>,

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
    /// Show what the daemon watches, and how far its figures can be trusted
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Show floods, slow applications and scans: what goes on, and what is over
    #[command(after_help = ALERTS_EXAMPLES)]
    Alerts(AlertsArgs),
    /// Show the listeners with their SYNs, handshakes and queues
    #[command(after_help = LISTENERS_EXAMPLES)]
    Listeners,
    /// Show socket states, who closed first, connects and their failures
    #[command(after_help = STATES_EXAMPLES)]
    States,
    /// Check what this kernel and these rights allow; asks no daemon
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
}

/// Flags of `tracker run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Configuration file [default: /etc/tracker/tracker.toml, where it exists]
    #[arg(long, env = "TRACKER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the settings, print them as a configuration file, and stop
    #[arg(long)]
    pub check_config: bool,

    /// Not a flag of this command: stands here so that its help leaves the global one out.
    #[arg(short, long, value_enum, hide = true, id = "output")]
    pub ignored_output: Option<Output>,

    /// Settings.
    #[command(flatten)]
    pub settings: RawSettings,
}

/// Flags of `tracker doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Type information of the running kernel [default: /sys/kernel/btf/vmlinux]
    #[arg(long, env = "TRACKER_BTF", value_name = "FILE")]
    pub btf: Option<PathBuf>,
}

/// Flags of `tracker alerts`.
#[derive(Args, Debug)]
pub struct AlertsArgs {
    /// Only those that fire now
    #[arg(long)]
    pub firing: bool,
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

    fn commands() -> Vec<clap::Command> {
        let root = Cli::command();
        root.get_subcommands().cloned().chain([root.clone()]).collect()
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
                assert!(line.chars().count() <= 100, "clap would break this line anew: {line}");
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
    fn a_flag_and_its_variable_have_the_same_name() {
        for argument in commands().iter().flat_map(clap::Command::get_arguments) {
            let (Some(flag), Some(variable)) = (argument.get_long(), argument.get_env()) else { continue };
            let expected = format!("TRACKER_{}", flag.replace(['.', '-'], "_").to_uppercase());
            assert_eq!(variable.to_str(), Some(expected.as_str()));
        }
    }

    #[test]
    fn every_key_of_the_file_is_a_flag_with_a_variable() {
        let commands = commands();
        for key in crate::config::KEYS {
            let flag = commands.iter().flat_map(clap::Command::get_arguments).find(|a| a.get_long() == Some(key.name));
            assert!(flag.unwrap_or_else(|| panic!("--{}", key.name)).get_env().is_some(), "{}", key.name);
        }
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for words in [["tracker", "-o", "json", "states"], ["tracker", "states", "-o", "json"]] {
            assert_eq!(Cli::try_parse_from(words).unwrap().output, Some(Output::Json));
        }
    }

    #[test]
    fn lists_are_repeated_or_separated_by_commas() {
        let words = ["tracker", "run", "--interface", "a,b", "--interface", "c"];
        let Command::Run(args) = Cli::try_parse_from(words).unwrap().command else { panic!() };
        assert_eq!(args.settings.interface.unwrap(), ["a", "b", "c"]);
    }
}
