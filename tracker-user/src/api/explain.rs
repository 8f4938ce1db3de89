//! `GET /v1/explain/…`: would a call fail now, or why does nobody connect.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use schemars::JsonSchema;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;
use tracker_detect::explain::{BindRequest, explain_bind, explain_connect, explain_listen};
use tracker_model::{
    api::paths::{EXPLAIN_BIND, EXPLAIN_CONNECT, EXPLAIN_LISTEN},
    explain::{BindAnswer, BindQuery, ConnectAnswer, ConnectQuery, ListenAnswer, ListenQuery},
};

use super::error::{self, refuse};
use crate::kernel::{KernelError, KernelHandle, ListenAsked, SocketsAsked, SocketsFound, route};

/// What is noted when not all sockets were looked at.
const TRUNCATED: &str =
    "there are more sockets on these ports than are looked at: what is said of them is a lower bound";

/// Most questions at once: each is a pass over all sockets, and the kernel side does them one after the other.
const MAX_QUESTIONS: usize = 16;

/// The paths of this file.
pub(super) fn router() -> Router<KernelHandle> {
    Router::new()
        .route(EXPLAIN_BIND, get(bind))
        .route(EXPLAIN_CONNECT, get(connect))
        .route(EXPLAIN_LISTEN, get(listen))
        .route_layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(MAX_QUESTIONS)), admit))
}

/// Turns away those beyond [`MAX_QUESTIONS`] at once.
async fn admit(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => error::busy(),
    }
}

type Asked<T> = Result<Query<T>, QueryRejection>;

/// Answer to a query that cannot be read.
fn malformed<T: JsonSchema>(error: &QueryRejection) -> Response {
    let text = error.body_text();
    let what = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
    // For an unknown parameter the text names the known ones.
    if what.contains("expected one of") {
        return refuse(StatusCode::BAD_REQUEST, what.to_owned());
    }
    let schema = schemars::schema_for!(T);
    let known = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned();
    refuse(StatusCode::BAD_REQUEST, format!("{what}; parameters are {}", known.collect::<Vec<_>>().join(", ")))
}

/// Would `bind()` to this address and port fail?
async fn bind(State(kernel): State<KernelHandle>, query: Asked<BindQuery>) -> Result<Json<BindAnswer>, Response> {
    let Query(query) = query.map_err(|error| malformed::<BindQuery>(&error))?;
    let ports = (query.port != 0).then_some(query.port..=query.port);
    let asked = SocketsAsked { ports, destination: None, address: Some(query.address), source: None };
    let found = ask(&kernel, asked).await?;
    let request = BindRequest {
        ipv6: query.address.is_ipv6(),
        ipv6_only: query.ipv6_only.unwrap_or(found.ipv6_only),
        reuse_address: query.reuse_address,
        reuse_port: query.reuse_port,
        uid: query.uid,
        privileged: query.uid == 0,
        ..BindRequest::new(query.protocol, query.address.to_canonical(), query.port)
    };
    let mut answer = explain_bind(&request, &found.sockets, &found.settings, found.is_local);
    if found.truncated {
        answer.notes.push(TRUNCATED.to_owned());
    }
    Ok(Json(answer))
}

/// Would `connect()` to this address and port find a local port?
async fn connect(
    State(kernel): State<KernelHandle>,
    query: Asked<ConnectQuery>,
) -> Result<Json<ConnectAnswer>, Response> {
    let Query(query) = query.map_err(|error| malformed::<ConnectQuery>(&error))?;
    // From the wildcard is from wherever the kernel chooses.
    let source = query.source.filter(|source| !source.is_unspecified());
    let destination = SocketAddr::new(query.address.to_canonical(), query.port);
    let from = way(destination, source).map_err(|(status, error)| refuse(status, error))?;
    // connect() takes the unspecified address for the host itself (`ip_route_output_key_hash_rcu`).
    let destination = if destination.ip().is_unspecified() { SocketAddr::new(from, query.port) } else { destination };
    let asked = SocketsAsked { ports: None, destination: Some(destination), address: source, source: Some(from) };
    let found = ask(&kernel, asked).await?;
    if source.is_some() && !found.is_local {
        let error = format!("{from} is no address of this host; leave --source out, or name one of `ip address`");
        return Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, error));
    }
    if let Some(error) = &found.no_route {
        let (status, error) = no_route(&format!("from {from} "), destination, error);
        return Err(refuse(status, error));
    }
    let mut answer = explain_connect(from, destination, &found.sockets, &found.settings);
    if found.truncated {
        answer.notes.push(TRUNCATED.to_owned());
    }
    Ok(Json(answer))
}

/// Why does nobody connect to this address and port? The answer comes when the port was watched for the time asked.
async fn listen(State(kernel): State<KernelHandle>, query: Asked<ListenQuery>) -> Result<Json<ListenAnswer>, Response> {
    let Query(ListenQuery { address, port, seconds }) = query.map_err(|error| malformed::<ListenQuery>(&error))?;
    let refusal = if port == 0 {
        Some("nobody connects to port 0; name the port of the service".to_owned())
    } else if !ListenQuery::SECONDS.contains(&seconds) {
        let (least, most) = (ListenQuery::SECONDS.start(), ListenQuery::SECONDS.end());
        Some(format!("a port is watched for {least} to {most} seconds, not {seconds}"))
    } else {
        None
    };
    if let Some(refusal) = refusal {
        return Err(refuse(StatusCode::BAD_REQUEST, refusal));
    }
    let address = address.to_canonical();
    let asked = ListenAsked { address, port, lasts: Duration::from_secs(seconds.into()) };
    match kernel.watch(asked).await {
        Some(Ok(seen)) => Ok(Json(explain_listen(address, port, &seen))),
        Some(Err(error @ KernelError::TooManyWatches)) => {
            Err(refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
        }
        Some(Err(error)) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        None => Err(error::starting()),
    }
}

/// The address that a connection would come from; or with which status and why there is none.
fn way(destination: SocketAddr, source: Option<IpAddr>) -> Result<IpAddr, (StatusCode, String)> {
    if destination.port() == 0 {
        let error = "connect() to port 0 reaches nothing; name the port of the service";
        return Err((StatusCode::BAD_REQUEST, error.to_owned()));
    }
    if source.is_some_and(|source| source.to_canonical().is_ipv4() != destination.is_ipv4()) {
        let error = "source and destination must both be IPv4 or both IPv6";
        return Err((StatusCode::BAD_REQUEST, error.to_owned()));
    }
    match source.map_or_else(|| route::source(destination, None), Ok) {
        Ok(from) => Ok(from.to_canonical()),
        Err(error) if route::is_unreachable(&error) => Err(no_route("", destination, &error.to_string())),
        Err(error) => {
            let error = format!("the kernel cannot be asked for the way: {error}; name the source address");
            Err((StatusCode::SERVICE_UNAVAILABLE, error))
        }
    }
}

/// There is no route.
fn no_route(from: &str, destination: SocketAddr, error: &str) -> (StatusCode, String) {
    let to = destination.ip();
    let advice = format!("see `ip route get {to}`, or name another source address");
    (StatusCode::UNPROCESSABLE_ENTITY, format!("there is no way {from}to {to}: {error}; {advice}"))
}

async fn ask(kernel: &KernelHandle, asked: SocketsAsked) -> Result<SocketsFound, Response> {
    match kernel.sockets(asked).await {
        Some(Ok(found)) => Ok(found),
        Some(Err(error)) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        None => Err(error::starting()),
    }
}
