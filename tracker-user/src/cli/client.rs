//! Asks the daemon over its socket.

use std::{io::ErrorKind, path::Path, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::Refusal;

/// An answer takes milliseconds, and some more when the kernel is busy.
const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon's answer at `path`.
pub async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    let answer = tokio::time::timeout(PATIENCE, fetch(socket, path)).await;
    let (success, body) = answer.map_err(|_| {
        anyhow!("the daemon at {} did not answer within {} s; is it stuck?", socket.display(), PATIENCE.as_secs())
    })??;
    if !success {
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => bail!(refusal.error),
            Err(_) => bail!("the daemon refused: {}", String::from_utf8_lossy(&body)),
        }
    }
    serde_json::from_slice(&body)
        .context("the daemon's answer is not understood; it and this command should be of one version")
}

/// Whether it succeeded, and the body.
async fn fetch(socket: &Path, path: &str) -> Result<(bool, Bytes)> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let lost = || format!("the daemon at {} hung up", socket.display());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(lost)?;
    let request = Request::get(path).header("host", "tracker").body(Empty::<Bytes>::new())?;
    // The connection makes progress of its own; it ends when `sender` does.
    let connection = tokio::spawn(connection);
    let exchange = async {
        let answer = sender.send_request(request).await?;
        let success = answer.status().is_success();
        Ok::<_, hyper::Error>((success, answer.into_body().collect().await?.to_bytes()))
    };
    let answer = exchange.await.with_context(lost);
    connection.abort();
    answer
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_daemon_that_does_not_run_is_named_with_the_way_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let error = get::<()>(&path, "/").await.unwrap_err().to_string();
        let expected = "no such file; start it with `tracker run` or name its socket with --api.socket";
        assert_eq!(error, format!("cannot reach the daemon at {}: {expected}", path.display()));
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let error = get::<()>(&path, "/").await.unwrap_err().to_string();
        assert!(error.ends_with("nobody answers; start it with `tracker run`"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move { drop(listener.accept().await) });
        let error = get::<()>(&path, "/").await.unwrap_err();
        assert!(error.to_string().ends_with("hung up"), "{error:#}");
    }
}
