//! The local API: HTTP and JSON over a Unix socket, for the commands and for scripts. Here are its routes and its
//! socket. What it answers is made in `view`; types and paths of the answers belong to tracker-model.

mod error;
mod explain;
mod socket;

use std::sync::Arc;

use crate::view::{self, Daemon};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::get,
};
use jiff::Timestamp;
use serde::Serialize;
use tracker_model::{
    Snapshot,
    api::paths::{ALERTS, ALL, LISTENERS, PORTS, STATES, STATUS},
};

pub use socket::{ApiSocket, SocketError, SocketFile};

use crate::kernel::KernelHandle;

/// All paths of the API.
pub fn router(kernel: KernelHandle) -> Router {
    Router::new()
        .route(STATUS, get(status))
        .route(LISTENERS, get(listeners))
        .route(STATES, get(states))
        .route(ALERTS, get(alerts))
        .route(PORTS, get(ports))
        .merge(explain::router())
        .fallback(unknown)
        .with_state(kernel)
}

async fn status(State(kernel): State<KernelHandle>) -> Response {
    let daemon = Daemon { version: env!("CARGO_PKG_VERSION"), pid: std::process::id() };
    answer(&kernel, |snapshot| view::status(snapshot, daemon, Timestamp::now())).await
}

async fn listeners(State(kernel): State<KernelHandle>) -> Response {
    answer(&kernel, view::listeners).await
}

async fn states(State(kernel): State<KernelHandle>) -> Response {
    answer(&kernel, view::states).await
}

async fn ports(State(kernel): State<KernelHandle>) -> Response {
    answer(&kernel, |snapshot| snapshot.ports.clone()).await
}

/// Alerts are those of the newest snapshot, which the detector renews four times a second while there is something to
/// watch: asking for them costs nothing, even in a flood.
async fn alerts(State(kernel): State<KernelHandle>) -> Response {
    reply(kernel.snapshot(), view::alerts)
}

async fn unknown(uri: Uri) -> Response {
    let paths = ALL.join(", ");
    error::refuse(StatusCode::NOT_FOUND, format!("there is no {}; the paths are {paths}", uri.path()))
}

async fn answer<T: Serialize>(kernel: &KernelHandle, view: impl FnOnce(&Snapshot) -> T) -> Response {
    reply(kernel.refresh().await, view)
}

fn reply<T: Serialize>(snapshot: Option<Arc<Snapshot>>, view: impl FnOnce(&Snapshot) -> T) -> Response {
    match snapshot {
        Some(snapshot) => Json(view(&snapshot)).into_response(),
        None => error::starting(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{os::unix::net, path::Path, time::Duration};

    use futures_util::StreamExt as _;
    use nix::sys::socket::{Backlog, listen};
    use serde_json::Value;

    use super::*;
    use tracker_model::api::paths::{EXPLAIN_BIND, EXPLAIN_CONNECT};

    use crate::{client, kernel::SocketsFound};

    /// A socket that accepts nothing, and whose queue is full.
    pub(crate) fn full_listener(path: &Path) -> (net::UnixListener, net::UnixStream) {
        let listener = net::UnixListener::bind(path).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let first = net::UnixStream::connect(path).unwrap();
        (listener, first)
    }

    async fn ask(kernel: KernelHandle, path: &str) -> anyhow::Result<Value> {
        let directory = tempfile::tempdir()?;
        let socket = ApiSocket::bind(&directory.path().join("api.sock"))?;
        let (listener, _file) = socket.into_parts();
        let path_of_socket = directory.path().join("api.sock");
        tokio::spawn(axum::serve(listener, router(kernel)).into_future());
        client::get(&path_of_socket, path).await
    }

    fn sample() -> KernelHandle {
        let (sockets, settings) = (tracker_fixtures::sockets(), tracker_fixtures::port_settings());
        let found =
            SocketsFound { sockets, truncated: false, settings, is_local: true, no_way: None, ipv6_only: false };
        KernelHandle::fixed(Some(tracker_fixtures::snapshot()), Some(found))
    }

    #[tokio::test]
    async fn every_path_answers_with_one_object() {
        for path in ALL {
            let query = match path {
                EXPLAIN_BIND => "?address=0.0.0.0&port=80",
                EXPLAIN_CONNECT => "?address=198.51.100.7&port=443&source=192.0.2.10",
                _ => "",
            };
            let answer = ask(sample(), &format!("{path}{query}")).await.unwrap();
            assert!(answer.as_object().is_some_and(|fields| fields.len() > 1), "{path}: {answer}");
        }
        assert_eq!(ask(sample(), STATUS).await.unwrap()["taken_at"], "2027-01-15T08:00:00Z", "times are RFC 3339");
    }

    #[tokio::test]
    async fn a_daemon_that_starts_says_so() {
        let (starting, _ends) = KernelHandle::new();
        let error = ask(starting, STATUS).await.unwrap_err();
        assert_eq!(error.to_string(), "the daemon starts or stops; try again");
        let error = ask(KernelHandle::fixed(None, None), STATUS).await.unwrap_err();
        assert_eq!(error.to_string(), "the daemon starts or stops; try again");
    }

    #[tokio::test]
    async fn what_is_asked_in_the_wrong_way_is_told() {
        let asks = [
            (EXPLAIN_BIND, "", "missing field `address`"),
            (EXPLAIN_BIND, "address=here&port=80", "invalid IP address syntax"),
            (EXPLAIN_BIND, "address=::&port=80&reuseport=true", "unknown field `reuseport`"),
            (EXPLAIN_BIND, "address=::&port=80&protocol=sctp", "unknown variant `sctp`"),
            (
                EXPLAIN_CONNECT,
                "address=192.0.2.1&port=0",
                "connect() to port 0 reaches nothing; name the port of the service",
            ),
            (EXPLAIN_CONNECT, "address=192.0.2.1&port=80&source=::1", "must both be IPv4 or both IPv6"),
        ];
        for (path, query, expected) in asks {
            let error = ask(sample(), &format!("{path}?{query}")).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{query}: {error}");
        }
    }

    #[tokio::test]
    async fn those_who_ask_when_too_many_do_are_turned_away() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let (listener, _file) = ApiSocket::bind(&socket).unwrap().into_parts();
        // Its sockets are never found.
        let (stuck, ends) = KernelHandle::new();
        ends.snapshots.send_replace(Some(Arc::new(tracker_fixtures::snapshot())));
        tokio::spawn(axum::serve(listener, router(stuck)).into_future());
        let path = format!("{EXPLAIN_BIND}?address=0.0.0.0&port=80");
        let ask = || async {
            let stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
            let answer = client::exchange(stream, &path).await.unwrap();
            (answer.status(), String::from_utf8_lossy(answer.body()).into_owned())
        };
        let asks = futures_util::stream::iter((0..20).map(|_| ask()));
        let turned_away = asks.buffer_unordered(20).take(4).collect::<Vec<_>>();
        let expected = (StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"too many ask at once; try again"}"#.to_owned());
        assert_eq!(tokio::time::timeout(Duration::from_secs(5), turned_away).await.unwrap(), vec![expected; 4]);
    }

    #[tokio::test]
    async fn an_unknown_path_is_refused_with_those_there_are() {
        let error = ask(sample(), "/v1/nothing").await.unwrap_err();
        let paths = ALL.join(", ");
        assert_eq!(error.to_string(), format!("there is no /v1/nothing; the paths are {paths}"));
    }
}
