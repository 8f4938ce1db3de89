//! The peer's own side: sockets.

use std::{io, net::SocketAddr, time::Duration};

use nix::{
    errno::Errno,
    setsockopt_impl, sockopt_impl,
    sys::socket::{setsockopt, sockopt},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::protocol::Options;

/// How long `accept()` and `connect()` may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// `include/uapi/linux/in.h`; libc does not have it.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

sockopt_impl!(
    /// The lowest port in the lower half, the highest in the upper one.
    LocalPortRange,
    SetOnly,
    libc::IPPROTO_IP,
    IP_LOCAL_PORT_RANGE,
    u32
);

/// Makes a socket.
pub(super) fn open(options: &Options) -> io::Result<Socket> {
    let domain = if options.ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let protocol = options.multipath.then_some(Protocol::MPTCP);
    let socket = Socket::new(domain, if options.udp { Type::DGRAM } else { Type::STREAM }, protocol)?;
    if options.ipv6 {
        socket.set_only_v6(options.ipv6_only)?;
    }
    socket.set_reuse_address(options.reuse_address)?;
    socket.set_reuse_port(options.reuse_port)?;
    if options.without_port {
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
    }
    if let Some((low, high)) = options.range {
        setsockopt(&socket, LocalPortRange, &(u32::from(low) | u32::from(high) << 16))?;
    }
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.set_nonblocking(options.nonblocking)?;
    Ok(socket)
}

/// Connects, or begins to where the socket does not wait.
pub(super) fn connect(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) && socket.nonblocking()? => Ok(()),
        result => result,
    }
}

/// Name of an error.
pub(super) fn name_of(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| format!("{:?}", Errno::from_raw(number)))
}
