//! Asks the daemon over its socket.

use std::{error::Error, io::ErrorKind, path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{Request, Response, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    task::JoinSet,
};

use tracker_model::api::ApiError;

/// An answer takes milliseconds, and some more when the kernel is busy.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the daemon may take to accept the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(20);
/// Largest answer that is read, bytes: some thousand times the usual one.
const MAX_ANSWER: usize = 64 << 20;

/// The daemon's answer at `path`.
pub async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    get_after(socket, path, Duration::ZERO).await
}

/// The daemon's answer at `path`, which takes this long besides what is usual.
pub async fn get_after<T: DeserializeOwned>(socket: &Path, path: &str, takes: Duration) -> Result<T> {
    let name = format!("the daemon at {}", socket.display());
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(socket)).await;
    let stream = connected.map_err(|_| {
        anyhow!("{name} accepts no connection within {} s: too many wait; is it stuck?", CONNECT_TIMEOUT.as_secs())
    })??;
    let patience = ANSWER_TIMEOUT + takes;
    let answer = tokio::time::timeout(patience, exchange(stream, path)).await;
    let answer = answer
        .map_err(|_| anyhow!("{name} did not answer within {} s; is it stuck?", patience.as_secs()))?
        .map_err(|error| match error.downcast::<LengthLimitError>() {
            Ok(_) => anyhow!("{name} sent more than {} MiB; is it tracker?", MAX_ANSWER >> 20),
            Err(error) => anyhow!(error).context(format!("{name} hung up")),
        })?;
    let body = answer.body();
    if !answer.status().is_success() {
        match serde_json::from_slice::<ApiError>(body) {
            Ok(refusal) => bail!(refusal.error),
            Err(_) => bail!("the daemon refused: {}", String::from_utf8_lossy(body)),
        }
    }
    serde_json::from_slice(body)
        .context("the daemon's answer is not understood; it and this command should be of one version")
}

/// Connects. The queue of a daemon that is stopped fills up: then `connect()` would wait for ever.
async fn connect(socket: &Path) -> Result<UnixStream> {
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == ErrorKind::WouldBlock => tokio::time::sleep(RETRY).await,
            connected => return connected.map_err(|error| unreachable(socket, &error)),
        }
    }
}

/// Asks for `path` over a connection, and reads the whole answer.
pub async fn exchange<S>(stream: S, path: &str) -> Result<Response<Bytes>, Box<dyn Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path).header("host", "tracker").body(Empty::<Bytes>::new())?;
    // The connection makes progress of its own; it ends when this set does.
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    Ok(Response::from_parts(head, Limited::new(body, MAX_ANSWER).collect().await?.to_bytes()))
}

fn unreachable(socket: &Path, error: &std::io::Error) -> anyhow::Error {
    let why = match error.kind() {
        ErrorKind::NotFound => "no such file; start it with `tracker run` or name its socket with --api.socket",
        ErrorKind::ConnectionRefused => "nobody answers; start it with `tracker run`",
        ErrorKind::PermissionDenied => "permission denied; run as root or join the group `tracker`",
        _ => return anyhow!("cannot reach the daemon at {}: {error}", socket.display()),
    };
    anyhow!("cannot reach the daemon at {}: {why}", socket.display())
}
