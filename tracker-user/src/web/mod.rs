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

use crate::{kernel::KernelHandle, metrics::Metrics};

/// The daemon is not ready when the newest snapshot is older than this.
const STALE_SECONDS: f64 = 10.0;

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
    match readiness(web.kernel.snapshot().as_deref(), Timestamp::now()) {
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
fn readiness(snapshot: Option<&Snapshot>, now: Timestamp) -> Result<(), String> {
    let Some(snapshot) = snapshot else {
        return Err("the daemon starts or stops".to_owned());
    };
    let age = now.duration_since(snapshot.taken_at).as_secs_f64();
    if age < STALE_SECONDS {
        Ok(())
    } else {
        Err(format!("the figures are {age:.0} s old: the daemon no longer reads the kernel's maps"))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::client;

    /// Status, content type and body.
    async fn ask(kernel: KernelHandle, path: &str) -> (u16, String, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(kernel.clone(), Metrics::new(kernel), "/metrics");
        tokio::spawn(axum::serve(listener, router).into_future());
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let answer = client::exchange(stream, path).await.unwrap();
        let kind = answer.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        (status, kind.unwrap_or_default(), String::from_utf8(answer.into_body().to_vec()).unwrap())
    }

    fn sample() -> KernelHandle {
        KernelHandle::fixed(Some(tracker_fixtures::snapshot()), None)
    }

    fn nothing() -> KernelHandle {
        KernelHandle::fixed(None, None)
    }

    #[tokio::test]
    async fn metrics_have_the_content_type_of_the_text_format() {
        let (status, kind, body) = ask(sample(), "/metrics").await;
        assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4"));
        assert!(body.contains("\ntracker_syns_total{target=\"listener\",family=\"ipv4\"} 100\n"), "{body}");
    }

    #[tokio::test]
    async fn before_the_first_snapshot_there_is_health_but_no_readiness() {
        assert_eq!(ask(nothing(), "/healthz").await.0, 200);
        let (status, _, body) = ask(nothing(), "/readyz").await;
        assert_eq!((status, body.as_str()), (503, "the daemon starts or stops\n"));
        let (status, _, body) = ask(nothing(), "/metrics").await;
        assert!(status == 200 && body.contains("tracker_build_info{") && !body.contains("tracker_syns_total"));
    }

    #[test]
    fn figures_must_be_fresh() {
        let snapshot = tracker_fixtures::snapshot();
        let after = |seconds| snapshot.taken_at + SignedDuration::from_secs(seconds);
        assert_eq!(readiness(Some(&snapshot), after(9)), Ok(()));
        assert!(readiness(Some(&snapshot), after(10)).unwrap_err().starts_with("the figures are 10 s old"));
    }

    #[tokio::test]
    async fn the_landing_page_links_to_everything() {
        for kernel in [sample(), nothing()] {
            let (status, kind, body) = ask(kernel, "/").await;
            assert_eq!((status, kind.as_str()), (200, "text/html; charset=utf-8"));
            for link in ["\"/metrics\"", "\"/healthz\"", "\"/readyz\""] {
                assert!(body.contains(link), "{link}");
            }
        }
    }

    #[tokio::test]
    async fn an_unknown_page_is_not_found() {
        assert_eq!(ask(sample(), "/nothing").await.0, 404);
    }
}
