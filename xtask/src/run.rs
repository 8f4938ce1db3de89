//! `cargo xtask run`

use std::{ffi::OsString, os::unix::process::CommandExt as _, process};

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::{
    build,
    host::{self, Host},
    setup::{self, Scope},
};

/// Where commands find the daemon unless they name another socket.
const SOCKET: &str = "/run/tracker/tracker.sock";

/// Sets up what is missing, builds, and starts the daemon as root in the foreground; Ctrl-C stops it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask run                                   on every interface that is up
  cargo xtask run -- --interface eth0               arguments behind -- are those of `tracker run`
  cargo xtask run -- --web.listen-address 127.0.0.1:9100
  cargo xtask run -- --help                         what `tracker run` understands")]
pub(crate) struct Arguments {
    /// Arguments of `tracker run`
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Arguments {
    pub(crate) fn act(&self, host: &Host) -> Result<()> {
        setup::set_up(host, Scope::Build)?;
        build::daemon(host)?;
        let daemon = host.daemon();
        let command = host.as_root(&forwarded_through_sudo(host), &daemon)?.arg("run").args(&self.arguments);
        if !self.arguments.iter().any(|argument| ["-h", "--help"].contains(&argument.as_str())) {
            // What is wrong with its arguments the daemon says itself.
            let _ = self.announce(host);
        }
        // The daemon takes the place of this process, so that signals and the exit code are its own.
        let error = process::Command::from(command).exec();
        Err(error).with_context(|| format!("start {}", daemon.display()))
    }

    /// Says where the daemon will answer, by what it says itself of its settings.
    fn announce(&self, host: &Host) -> Option<()> {
        let daemon = host.daemon();
        let settings = cmd!(host.sh, "{daemon} run --check-config").args(&self.arguments);
        let settings: toml::Table = Host::ask(settings)?.parse().ok()?;
        let (web, socket) = (&settings["web"], settings["api"]["socket"].as_str()?);
        let address = web["listen-address"].get(0)?.as_str()?;
        let host_name = if address.starts_with(':') { "localhost" } else { "" };
        let url = format!("http://{host_name}{address}{}", web["telemetry-path"].as_str()?);
        let sudo = if host.root { "" } else { "sudo " };
        let tracker = format!("{sudo}{}", host.shown(&daemon).display());
        let socket = if socket == SOCKET { String::new() } else { format!(" --api.socket {socket}") };
        println!(
            "\n\
            Starting the daemon. Ctrl-C stops it and leaves nothing behind.\n\n  \
            metrics   {url}\n\n\
            Try, in another terminal:\n\n  \
            curl -s {url} | grep ^tracker_\n  \
            {tracker} status{socket}        what is attached, and how\n  \
            {tracker} listeners{socket}     SYNs, handshakes and queues of each listener\n  \
            {tracker} states{socket}        sockets by state\n  \
            {tracker} doctor{socket}        what this kernel and these rights allow\n"
        );
        Some(())
    }
}

/// sudo clears the environment; what the daemon reads from it has to go along.
fn forwarded_through_sudo(host: &Host) -> Vec<(OsString, OsString)> {
    if host.root { Vec::new() } else { host::forwarded(&["TRACKER_", "RUST_"]) }
}
