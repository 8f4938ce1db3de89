//! `GET /v1/explain/…`: would a call fail now, and why.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tracker_detect::explain::{BindRequest, explain_bind, explain_connect};
use tracker_model::{
    api::paths::{EXPLAIN_BIND, EXPLAIN_CONNECT},
    explain::Protocol,
};

use super::error::{self, refuse};
use crate::kernel::{KernelHandle, SocketsAsked, SocketsFound, route};

/// What is noted when not all sockets were looked at.
const TRUNCATED: &str =
    "there are more sockets on these ports than are looked at: what is said of them is a lower bound";

/// Most questions at once: each is a pass over all sockets, and the kernel side does them one after the other.
const MOST: usize = 16;

/// Parameters of `/v1/explain/connect`.
pub const CONNECT_PARAMETERS: [&str; 3] = ["address", "port", "source"];
/// Parameters of `/v1/explain/bind`.
pub const BIND_PARAMETERS: [&str; 7] =
    ["address", "port", "protocol", "reuse_address", "reuse_port", "ipv6_only", "uid"];

/// The paths of this file.
pub(super) fn router() -> Router<KernelHandle> {
    Router::new()
        .route(EXPLAIN_BIND, get(bind))
        .route(EXPLAIN_CONNECT, get(connect))
        .route_layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(MOST)), admit))
}

/// Turns away those beyond [`MOST`] at once.
async fn admit(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => error::busy(),
    }
}

/// Query of `/v1/explain/bind`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BindQuery {
    address: IpAddr,
    port: u16,
    #[serde(default = "tcp")]
    protocol: Protocol,
    #[serde(default)]
    reuse_address: bool,
    #[serde(default)]
    reuse_port: bool,
    ipv6_only: Option<bool>,
    #[serde(default)]
    uid: u32,
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

/// Query of `/v1/explain/connect`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConnectQuery {
    address: IpAddr,
    port: u16,
    source: Option<IpAddr>,
}

/// Answer to a query that cannot be read.
fn malformed(error: &QueryRejection, known: &[&str]) -> Response {
    let text = error.body_text();
    let what = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
    // For an unknown parameter the text names the known ones.
    let known =
        if what.contains("expected one of") { String::new() } else { format!("; parameters are {}", known.join(", ")) };
    refuse(StatusCode::BAD_REQUEST, format!("{what}{known}"))
}

/// Would `bind()` to this address and port fail?
async fn bind(State(kernel): State<KernelHandle>, query: Result<Query<BindQuery>, QueryRejection>) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return malformed(&error, &BIND_PARAMETERS),
    };
    let ports = (query.port != 0).then_some(query.port..=query.port);
    let found =
        match ask(&kernel, SocketsAsked { ports, destination: None, address: Some(query.address), source: None }).await
        {
            Ok(found) => found,
            Err(refusal) => return refusal,
        };
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
    Json(answer).into_response()
}

/// Would `connect()` to this address and port find a local port?
async fn connect(State(kernel): State<KernelHandle>, query: Result<Query<ConnectQuery>, QueryRejection>) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return malformed(&error, &CONNECT_PARAMETERS),
    };
    if query.port == 0 {
        return refuse(
            StatusCode::BAD_REQUEST,
            "connect() to port 0 reaches nothing; name the port of the service".to_owned(),
        );
    }
    let destination = SocketAddr::new(query.address.to_canonical(), query.port);
    // From the wildcard is from wherever the kernel chooses.
    let query = ConnectQuery { source: query.source.filter(|source| !source.is_unspecified()), ..query };
    if query.source.is_some_and(|source| source.to_canonical().is_ipv4() != destination.is_ipv4()) {
        return refuse(StatusCode::BAD_REQUEST, "source and destination must both be IPv4 or both IPv6".to_owned());
    }
    let no_way = |from: &str, error: &str| {
        let to = destination.ip();
        let error =
            format!("there is no way {from}to {to}: {error}; see `ip route get {to}`, or name another source address");
        refuse(StatusCode::UNPROCESSABLE_ENTITY, error)
    };
    let from = match query.source.map_or_else(|| route::source(destination, None), Ok) {
        Ok(from) => from.to_canonical(),
        Err(error) if route::is_no_way(&error) => return no_way("", &error.to_string()),
        Err(error) => {
            let error = format!("the kernel cannot be asked for the way: {error}; name the source address");
            return refuse(StatusCode::SERVICE_UNAVAILABLE, error);
        }
    };
    // connect() takes the unspecified address for the host itself (`ip_route_output_key_hash_rcu`).
    let destination = if destination.ip().is_unspecified() { SocketAddr::new(from, query.port) } else { destination };
    let asked = SocketsAsked { ports: None, destination: Some(destination), address: query.source, source: Some(from) };
    let found = match ask(&kernel, asked).await {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    if query.source.is_some() && !found.is_local {
        let error = format!("{from} is no address of this host; leave --source out, or name one of `ip address`");
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, error);
    }
    if let Some(error) = &found.no_way {
        return no_way(&format!("from {from} "), error);
    }
    let mut answer = explain_connect(from, destination, &found.sockets, &found.settings);
    if found.truncated {
        answer.notes.push(TRUNCATED.to_owned());
    }
    Json(answer).into_response()
}

async fn ask(kernel: &KernelHandle, asked: SocketsAsked) -> Result<SocketsFound, Response> {
    match kernel.sockets(asked).await {
        Some(Ok(found)) => Ok(found),
        Some(Err(error)) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        None => Err(error::starting()),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Uri;
    use serde::de::DeserializeOwned;

    use super::*;

    /// The parameters that a query names when it is asked for another.
    fn known<T: DeserializeOwned>() -> Vec<String> {
        let uri: Uri = "/?no_such=1".parse().unwrap();
        let error = Query::<T>::try_from_uri(&uri).err().map(|error| error.body_text()).unwrap();
        error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn the_parameters_are_those_of_the_queries() {
        assert_eq!(known::<ConnectQuery>(), CONNECT_PARAMETERS);
        assert_eq!(known::<BindQuery>(), BIND_PARAMETERS);
    }
}
