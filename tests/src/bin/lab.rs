//! `cargo xtask lab`: leaves a lab standing for hands-on work.
#![forbid(unsafe_code)]

use std::{fmt::Write as _, io, net::IpAddr, process::ExitCode, thread, time::Duration};

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};
use tracker_tests::{
    Family,
    daemon::{self, Daemon},
    link::Tag,
    nginx::Nginx,
    pair::Pair,
    prometheus::Prometheus,
    serial,
};

/// Two network namespaces on one cable: a client, and a server with nginx and tracker. It stands until Enter, Ctrl-C or
/// SIGTERM, and then goes without a trace. Needs root.
#[derive(Parser)]
#[command(after_help = "\
Examples:
  cargo xtask lab                                        nginx and tracker, and what to do with them
  cargo xtask lab -- --prometheus                        and a Prometheus that scrapes tracker
  cargo xtask lab -- --delay 50                          a cable with a round trip of 50 ms
  cargo xtask lab -- --tag vlan                          a cable on which the server gets tagged frames
  cargo xtask lab -- -- --hook xdp --log-level debug     arguments of `tracker run`")]
struct Arguments {
    /// Milliseconds that a frame takes from the server to the client
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
    /// Tags on frames to the server; a cable has either tags or a delay
    #[arg(long, value_enum, conflicts_with = "delay")]
    tag: Option<Tagging>,
    /// Start Prometheus in the server's namespace, scraping every second
    #[arg(long)]
    prometheus: bool,
    /// Arguments of `tracker run`
    #[arg(last = true, value_name = "ARGUMENT")]
    run: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Tagging {
    /// One IEEE 802.1Q tag
    Vlan,
    /// An IEEE 802.1ad tag and an IEEE 802.1Q tag
    Qinq,
}

fn main() -> ExitCode {
    match stand(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn stand(arguments: &Arguments) -> Result<()> {
    let _alone = serial::alone();
    // Blocked before any thread or child is there, so that each is waited for below; children start with none blocked.
    let ends = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    ends.thread_block().context("block signals")?;

    let pair = pair(arguments)?;
    let nginx = Nginx::start(&pair.server, 80)?;
    let words: Vec<&str> = arguments.run.iter().map(String::as_str).collect();
    let daemon = daemon::settings(&pair.server)?.arguments(&words).start()?;
    let prometheus = arguments.prometheus.then(|| Prometheus::start(&pair.server, daemon.web())).transpose()?;
    println!("{}", guide(&pair, &nginx, &daemon, prometheus.is_some())?);

    thread::spawn(end_on_enter);
    let signal = ends.wait().context("wait for a signal")?;
    println!("\nTaking the lab down ({signal}).");
    drop(prometheus);
    daemon.stop(Signal::SIGTERM)
}

fn pair(arguments: &Arguments) -> Result<Pair> {
    let customer = Tag { kind: Tag::CUSTOMER, vlan: 0 };
    match arguments.tag {
        Some(Tagging::Vlan) => Pair::tagged(&[customer]),
        Some(Tagging::Qinq) => Pair::tagged(&[Tag { kind: Tag::SERVICE, vlan: 0 }, customer]),
        None if arguments.delay > 0 => Pair::delayed(Duration::from_millis(arguments.delay)),
        None => Pair::plain(),
    }
}

/// Enter ends the lab, as a signal does; the end of the input, where there is no terminal, does not.
fn end_on_enter() {
    if io::stdin().read_line(&mut String::new()).is_ok_and(|read| read > 0) {
        // Cannot fail: the process is this one.
        let _ = kill(Pid::this(), Signal::SIGTERM);
    }
}

fn guide(pair: &Pair, nginx: &Nginx, daemon: &Daemon<'_>, has_prometheus: bool) -> Result<String> {
    let (client, server) = (pair.client.name(), pair.server.name());
    let (left, right) = (&pair.link.left, &pair.link.right);
    let tracker = daemon::binary()?.display().to_string();
    let socket = daemon.socket().display();
    let port = nginx.port();
    let url = |family| match right.ip(family) {
        IpAddr::V4(ip) => format!("http://{ip}:{port}/"),
        IpAddr::V6(ip) => format!("http://[{ip}]:{port}/"),
    };
    let [url4, url6] = Family::BOTH.map(url);
    let (device, web) = (&right.device, daemon.web());
    let (left4, left6, right4, right6) = (left.ipv4, left.ipv6, right.ipv4, right.ipv6);
    let mut text = format!(
        "A lab stands.

  client  {client}  {left4}  {left6}
  server  {server}  {right4}  {right6}  nginx on port {port}, tracker on {device}

In another terminal, as root. What tracker sees:

  export TRACKER_API_SOCKET={socket}
  {tracker} status
  {tracker} listeners
  {tracker} states
  watch -n1 {tracker} listeners
  ip netns exec {server} curl -s http://{web}/metrics

Traffic:

  ip netns exec {client} curl -g {url4}
  ip netns exec {client} wrk -t1 -c20 -d5s -H 'Connection: close' {url6}
  ip netns exec {client} hping3 -S -p {port} -a 198.18.0.1 -i u1000 -c 500 {right4}    # half-open
  ip netns exec {client} hping3 -S -p 23 -c 20 -i u1000 {right4}                       # no listener

Beside it:

  ip netns exec {server} ss -tan
  ip netns exec {server} tcpdump -c 20 -eni {device} 'tcp or vlan'
"
    );
    if has_prometheus {
        writeln!(
            text,
            "  ip netns exec {server} curl -s 'http://127.0.0.1:9090/api/v1/query?query=tracker_syns_total'"
        )?;
    }
    Ok(text + "\nEnter or Ctrl-C takes it down.")
}
