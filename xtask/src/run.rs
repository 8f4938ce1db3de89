//! `cargo xtask run`

use std::{env, ffi::OsString, os::unix::process::CommandExt as _, process};

use anyhow::{Context as _, Result};

use crate::{
    build,
    host::{self, Host},
    setup::{self, Scope},
};

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
            self.announce(host);
        }
        // The daemon takes the place of this process, so that signals and the exit code are its own.
        let error = process::Command::from(command).exec();
        Err(error).with_context(|| format!("start {}", daemon.display()))
    }

    fn announce(&self, host: &Host) {
        let sudo = if host.root { "" } else { "sudo " };
        let tracker = format!("{sudo}{}", host.shown(&host.daemon()).display());
        let socket = self.flag("--api.socket").map(|socket| format!(" --api.socket {socket}")).unwrap_or_default();
        let url = self.metrics_url();
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
    }

    fn metrics_url(&self) -> String {
        let listen = self.setting("web.listen-address", "127.0.0.1:10046");
        let address = listen.split(',').next().unwrap_or(&listen);
        let path = self.setting("web.telemetry-path", "/metrics");
        format!("http://{address}{path}")
    }

    /// A setting of the daemon: of its flag, of its variable, or what holds when neither is there.
    fn setting(&self, name: &str, default: &str) -> String {
        let variable = format!("TRACKER_{}", name.replace(['.', '-'], "_").to_uppercase());
        self.flag(&format!("--{name}")).or_else(|| env::var(variable).ok()).unwrap_or_else(|| default.to_owned())
    }

    /// The value of a flag, written `--flag value` or `--flag=value`.
    fn flag(&self, flag: &str) -> Option<String> {
        let at = self.arguments.iter().position(|word| word.split('=').next() == Some(flag))?;
        match self.arguments[at].split_once('=') {
            Some((_, value)) => Some(value.to_owned()),
            None => self.arguments.get(at + 1).cloned(),
        }
    }
}

/// sudo clears the environment; what the daemon reads from it has to go along.
fn forwarded_through_sudo(host: &Host) -> Vec<(OsString, OsString)> {
    if host.root { Vec::new() } else { host::forwarded(&["TRACKER_", "RUST_"]) }
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn url(arguments: &[&str]) -> String {
        Arguments { arguments: arguments.iter().map(ToString::to_string).collect() }.metrics_url()
    }

    #[test]
    fn the_address_follows_the_flags() {
        assert_eq!(url(&[]), "http://127.0.0.1:10046/metrics");
        assert_eq!(url(&["--web.listen-address", "[::1]:1"]), "http://[::1]:1/metrics");
        assert_eq!(url(&["--web.listen-address=127.0.0.1:2", "--web.telemetry-path", "/m"]), "http://127.0.0.1:2/m");
    }
}
