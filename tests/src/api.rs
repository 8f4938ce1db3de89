//! The daemon's API, asked from this process: no command is started, so that asking often costs little.

use std::{
    net::{IpAddr, SocketAddr},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tracker_model::{
    api::{Alerts, ApiError, Ports, States, Status},
    explain::{BindAnswer, ConnectAnswer, ListenAnswer},
    listener::Listeners,
};

use crate::http;

/// How long an answer may take before the daemon counts as gone.
const LIMIT: Duration = Duration::from_secs(5);
/// How long figures of a moment may be awaited: the daemon reads them each second.
const FRESH: Duration = Duration::from_secs(8);

/// The API at a socket.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
}

/// An answer, and how long it took.
#[derive(Clone, Debug)]
pub struct Timed<T> {
    /// The answer.
    pub answer: T,
    /// From the call of `connect()` to the last byte.
    pub took: Duration,
}

/// Local ports, and when they were counted.
#[derive(Clone, Debug)]
pub struct Counted {
    /// When the census began.
    pub begun: Timestamp,
    /// The answer, whose `taken_at` is when the census ended.
    pub ports: Ports,
}

impl Api {
    /// The API at this socket.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// `GET /v1/alerts`.
    pub fn alerts(&self) -> Result<Timed<Alerts>> {
        self.get("/v1/alerts")
    }

    /// `GET /v1/listeners`, with counters that were read after this call began.
    pub fn fresh_listeners(&self) -> Result<Listeners> {
        self.fresh("/v1/listeners", |answer: &Listeners| answer.taken_at)
    }

    /// `GET /v1/status`, with counters that were read after this call began.
    pub fn fresh_status(&self) -> Result<Status> {
        self.fresh("/v1/status", |answer: &Status| answer.taken_at)
    }

    /// `GET /v1/states`, with counters that were read after this call began.
    pub fn fresh_states(&self) -> Result<States> {
        self.fresh("/v1/states", |answer: &States| answer.taken_at)
    }

    /// `GET /v1/ports`, by a census that began after this call did.
    pub fn counted_ports(&self) -> Result<Ports> {
        let (start, now) = (Instant::now(), Timestamp::now());
        while self.census_begun()? < now {
            ensure!(start.elapsed() < FRESH, "no census within {FRESH:?}, although its figures were asked for");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(self.get("/v1/ports")?.answer)
    }

    /// `GET /v1/ports` with the time in which they were counted; none when another census came in between.
    pub fn timed_ports(&self) -> Result<Option<Counted>> {
        let begun = self.census_begun()?;
        let ports = self.get("/v1/ports")?.answer;
        Ok((self.census_begun()? == begun).then_some(Counted { begun, ports }))
    }

    fn census_begun(&self) -> Result<Timestamp> {
        let status: Status = self.get("/v1/status")?.answer;
        Ok(status.census.context("no census")?.taken_at)
    }

    /// `GET /v1/explain/connect`.
    pub fn explain_connect(&self, target: SocketAddr, source: Option<IpAddr>) -> Result<ConnectAnswer> {
        let source = source.map_or_else(String::new, |source| format!("&source={source}"));
        let (address, port) = (target.ip(), target.port());
        Ok(self.get(&format!("/v1/explain/connect?address={address}&port={port}{source}"))?.answer)
    }

    /// `GET /v1/explain/bind`, with more of the query behind address and port, such as `&protocol=udp`.
    pub fn explain_bind(&self, address: SocketAddr, more: &str) -> Result<BindAnswer> {
        let (address, port) = (address.ip(), address.port());
        Ok(self.get(&format!("/v1/explain/bind?address={address}&port={port}{more}"))?.answer)
    }

    /// `GET /v1/explain/listen`: watches a port for some seconds.
    pub fn explain_listen(&self, address: SocketAddr, seconds: u16) -> Result<ListenAnswer> {
        let path = format!("/v1/explain/listen?address={}&port={}&seconds={seconds}", address.ip(), address.port());
        let (status, body) = self.answer_within(&path, LIMIT + Duration::from_secs(seconds.into()))?;
        ensure!(status == 200, "GET {path}: {status}\n{body}");
        serde_json::from_str(&body).with_context(|| format!("{path} is not in the contract: {body}"))
    }

    /// What is refused: the status code, and the reason.
    pub fn refused(&self, path: &str) -> Result<(u16, String)> {
        let (status, body) = self.answer(path)?;
        ensure!(status != 200, "GET {path} is answered: {body}");
        let refusal: ApiError = serde_json::from_str(&body).with_context(|| format!("GET {path}: {status}: {body}"))?;
        Ok((status, refusal.error))
    }

    fn fresh<T: DeserializeOwned>(&self, path: &str, taken_at: impl Fn(&T) -> Timestamp) -> Result<T> {
        let (start, now) = (Instant::now(), Timestamp::now());
        loop {
            let answer = self.get(path)?.answer;
            if taken_at(&answer) > now {
                return Ok(answer);
            }
            ensure!(start.elapsed() < FRESH, "{path} has no new figures within {FRESH:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Timed<T>> {
        let start = Instant::now();
        let (status, body) = self.answer(path)?;
        let took = start.elapsed();
        ensure!(status == 200, "GET {path}: {status}\n{body}");
        let answer = serde_json::from_str(&body).with_context(|| format!("{path} is not in the contract: {body}"))?;
        Ok(Timed { answer, took })
    }

    /// Status code and body of any path.
    pub fn answer(&self, path: &str) -> Result<(u16, String)> {
        self.answer_within(path, LIMIT)
    }

    fn answer_within(&self, path: &str, limit: Duration) -> Result<(u16, String)> {
        let ask = || {
            let stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(limit))?;
            http::exchange(stream, path)
        };
        let answer = ask().with_context(|| format!("GET {path} on {}", self.socket.display()))?;
        Ok((answer.status, answer.body))
    }
}
