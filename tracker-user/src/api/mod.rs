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
    answer(&kernel, |snapshot| view::status(snapshot, daemon, view::now(snapshot))).await
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
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt as _;

    use tracker_model::api::paths::EXPLAIN_BIND;

    use super::*;
    use crate::client;

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
}
