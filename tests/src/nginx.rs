//! A real server: nginx.

use std::{fs, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{
    http,
    namespace::{self, Namespace},
    process::Process,
};

/// nginx with one worker, listening on 0.0.0.0 and on ::, a socket each, with a configuration of its own.
///
/// It answers every request with a few bytes and closes when the request says `Connection: close`; otherwise it leaves
/// the connection open for the client to close.
#[derive(Debug)]
pub struct Nginx {
    process: Process,
    port: u16,
    // Dropped after the process that lives in it.
    _directory: TempDir,
}

impl Nginx {
    /// Starts it and waits until it answers. That takes a connection over loopback.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        Self::start_on(namespace, &[(port, 4_096)])
    }

    /// Starts it on some ports, each with a backlog of its own, and waits until the first answers.
    pub fn start_on(namespace: &Namespace, ports: &[(u16, u16)]) -> Result<Self> {
        let port = ports.first().context("a server without a port")?.0;
        let directory = namespace::scratch("nginx")?;
        let path = directory.path();
        let configuration = path.join("nginx.conf");
        fs::write(&configuration, text(&path.display().to_string(), ports))?;
        let mut command = namespace.command("nginx");
        command.arg("-p").arg(path).arg("-c").arg(&configuration).args(["-e", "stderr"]);
        let mut process = Process::start("nginx", &mut command, &path.join("log"))?;
        let address = (Ipv4Addr::LOCALHOST, port).into();
        process.wait_until(Duration::from_secs(10), || {
            http::get(namespace, address, "/").is_ok_and(|answer| answer.status == 200)
        })?;
        Ok(Self { process, port, _directory: directory })
    }

    /// Stops it as an administrator does, master and worker, and waits for its end.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(Duration::from_secs(10)).map(drop)
    }

    /// Connections that it has accepted so far, on all its ports; the one that asks, over loopback, is among them.
    pub fn accepted(&self, namespace: &Namespace) -> Result<u64> {
        let answer = http::get(namespace, (Ipv4Addr::LOCALHOST, self.port).into(), "/accepted")?;
        let counts = answer.body.lines().skip_while(|line| !line.contains("accepts")).nth(1).context("no counts")?;
        Ok(counts.split_whitespace().next().context("no count")?.parse()?)
    }

    /// Where it listens, or the first of its ports.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id: the master's, which made the listening sockets.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn text(directory: &str, ports: &[(u16, u16)]) -> String {
    let listen = |(port, backlog): &(u16, u16)| {
        format!(
            "        listen 0.0.0.0:{port} backlog={backlog};
        listen [::]:{port} ipv6only=on backlog={backlog};
"
        )
    };
    let listen: String = ports.iter().map(listen).collect();
    format!(
        "daemon off;
user root;
worker_processes 1;
pid {directory}/pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000;
    server {{
{listen}        location /accepted {{ stub_status; }}
        location / {{ return 200 \"tracker\\n\"; }}
    }}
}}
"
    )
}
