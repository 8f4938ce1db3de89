//! A real Prometheus.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    http,
    namespace::{self, Namespace},
    process::Process,
};

/// Prometheus in a namespace, scraping one target every second.
#[derive(Debug)]
pub struct Prometheus<'a> {
    namespace: &'a Namespace,
    address: SocketAddr,
    _process: Process,
    // Dropped after the process that lives in it.
    _directory: TempDir,
}

impl<'a> Prometheus<'a> {
    /// Starts it, its own port being 9090, and waits until it serves.
    pub fn start(namespace: &'a Namespace, target: SocketAddr) -> Result<Self> {
        let directory = namespace::scratch("prometheus")?;
        let path = directory.path();
        let configuration = path.join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: tracker
    static_configs: [ {{ targets: [ '{target}' ] }} ]
"
        );
        fs::write(&configuration, text)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
        let mut command = namespace.command("prometheus");
        command.args([
            format!("--config.file={}", configuration.display()),
            format!("--storage.tsdb.path={}", path.join("data").display()),
            format!("--web.listen-address={address}"),
        ]);
        let mut process = Process::start("prometheus", &mut command, &path.join("log"))?;
        process.wait_until(Duration::from_secs(30), || {
            http::get(namespace, address, "/-/ready").is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(Self { namespace, address, _process: process, _directory: directory })
    }

    /// The value of an expression that has one; none when it has no result yet.
    pub fn query(&self, expression: &str) -> Result<Option<f64>> {
        let path = format!("/api/v1/query?query={}", percent_encoded(expression));
        let answer = http::get(self.namespace, self.address, &path)?;
        ensure!(answer.status == 200, "query {expression}: {} {}", answer.status, answer.body);
        let json: Value = serde_json::from_str(&answer.body)?;
        let Some(result) = json.pointer("/data/result/0/value/1") else { return Ok(None) };
        Ok(Some(result.as_str().context("a value that is no string")?.parse()?))
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"))
}
