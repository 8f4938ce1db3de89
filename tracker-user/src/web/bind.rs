//! The addresses of the web server.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use tokio::net::TcpListener;

use crate::descriptors;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {}", hint(source))]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    if let Some(hint) = descriptors::hint(error) {
        return hint;
    }
    match error.kind() {
        ErrorKind::AddrInUse => "stop what listens there, or choose another with --web.listen-address",
        ErrorKind::AddrNotAvailable => "choose an address of this host with --web.listen-address",
        ErrorKind::PermissionDenied => "run as root, or choose a port above 1023 with --web.listen-address",
        _ => "choose another with --web.listen-address",
    }
}

/// Listens on each address.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        listeners.push(TcpListener::bind(address).await.map_err(|source| BindError { address, source })?);
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_the_way_out() {
        let first = bind(&["127.0.0.1:0".parse().unwrap()]).await.unwrap();
        let address = first[0].local_addr().unwrap();
        let error = bind(&[address]).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
        assert!(error.ends_with("stop what listens there, or choose another with --web.listen-address"), "{error}");
    }

    #[tokio::test]
    async fn an_address_of_another_host_is_named_with_the_way_out() {
        let error = bind(&["192.0.2.1:0".parse().unwrap()]).await.unwrap_err().to_string();
        assert!(error.ends_with("choose an address of this host with --web.listen-address"), "{error}");
    }
}
