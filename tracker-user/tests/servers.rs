//! The API and the web server, asked over sockets.

use serde_json::Value;
use tracker_fixtures as sample;
use tracker_model::api::paths::{ALL, EXPLAIN_BIND, EXPLAIN_CONNECT, EXPLAIN_LISTEN, STATUS};
use tracker_user::{
    api::{self, ApiSocket},
    client,
    kernel::{KernelHandle, SocketsFound},
    metrics::Metrics,
    web,
};

fn fine() -> KernelHandle {
    let (sockets, settings) = (sample::sockets(), sample::port_settings());
    let found = SocketsFound { sockets, truncated: false, settings, is_local: true, no_route: None, ipv6_only: false };
    KernelHandle::fixed(Some(sample::snapshot()), Some(found))
}

fn starting() -> KernelHandle {
    KernelHandle::fixed(None, None)
}

/// The answer of the API.
async fn ask(kernel: KernelHandle, path: &str) -> anyhow::Result<Value> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("api.sock");
    let (listener, _file) = ApiSocket::bind(&socket)?.into_parts();
    tokio::spawn(axum::serve(listener, api::router(kernel)).into_future());
    client::get(&socket, path).await
}

/// Status, content type and body of a page of the web server.
async fn page(kernel: KernelHandle, path: &str) -> (u16, String, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = web::router(kernel.clone(), Metrics::new(kernel), "/metrics");
    tokio::spawn(axum::serve(listener, router).into_future());
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let answer = client::exchange(stream, path).await.unwrap();
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let status = answer.status().as_u16();
    (status, kind.unwrap_or_default(), String::from_utf8(answer.into_body().to_vec()).unwrap())
}

#[tokio::test]
async fn every_path_answers_with_one_object() {
    for path in ALL {
        let query = match path {
            EXPLAIN_BIND => "?address=0.0.0.0&port=80",
            EXPLAIN_LISTEN => "?address=0.0.0.0&port=80&seconds=1",
            EXPLAIN_CONNECT => "?address=198.51.100.7&port=443&source=192.0.2.10",
            _ => "",
        };
        let answer = ask(fine(), &format!("{path}{query}")).await.unwrap();
        assert!(answer.as_object().is_some_and(|fields| fields.len() > 1), "{path}: {answer}");
    }
    assert_eq!(ask(fine(), STATUS).await.unwrap()["taken_at"], "2027-01-15T08:00:00Z", "times are RFC 3339");
}

#[tokio::test]
async fn a_daemon_that_starts_says_so() {
    let (kernel, _ends) = KernelHandle::new();
    for kernel in [kernel, starting()] {
        let error = ask(kernel, STATUS).await.unwrap_err();
        assert_eq!(error.to_string(), "the daemon starts or stops; try again");
    }
}

#[tokio::test]
async fn what_is_asked_in_the_wrong_way_is_refused_with_what_would_be_right() {
    let missing = "missing field `address`; parameters are address, port, protocol, reuse_address, reuse_port, \
                   ipv6_only, uid";
    let asks = [
        (EXPLAIN_BIND, "", missing),
        (EXPLAIN_BIND, "address=here&port=80", "invalid IP address syntax"),
        (EXPLAIN_BIND, "address=::&port=80&reuseport=true", "unknown field `reuseport`"),
        (EXPLAIN_BIND, "address=::&port=80&protocol=sctp", "unknown variant `sctp`"),
        (EXPLAIN_CONNECT, "port=80", "missing field `address`; parameters are address, port, source"),
        (EXPLAIN_CONNECT, "address=192.0.2.1&port=0", "connect() to port 0 reaches nothing; name the port"),
        (EXPLAIN_CONNECT, "address=192.0.2.1&port=80&source=::1", "must both be IPv4 or both IPv6"),
        ("/v1/nothing", "", "there is no /v1/nothing; the paths are /v1/status, "),
    ];
    for (path, query, expected) in asks {
        let error = ask(fine(), &format!("{path}?{query}")).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{query}: {error}");
    }
}

#[tokio::test]
async fn metrics_have_the_content_type_of_the_text_format() {
    let (status, kind, body) = page(fine(), "/metrics").await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4"));
    assert!(body.contains("\ntracker_syns_total{target=\"listener\",family=\"ipv4\"} 100\n"), "{body}");
}

#[tokio::test]
async fn before_the_first_snapshot_there_is_health_but_no_readiness() {
    assert_eq!(page(starting(), "/healthz").await.0, 200);
    let (status, _, body) = page(starting(), "/readyz").await;
    assert_eq!((status, body.as_str()), (503, "the daemon starts or stops\n"));
    let (status, _, body) = page(starting(), "/metrics").await;
    assert!(status == 200 && body.contains("tracker_build_info{") && !body.contains("tracker_syns_total"));
}

#[tokio::test]
async fn the_landing_page_links_to_everything_and_an_unknown_page_is_not_found() {
    for kernel in [fine(), starting()] {
        let (status, kind, body) = page(kernel.clone(), "/").await;
        assert_eq!((status, kind.as_str()), (200, "text/html; charset=utf-8"));
        for link in ["\"/metrics\"", "\"/healthz\"", "\"/readyz\""] {
            assert!(body.contains(link), "{link}");
        }
        assert_eq!(page(kernel, "/nothing").await.0, 404);
    }
}
