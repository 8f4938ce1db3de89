//! The socket of the API: who has it, and what a command says of a daemon that does not answer.

use std::{
    fs,
    os::unix::{
        fs::MetadataExt as _,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    time::Duration,
};

use axum::body::{Body, Bytes};
use nix::sys::socket::{Backlog, listen};
use tracker_user::{
    api::{ApiSocket, SocketError},
    client::get,
};

/// A socket that accepts nothing, and whose queue is full.
fn full_listener(path: &Path) -> (UnixListener, UnixStream) {
    let listener = UnixListener::bind(path).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let first = UnixStream::connect(path).unwrap();
    (listener, first)
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/tracker/tracker.sock");
    let socket = ApiSocket::bind(&path).unwrap();
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o660);
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert!(!path.exists());
    assert!(path.parent().unwrap().is_dir());
}

#[tokio::test]
async fn a_file_that_a_dead_daemon_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the standard library leaves the file");
    let _socket = ApiSocket::bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn a_daemon_that_answers_keeps_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let first = ApiSocket::bind(&path).unwrap();
    let error = ApiSocket::bind(&path).unwrap_err();
    assert!(matches!(error, SocketError::Taken(_)), "{error}");
    assert!(path.exists());
    drop(first);
}

#[tokio::test]
async fn a_daemon_that_is_stopped_keeps_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let _full = full_listener(&path);
    let bound = tokio::task::spawn_blocking(move || ApiSocket::bind(&path).map(drop));
    let bound = tokio::time::timeout(Duration::from_secs(2), bound).await;
    assert!(matches!(bound, Ok(Ok(Err(SocketError::Taken(_))))), "{bound:?}");
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(ApiSocket::bind(&path), Err(SocketError::NoSocket(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn the_socket_of_a_successor_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let first = ApiSocket::bind(&path).unwrap();
    fs::rename(&path, directory.path().join("moved")).unwrap();
    let _second = ApiSocket::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
}

#[tokio::test]
async fn a_place_where_nothing_can_be_made_is_named_with_the_way_out() {
    let error = ApiSocket::bind(Path::new("/proc/nowhere/s")).unwrap_err().to_string();
    assert!(error.starts_with("cannot create /proc/nowhere: ") && error.contains("--api.socket"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_does_not_run_is_named_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let error = get::<()>(&path, "/").await.unwrap_err().to_string();
    let expected = "no such file; start it with `tracker run` or name its socket with --api.socket";
    assert_eq!(error, format!("cannot reach the daemon at {}: {expected}", path.display()));
    drop(UnixListener::bind(&path).unwrap());
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

#[tokio::test(start_paused = true)]
async fn a_daemon_that_accepts_nothing_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let _full = full_listener(&path);
    let error = get::<()>(&path, "/").await.unwrap_err().to_string();
    assert!(error.ends_with("accepts no connection within 3 s: too many wait; is it stuck?"), "{error}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let endless = axum::Router::new().fallback(async || {
        let chunk = Bytes::from(vec![b' '; 1 << 20]);
        Body::from_stream(futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone())))
    });
    tokio::spawn(axum::serve(listener, endless).into_future());
    let error = get::<()>(&path, "/").await.unwrap_err().to_string();
    assert!(error.ends_with("sent more than 64 MiB; is it tracker?"), "{error}");
}
