//! The server of metrics and API beside clients that do not finish, do not read, or are too many.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, routing::get};
use nix::errno::Errno;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    time::Instant,
};
use tracker_user::{
    client, descriptors,
    serve::{BUFFER, Listen, PHASE_LIMIT, serve},
};

/// More than the buffers of two sockets take.
const LARGE: usize = 8 << 20;
const MAX_CONNECTIONS: usize = 64;
/// A client gives up after this time.
const TIMEOUT: Duration = Duration::from_secs(5);

struct Server {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
    stop: watch::Sender<bool>,
}

async fn start(router: Router, most: usize) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), watch::Sender::new(false));
    Server { address, task: tokio::spawn(serve(listener, router, most, stop.subscribe())), stop }
}

fn router() -> Router {
    Router::new().route("/metrics", get(async || "up 1\n")).route("/large", get(async || vec![b' '; LARGE]))
}

impl Server {
    /// A client that sends these bytes.
    async fn client(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    async fn scrape(&self) -> String {
        let answer = async {
            let stream = TcpStream::connect(self.address).await.unwrap();
            client::exchange(stream, "/metrics").await.unwrap()
        };
        let answer = tokio::time::timeout(TIMEOUT, answer).await.expect("no answer in time");
        String::from_utf8(answer.body().to_vec()).unwrap()
    }
}

/// How many of the connections the server still holds.
async fn held(clients: &mut [TcpStream]) -> usize {
    let mut held = 0;
    for client in clients {
        held += usize::from(tokio::time::timeout(Duration::from_millis(1), client.read(&mut [0])).await.is_err());
    }
    held
}

#[tokio::test]
async fn a_scrape_is_answered_beside_1_200_half_sent_requests() {
    assert!(descriptors::raise_limit() > 1_400, "each client is a descriptor of this process");
    let server = start(router(), MAX_CONNECTIONS).await;
    let mut clients = Vec::new();
    for _ in 0..1_200 {
        clients.push(server.client(b"GET /metrics HTTP/1.1\r\nHost: x\r\n").await);
    }
    let begun = Instant::now();
    assert_eq!(server.scrape().await, "up 1\n");
    let took = begun.elapsed();
    let held = held(&mut clients).await;
    println!("scrape beside {} half-sent requests: {took:?}, {held} of them held", clients.len());
    assert!(held < MAX_CONNECTIONS, "{held} connections are held");
}

#[tokio::test]
async fn a_scrape_is_answered_beside_clients_that_read_nothing() {
    let server = start(router(), 8).await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(server.client(&b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20)).await);
    }
    assert_eq!(server.scrape().await, "up 1\n");
}

/// A socket whose calls of `accept()` find no free descriptor from the third to the twentieth.
struct Scarce {
    listener: TcpListener,
    calls: AtomicUsize,
}

impl Listen for Scarce {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        if (2..20).contains(&self.calls.fetch_add(1, Ordering::Relaxed)) {
            return Err(Errno::EMFILE.into());
        }
        Ok(self.listener.accept().await?.0)
    }
}

#[tokio::test]
async fn without_a_free_descriptor_a_client_that_waits_makes_room() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), watch::Sender::new(false));
    let scarce = Scarce { listener, calls: AtomicUsize::new(0) };
    let server =
        Server { address, task: tokio::spawn(serve(scarce, router(), MAX_CONNECTIONS, stop.subscribe())), stop };
    let mut first = server.client(b"GET /metrics HTTP/1.1\r\n").await;
    let _second = server.client(b"GET /metrics HTTP/1.1\r\n").await;
    let closed = tokio::time::timeout(TIMEOUT, first.read(&mut [0])).await.expect("the oldest is closed");
    assert_eq!(closed.unwrap_or_default(), 0);
    assert_eq!(server.scrape().await, "up 1\n");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_not_finished_is_given_up() {
    let server = start(router(), MAX_CONNECTIONS).await;
    let begun = Instant::now();
    let mut half_sent = server.client(b"GET /metrics HTTP/1.1\r\n").await;
    assert_eq!(half_sent.read(&mut [0]).await.unwrap_or_default(), 0, "nothing is answered");
    assert!(begun.elapsed() >= PHASE_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_read_is_given_up() {
    let server = start(router(), MAX_CONNECTIONS).await;
    let mut client = server.client(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_exact(&mut [0]).await.unwrap();
    tokio::time::sleep(PHASE_LIMIT * 2).await;
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer).await;
    assert!(answer.len() < LARGE, "all of it was sent");
}

#[tokio::test]
async fn a_request_larger_than_the_buffer_is_refused() {
    let server = start(router(), MAX_CONNECTIONS).await;
    let head = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n", "x".repeat(BUFFER * 2));
    let mut answer = String::new();
    let _ = server.client(head.as_bytes()).await.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
}

#[tokio::test]
async fn requests_behind_an_answer_that_is_not_read_wait_outside() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let large = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready(vec![b' '; LARGE])
    };
    let server = start(Router::new().route("/large", get(large)), MAX_CONNECTIONS).await;
    let _client = server.client(&b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let calls = calls.load(Ordering::Relaxed);
    assert!((1..=2).contains(&calls), "{calls} answers are in memory");
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let server = start(router(), MAX_CONNECTIONS).await;
    let mut client = server.client(&b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2)).await;
    let mut answers = String::new();
    while answers.matches("up 1\n").count() < 2 {
        let mut bytes = [0; 1_024];
        let count = tokio::time::timeout(TIMEOUT, client.read(&mut bytes)).await.unwrap().unwrap();
        assert!(count > 0, "closed after {answers:?}");
        answers += std::str::from_utf8(&bytes[..count]).unwrap();
    }
}

#[tokio::test]
async fn a_stop_lets_an_answer_under_way_be_finished_and_waits_for_no_request() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, go) = (begun.clone(), go.clone());
        async move || {
            begun.notify_one();
            go.notified().await;
            "done"
        }
    };
    let server = start(Router::new().route("/", get(handler)), MAX_CONNECTIONS).await;
    let mut half_sent = server.client(b"GET /").await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let asked = tokio::spawn(async move { client::exchange(stream, "/").await.unwrap() });
    begun.notified().await;
    server.stop.send_replace(true);
    assert_eq!(half_sent.read(&mut [0]).await.unwrap_or_default(), 0);
    assert!(!server.task.is_finished(), "an answer is under way");
    go.notify_one();
    assert_eq!(asked.await.unwrap().body(), "done");
    tokio::time::timeout(TIMEOUT, server.task).await.unwrap().unwrap();
}
