//! The web server: a scrape that promtool finds clean, a real Prometheus, health checks.

use std::{
    io::Write as _,
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tracker_tests::{
    Family,
    client::{self, Closer, Load},
    daemon::{self, Daemon},
    metrics::Scrape,
    nginx::Nginx,
    pair::Pair,
    prometheus::Prometheus,
    serial,
};

use tracker_user::descriptors::raise_limit;

use crate::support::eventually;

#[test]
fn promtool_finds_a_scrape_clean() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let nginx = Nginx::start(&pair.server, 80)?;
    let daemon = Daemon::start(&pair.server)?;
    for family in Family::BOTH {
        let target = pair.link.right.socket(family, nginx.port());
        client::run(&pair.client, &Load { target, connections: 20, threads: 1, closer: Closer::Server })?;
        // A port without a listener, for the series that come with one.
        assert_eq!(client::connect(&pair.client, pair.link.right.socket(family, 81), 1).streams.len(), 0);
    }
    assert_clean(&daemon.metrics()?)?;
    daemon.stop(Signal::SIGTERM)
}

/// Checks that promtool has nothing to say.
pub(crate) fn assert_clean(scrape: &Scrape) -> Result<()> {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool, of the package prometheus")?;
    promtool.stdin.take().context("piped")?.write_all(scrape.text.as_bytes())?;
    let output = promtool.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&said).as_ref()), (Some(0), ""));
    Ok(())
}

#[test]
fn a_real_prometheus_scrapes_and_answers_a_rate() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let nginx = Nginx::start(&pair.server, 80)?;
    let daemon = Daemon::start(&pair.server)?;
    let prometheus = Prometheus::start(&pair.server, daemon.web())?;
    let rate = "sum(rate(tracker_listener_syns_total{port=\"80\"}[10s]))";
    let up = "up{job=\"tracker\"}";
    eventually("Prometheus has scraped", || Ok(prometheus.query(up)? == Some(1.0)))?;
    eventually("rate() is above zero", || {
        for family in Family::BOTH {
            let target = pair.link.right.socket(family, nginx.port());
            client::run(&pair.client, &Load { target, connections: 5, threads: 1, closer: Closer::Client })?;
        }
        thread::sleep(Duration::from_millis(200));
        Ok(prometheus.query(rate)?.is_some_and(|rate| rate > 0.0))
    })?;
    // What it stored is what tracker says now that traffic has stopped.
    let total = daemon.metrics()?.sum("tracker_listener_syns_total", &[("port", "80")]);
    let stored = "sum(tracker_listener_syns_total{port=\"80\"})";
    eventually("the last scrape has all", || Ok(prometheus.query(stored)? == Some(total)))?;
    assert_eq!(prometheus.query(up)?, Some(1.0));
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn health_readiness_and_a_page_for_people() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = Daemon::start(&pair.server)?;
    assert_eq!(daemon.get("/healthz")?.status, 200);
    assert_eq!(daemon.get("/readyz")?.status, 200);
    let page = daemon.get("/")?;
    assert_eq!(page.status, 200);
    assert!(page.head.to_lowercase().contains("content-type: text/html"), "{}", page.head);
    assert!(page.body.contains("href=\"/metrics\""), "{}", page.body);
    assert_eq!(daemon.get("/nothing")?.status, 404);
    let scrape = daemon.get("/metrics")?;
    assert!(scrape.head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{}", scrape.head);
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn the_metrics_can_have_another_path() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    let daemon = daemon::settings(&pair.server)?.arguments(&["--web.telemetry-path", "/other"]).start()?;
    assert_eq!((daemon.get("/metrics")?.status, daemon.get("/other")?.status), (404, 200));
    assert!(daemon.get("/")?.body.contains("href=\"/other\""));
    daemon.stop(Signal::SIGTERM)
}

#[test]
fn a_scrape_is_answered_beside_1_200_half_sent_requests() -> Result<()> {
    let _alone = serial::alone();
    let pair = Pair::plain()?;
    // What systemd gives, and no more: the daemon cannot raise it.
    let daemon = daemon::settings(&pair.server)?.through(&["prlimit", "--nofile=1024:1024"]).start()?;
    assert!(raise_limit() > 1_300, "each client is a descriptor of this process");
    let web = daemon.web();
    let half_sent = pair.server.enter(|| -> Result<Vec<TcpStream>> {
        let connect = |_| -> Result<TcpStream> {
            let mut stream = TcpStream::connect_timeout(&web, Duration::from_secs(5))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\n")?;
            Ok(stream)
        };
        (0..1_200).map(connect).collect()
    })?;
    let begun = Instant::now();
    let scrape = daemon.get("/metrics")?;
    let took = begun.elapsed();
    let open = Scrape::parse(scrape.body)?.sum("process_open_fds", &[]);
    println!("scrape beside {} half-sent requests: {took:?}, {open} descriptors open", half_sent.len());
    assert!(took < Duration::from_secs(1) && open < 300.0, "{took:?}, {open} descriptors open");
    daemon.status()?;
    drop(half_sent);
    daemon.stop(Signal::SIGTERM)
}
