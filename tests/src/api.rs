//! The daemon's API, asked from this process: no command is started, so that asking often costs little.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tracker_model::api::{Alerts, Listeners, States, Status};

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
        let bytes = self.exchange(path).with_context(|| format!("GET {path} on {}", self.socket.display()))?;
        let took = start.elapsed();
        let text = String::from_utf8(bytes)?;
        let (head, body) = text.split_once("\r\n\r\n").context("an answer without end of headers")?;
        ensure!(head.split(' ').nth(1) == Some("200"), "GET {path}: {head}\n{body}");
        let answer = serde_json::from_str(body).with_context(|| format!("{path} is not in the contract: {body}"))?;
        Ok(Timed { answer, took })
    }

    fn exchange(&self, path: &str) -> Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(LIMIT))?;
        // HTTP/1.0: the answer ends where the connection does.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}
