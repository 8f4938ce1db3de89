//! Which way a connection would go.

use std::{
    io::{Error, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// The source address that the kernel would choose, unless one is named, in the namespace of the calling thread: a UDP
/// socket is connected, which sends nothing.
///
/// # Errors
/// When there is no way there.
pub fn source(destination: SocketAddr, source: Option<IpAddr>) -> std::io::Result<IpAddr> {
    let any: IpAddr = if destination.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((source.unwrap_or(any), 0))?;
    socket.connect(destination)?;
    Ok(socket.local_addr()?.ip())
}

/// Whether the answer of [`source`] says that there is no way, and not that it could not be asked for one, as when no
/// UDP port is free.
#[must_use]
pub fn is_unreachable(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::AddrNotAvailable
            | ErrorKind::InvalidInput
            | ErrorKind::PermissionDenied
    )
}
