//! The web server: metrics, health checks, and a page for people. What is in the metrics belongs to `metrics`.

mod bind;
mod landing;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{Html, IntoResponse as _, Response},
    routing::get,
};
use jiff::Timestamp;
use tracker_model::Snapshot;

pub use bind::{BindError, bind};

use crate::{kernel::KernelHandle, metrics::Metrics, view};

struct Web {
    kernel: KernelHandle,
    metrics: Metrics,
    telemetry_path: String,
}

/// All paths of the web server.
pub fn router(kernel: KernelHandle, metrics: Metrics, telemetry_path: &str) -> Router {
    let web = Web { kernel, metrics, telemetry_path: telemetry_path.to_owned() };
    Router::new()
        .route("/", get(landing_page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route(telemetry_path, get(metrics_text))
        .with_state(Arc::new(web))
}

async fn landing_page(State(web): State<Arc<Web>>) -> Html<String> {
    Html(landing::page(web.kernel.snapshot().as_deref(), &web.telemetry_path))
}

async fn ready(State(web): State<Arc<Web>>) -> Response {
    match readiness(web.kernel.snapshot().as_deref(), view::now) {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics_text(State(web): State<Arc<Web>>) -> Response {
    match web.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Whether the figures are there and fresh; else why not.
fn readiness(snapshot: Option<&Snapshot>, now: impl FnOnce(&Snapshot) -> Timestamp) -> Result<(), String> {
    let snapshot = snapshot.ok_or("the daemon starts or stops")?;
    view::stale(snapshot, now(snapshot)).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn figures_must_be_fresh() {
        let snapshot = tracker_fixtures::snapshot();
        let after = |seconds| move |snapshot: &Snapshot| snapshot.taken_at + SignedDuration::from_secs(seconds);
        assert_eq!(readiness(Some(&snapshot), after(9)), Ok(()));
        assert!(readiness(Some(&snapshot), after(10)).unwrap_err().starts_with("the figures are 10 s old"));
    }
}
